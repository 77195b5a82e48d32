"""The device code of a file that lies somewhere, without a wheel around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blackwheel.audit import device
from blackwheel.audit.blob import Blob
from blackwheel.audit.elf import DEVICES, UnreadableLibraryError, read_elf_of
from blackwheel.audit.kernels import Library, device_code, library
from blackwheel.audit.sections import read_sections
from blackwheel.core.archs import Arch


def read_library(file: Path, *, path: str, sha256: str, wanted: Sequence[Arch]) -> Library:
    """Read a file that lies somewhere; unreadable pieces are said in it, never guessed."""
    with Blob.of(file) as blob:
        try:
            elf = read_elf_of(blob, file.name)
        except UnreadableLibraryError:
            elf = None
        elf = None if elf is None or elf.machine in DEVICES else elf
        found = device.find(blob, elf, read_sections(blob) if elf else None)
        read = device_code(blob, found)
        return library(read, found, wanted, path=path, size=blob.size, sha256=sha256)
