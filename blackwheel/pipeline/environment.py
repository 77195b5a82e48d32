"""Installs the hashed pins and wheels of a session, and names each refusal of uv."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from blackwheel.core import recorded
from blackwheel.core.addresses import index_cure, shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import capture
from blackwheel.core.site import Site
from blackwheel.pytorch.installed import PATH_FILE

_LINES: Final = 12
_AWAY: Final = re.compile(
    r"error sending request|failed to fetch|client error|connection|timed out|dns error"
    r"|status code|\(5\d\d|\(429|network connectivity",
    re.IGNORECASE,
)


def sync(site: Site, environment: Path, locks: Sequence[str], wheels: Sequence[str] = ()) -> None:
    """Make an environment hold exactly the pins of these locks, and then these wheels.

    Its files are then compared with the RECORD of each package. Raises `changed-package`,
    `wrong-sha256`, `no-answer`, `disk-full`, `program-killed` and `environment-refused`.
    """
    pip, python = [str(site.uv), "pip"], ["--python", str(environment / "bin" / "python")]
    _run(site, [*pip, "sync", "--quiet", "--require-hashes", *python, *locks], locks)
    if wheels:
        _run(site, [*pip, "install", "--quiet", "--no-deps", *python, *wheels], wheels)
    recorded.require_as_recorded(environment, site.store, own=(PATH_FILE,))


def _run(site: Site, argv: Sequence[str], given: Sequence[str]) -> None:
    environment = {**site.environment, "NO_COLOR": "1"}
    done = capture(argv, environment=environment, cwd=site.checkout, check=False)
    if done.code:
        raise refused(done.code, done.stderr or done.stdout, where=", ".join(given))


def refused(code: int, said: str, *, where: str) -> BlackwheelError:
    """Return the error of a refusal of uv, by its cause."""
    lines = [line.strip() for line in shown(said).splitlines() if line.strip()]
    fact, words = "\n".join(lines[-_LINES:]) or f"uv ended with {code} and no word", " ".join(lines)
    if "hash mismatch" in words.lower():
        name, kind = "wrong-sha256", Exit.SOURCE
        fix = "find out who changed the file before you change the pin (nox -s lock)"
    elif re.search("no space left|quota exceeded", words, re.IGNORECASE):
        name, kind = "disk-full", Exit.MACHINE
        fix = "free space at the store and at uv's cache (UV_CACHE_DIR): invoke clean"
    elif code > 128:
        name, kind = "program-killed", Exit.MACHINE
        fix = (
            "the same command again; killed for want of memory, if `invoke explain` knows the line"
        )
    elif _AWAY.search(words):
        name, kind = "no-answer", Exit.AWAY
        fix = index_cure(words)
    else:
        name, kind = "environment-refused", Exit.CONFIG
        fix = "correct the lock file (nox -s lock), or what uv names above"
    return BlackwheelError(name, fact, where=where, fix=fix, code=kind)
