"""Finds which hosts an offline build tried to reach, and names them in the error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from blackwheel.core.errors import BlackwheelError, Exit

_SAID: Final = re.compile(
    r"(?:could not resolve host: |unable to access '\w+://(?:[^/'@]*@)?)([\w.-]+)", re.IGNORECASE
)
"""What git and curl say, with and without a proxy that answers them."""


def hosts(noted: Path, log: Sequence[str]) -> tuple[str, ...]:
    """Return the hosts that a build tried to reach, once each: from its notes and its log."""
    lines = noted.read_text(encoding="utf-8").split() if noted.is_file() else []
    lines += [found[1] for line in log for found in _SAID.finditer(line)]
    return tuple(dict.fromkeys(line.removesuffix(":443") for line in lines))


def refused(what: str, asked: Sequence[str], words: str, *, log: Path) -> BlackwheelError:
    """Return the error of a build that failed after it tried to reach these hosts."""
    return BlackwheelError(
        "network-attempted",
        f"{what} asked for {', '.join(asked)}, and a build has no network\n{words}",
        where=str(log),
        fix="pin what it fetches as a nested source, and name its folder in the project's"
        " variables",
        code=Exit.BUILD,
    )
