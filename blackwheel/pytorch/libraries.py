"""Hashes the libraries of torch that extensions link against, and compares them with its RECORD."""

from __future__ import annotations

import base64
import json
import os
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from installer.records import InvalidRecordEntry, RecordEntry, parse_record_file

from blackwheel.core import records
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import sha256

FOLDER: Final = "torch/lib"
NAMES: Final = ("libtorch*.so*", "libc10*.so*", "libshm.so*")
SETTLED_NANOSECONDS: Final = 2_000_000_000
"""A digest is kept only for a file that is older: a file system's clock ticks too seldom to tell
two changes of one moment apart."""

_State = tuple[int, int, int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A digest in the store, and the state of the file that it is of."""

    state: _State
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchLibrary:
    """One library of torch."""

    name: str
    """`torch/lib/libc10.so`."""
    sha256: str
    size: int

    def section(self) -> dict[str, Any]:
        """Return the receipt's descriptor of it."""
        return {"name": self.name, "size": self.size, "digest": {"sha256": self.sha256}}


def libraries(packages: Path, *, store: Path | None = None) -> tuple[TorchLibrary, ...]:
    """Digest the libraries of the torch in a site-packages folder.

    Raises `other-torch` where they are not the files that torch's RECORD lists. Digests are kept in
    the store, else for this process: torch 2.11.0 is a gigabyte.
    """
    recorded = _recorded(packages)
    files = {
        f"{FOLDER}/{file.name}": file
        for pattern in NAMES
        for file in packages.glob(f"{FOLDER}/{pattern}")
    }
    found = tuple(
        TorchLibrary(name=name, sha256=_sha256(file, store), size=file.stat().st_size)
        for name, file in sorted(files.items())
    )
    faults = [
        f"{one.name}: sha256 {one.sha256} instead of {recorded.get(one.name, 'none')}"
        for one in found
        if recorded.get(one.name) != one.sha256
    ]
    faults += [f"{name}: is missing" for name in sorted(recorded) if name not in files]
    if faults:
        raise BlackwheelError(
            "other-torch",
            "\n".join(["torch's libraries are not those that its RECORD lists", *faults]),
            where=str(packages),
            fix="uv cache clean torch (its files may be the same inodes), remove the environment"
            " and run the same command again",
            code=Exit.TORCH,
        )
    return found


def _recorded(packages: Path) -> dict[str, str]:
    """The sha256 digests that RECORD holds for torch's libraries, by name."""
    wanted = tuple(f"{FOLDER}/{pattern.partition('*')[0]}" for pattern in NAMES)
    digests: dict[str, str] = {}
    for record in packages.glob("torch-*.dist-info/RECORD"):
        lines = [
            line
            for line in record.read_text(encoding="utf-8", errors="replace").splitlines()
            if line.startswith(wanted) and ".so" in line
        ]
        for row in parse_record_file(lines):
            try:
                entry = RecordEntry.from_elements(*row)
            except InvalidRecordEntry:
                continue  # a library without a digest in RECORD is a fault anyhow
            if entry.hash_ and entry.hash_.name == "sha256":
                digests[entry.path] = _hex(entry.hash_.value)
    return digests


def _hex(coded: str) -> str:
    try:
        return base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).hex()
    except ValueError:
        return coded


def _sha256(file: Path, store: Path | None) -> str:
    """Digest a file, or take the digest that was kept for this state of it.

    The time of the last change of the inode (ctime) is part of the state, unlike mtime no program
    can set it back. Keyed by inode, since uv links one file into many environments.
    """
    stat = file.stat()
    state = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    kept = store / "torch" / f"{stat.st_dev}-{stat.st_ino}.json" if store else None
    if kept and (digest := _kept(kept, state)):
        return digest
    settled = time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED_NANOSECONDS
    digest = _digest_of_state(file, state) if settled else sha256(file)
    if kept and settled:
        _keep(kept, state, digest)
    return digest


@cache
def _digest_of_state(file: Path, _: _State) -> str:
    return sha256(file)


def _kept(path: Path, state: _State) -> str:
    found = records.kept(path, Kept)
    return found.sha256 if found and found.state == state else ""


def _keep(path: Path, state: _State, digest: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".blackwheel-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as sink:
        json.dump({"state": state, "sha256": digest}, sink)
    Path(name).replace(path)
