"""Installs the hashed pins and wheels of a session, and names each refusal of uv."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from blackwheel.core import recorded
from blackwheel.core.addresses import index_cure, shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import run
from blackwheel.core.progress import Stage
from blackwheel.core.site import Site
from blackwheel.core.units import size
from blackwheel.pipeline import own_faults
from blackwheel.pytorch.installed import PATH_FILE

_LINES: Final = 12
_UNDER_WAY: Final = "blackwheel-under-way"
"""In an environment, from the begin of an install to its end."""
_AWAY: Final = re.compile(
    r"error sending request|failed to fetch|client error|connection|timed out|dns error"
    r"|status code|\(5\d\d|\(429|network connectivity",
    re.IGNORECASE,
)


_BEGUN: Final = re.compile(r"^\s*Downloading (\S+) \(([\d.]+)([KMG]?i?B)\)$")
_ENDED: Final = re.compile(r"^\s*Downloaded (\S+)$")
_INSTALLED: Final = re.compile(r"^Installed (\d+) packages? in ")
_UNITS: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Downloads:
    """Reads the downloads out of uv's lines, and shows files, size, and those under way.

    uv names a file when it begins and when it has it; nothing tells how far a file is.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._began = time.monotonic()
        self._sizes: dict[str, int] = {}
        self._had: set[str] = set()
        self.installed = 0
        """Packages that were new to the environment."""

    def line(self, line: str) -> None:
        """Take one line of uv's output."""
        if found := _BEGUN.match(line):
            self._sizes[found[1]] = int(float(found[2]) * _UNITS.get(found[3], 1))
        elif found := _ENDED.match(line):
            self._had.add(found[1])
        elif found := _INSTALLED.match(line):
            self.installed = int(found[1])
        else:
            return
        waited = sorted(self._sizes.keys() - self._had, key=lambda name: -self._sizes[name])
        names = ", ".join(f"{name} {size(self._sizes[name])}" for name in waited[:3])
        more = f" and {len(waited) - 3} more" if len(waited) > 3 else ""
        note = f"of {size(self.bytes)}: {names}{more}" if waited else "unpacked and linked"
        self._stage.update(len(self._had & self._sizes.keys()), len(self._sizes), note)

    @property
    def bytes(self) -> int:
        """The size of all that was begun."""
        return sum(self._sizes.values())

    def told(self) -> str:
        """Return the number of new packages, the bytes of their downloads, and the speed."""
        seconds = max(0.001, time.monotonic() - self._began)
        parts = [f"{self.installed} package{'' if self.installed == 1 else 's'}"]
        if self._sizes:
            parts += [f"{size(self.bytes)} downloaded", f"{size(self.bytes / seconds)}/s in all"]
        return ", ".join(parts)


def sync(site: Site, environment: Path, locks: Sequence[str], wheels: Sequence[str] = ()) -> None:
    """Make an environment hold exactly the pins of these locks, and then these wheels.

    Its files are then compared with the RECORD of each package, and where that is wrong itself,
    with the wheel. Raises `changed-package`, `wrong-sha256`, `no-answer`, `disk-full`,
    `program-killed` and `environment-refused`.
    """
    pip, python = [str(site.uv), "pip"], ["--python", str(environment / "bin" / "python")]
    under_way = environment / _UNDER_WAY
    if under_way.exists():
        _empty(environment)
    under_way.touch()
    _run(site, [*pip, "sync", "--require-hashes", *python, *locks], locks)
    if wheels:
        _run(site, [*pip, "install", "--no-deps", *python, *wheels], wheels)
    under_way.unlink()
    with site.console.stage("packages", "compare their files with RECORD"):
        each = list(recorded.unlike(environment, site.store, own=(PATH_FILE,)))
    for packages, found in each:
        if left := own_faults.changed_since(site, environment, packages, found, locks):
            raise recorded.refusal(left, where=str(packages), folder=environment)


def _empty(environment: Path) -> None:
    """Remove the packages of an install that did not end: uv takes half of one for a whole one."""
    for packages in environment.glob("lib/python3*/site-packages"):
        for path in packages.iterdir():
            if path.name in (PATH_FILE, *recorded.OWN):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _run(site: Site, argv: Sequence[str], given: Sequence[str]) -> None:
    environment = {**site.environment, "NO_COLOR": "1"}
    log = site.store / "logs" / "environments.log"
    with site.console.stage("packages", "download and install") as stage:
        seen = Downloads(stage)
        done = run(argv, environment=environment, cwd=site.checkout, log=log, on_line=seen.line)
        if done.code:
            raise refused(done.code, done.stdout, where=", ".join(given))
        stage.conclude(seen.told() if seen.installed else "all there")


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
