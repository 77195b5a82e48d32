"""Keeps digests of files that have not changed since they were hashed."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Final

from blackwheel.core import records
from blackwheel.core.files import replace_file, sha256

SETTLED_NANOSECONDS: Final = 2_000_000_000
"""A digest is kept only for a file that is older: a file system's clock ticks too seldom to tell
two changes of one moment apart."""

_OF_THIS_PROCESS: Final[dict[str, str]] = {}
"""Where no store is named."""


class Digests:
    """Digests of the files of one folder, by their state.

    The time of the last change of the inode (ctime) is part of the state: unlike mtime no program
    can set it back.
    """

    def __init__(self, folder: Path, store: Path | None) -> None:
        self._root = folder.resolve()
        named = hashlib.sha256(str(self._root).encode("utf-8", "surrogateescape")).hexdigest()[:20]
        self._file = store / "digests" / f"{named}.json" if store else None
        self._known = _read(self._file) if self._file else _OF_THIS_PROCESS
        self._new: dict[str, str] = {}

    def sha256(self, file: Path) -> str:
        """Hash a file, or return the digest that was kept for its state."""
        stat = file.stat()
        parts = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        state = " ".join(map(str, parts))
        digest = self._known.get(state) or sha256(file)
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED_NANOSECONDS:
            self._new[state] = digest
        return digest

    def keep(self, *, whole: bool = False) -> None:
        """Write down the digests; with `whole`, where all files were asked for, those alone."""
        kept = self._new if whole else {**self._known, **self._new}
        if self._file is None:
            _OF_THIS_PROCESS.update(self._new)
        elif kept != self._known:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._file, json.dumps(kept).encode())


def _read(path: Path) -> dict[str, str]:
    return records.kept(path, dict[str, str]) or {}
