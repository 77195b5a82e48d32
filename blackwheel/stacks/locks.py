"""Reads the hashed pins of an environment: the one reader of lock files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import bounded

MOST_BYTES: Final = 8 << 20
"""The longest has 5,000 lines and 0.4 MB."""

_PIN: Final = re.compile(
    r"^(([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?(==| @ )([^\s;\\]+))(?:.*\\\n)*.*\n?", re.MULTILINE
)
_DIGEST: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedPin:
    """One pin of a lock file."""

    name: str
    """Canonical."""
    version: str
    """Empty of a file that is taken by its address."""
    words: str
    """`name==version`, or `name @ address`."""
    text: str
    """The lines of the pin with its hashes, as they are."""

    @property
    def sha256(self) -> frozenset[str]:
        """Digests of the files that it accepts."""
        return frozenset(_DIGEST.findall(self.text))


def pins(text: str) -> tuple[LockedPin, ...]:
    """Return the pins of a lock file's text, in its order."""
    return tuple(
        LockedPin(
            name=canonicalize_name(one[2]),
            version=one[4] if one[3] == "==" else "",
            words=one[1],
            text=one[0],
        )
        for one in _PIN.finditer(text)
    )


def lock_text(path: Path) -> str:
    """Return the text of a lock file; raise `no-lock-file` or `bad-lock-file`."""
    try:
        return bounded(path, MOST_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise BlackwheelError(
            "no-lock-file",
            "there are no hashed pins of this environment",
            where=_place(path),
            fix="nox -s lock",
            code=Exit.CONFIG,
        ) from None
    except UnicodeDecodeError as error:
        raise _bad(path, f"it is no text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise _bad(path, f"it cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _bad(path, str(error)) from None


def _bad(path: Path, fact: str) -> BlackwheelError:
    return BlackwheelError(
        "bad-lock-file",
        f"these hashed pins are no lock file: {fact}",
        where=_place(path),
        fix="git checkout of the file, or: nox -s lock",
        code=Exit.CONFIG,
    )


def _place(path: Path) -> str:
    return f"constraints/{path.parent.name}/{path.name}"
