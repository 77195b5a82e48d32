"""Hashes the libraries of torch that extensions link against, and compares them with its RECORD."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from blackwheel.core import recorded
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.settled import Digests

FOLDER: Final = "torch/lib"
NAMES: Final = ("libtorch*.so*", "libc10*.so*", "libshm.so*")


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
    known, digests = _recorded(packages), Digests(packages, store)
    files = {
        f"{FOLDER}/{file.name}": file
        for pattern in NAMES
        for file in packages.glob(f"{FOLDER}/{pattern}")
    }
    found = tuple(
        TorchLibrary(name=name, sha256=digests.sha256(file), size=file.stat().st_size)
        for name, file in sorted(files.items())
    )
    digests.keep()
    faults = [
        f"{one.name}: sha256 {one.sha256} instead of {known.get(one.name, 'none')}"
        for one in found
        if known.get(one.name) != one.sha256
    ]
    faults += [f"{name}: is missing" for name in sorted(known) if name not in files]
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
    """The sha256 digests that RECORD holds for torch's libraries, by name.

    A library without one is a fault anyhow.
    """
    wanted = tuple(f"{FOLDER}/{pattern.partition('*')[0]}" for pattern in NAMES)
    return {
        path: digest
        for record in packages.glob("torch-*.dist-info/RECORD")
        for path, digest in recorded.entries(record, wanted)
        if digest and ".so" in path
    }
