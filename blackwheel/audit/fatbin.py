"""Reads fat binaries: which device code entries come from one translation unit.

cuobjdump decompresses and reads the entries, but does not tell where one fat binary ends.
That matters: two units may each hold a static kernel of the same name, built for different archs.
The walk is also the second witness that cuobjdump skipped nothing. The container format is not
documented; what is read here was checked against wheels built by CUDA 12.8 to 13.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

EXECUTABLE_SECTION: Final = ".nv_fatbin"
RELOCATABLE_SECTION: Final = "__nv_relfatbin"
"""Left by `-rdc`; holds the kernels only where there is no executable section."""
KINDS: Final = {1: "ptx", 2: "elf"}

_MAGIC: Final = 0xBA55ED50
_HEADER: Final = struct.Struct("<IHHQ")
"""Magic, version, size of this header, size of the entries."""
_ENTRY: Final = struct.Struct("<HHIQ12xI")
"""Kind, version, size of this header, size of the payload, compute capability without dot."""
_ALIGNMENT: Final = 8


class UnreadableKernelsError(Exception):
    """Raised where device code cannot be read, so that its archs are unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One cubin or PTX text; entries of equal `unit` were compiled from one source file."""

    unit: int
    kind: str
    digits: int
    """120 for sm_120, sm_120a and sm_120f alike."""


def entries(library: Path) -> tuple[Entry, ...] | None:
    """Return the device code entries of an ELF file in order; None for a host library.

    Raises UnreadableKernelsError where the section does not hold what its headers say.
    """
    with library.open("rb") as file:
        try:
            sections = {section.name: section for section in ELFFile(file).iter_sections()}
        except (ELFError, struct.error, UnicodeDecodeError, ValueError) as error:
            raise UnreadableKernelsError(f"not an ELF file that can be read: {error}") from None
        found = sections.get(EXECUTABLE_SECTION) or sections.get(RELOCATABLE_SECTION)
        if found is None or found["sh_size"] == 0:
            return None
        begin = found["sh_offset"]
        try:
            return _walk(file, begin, begin + found["sh_size"])
        except struct.error:
            raise UnreadableKernelsError(f"section {found.name} ends inside a header") from None


def _walk(file: BinaryIO, position: int, end: int) -> tuple[Entry, ...]:
    found: list[Entry] = []
    unit = 0
    while position < end:
        file.seek(position)
        header = file.read(_HEADER.size)
        if not header[:_ALIGNMENT].strip(b"\0"):  # the linker pads between units
            position += _ALIGNMENT
            continue
        magic, _, header_size, size = _HEADER.unpack(header)
        if magic != _MAGIC or position + header_size + size > end:
            raise UnreadableKernelsError(f"no fat binary header at offset {position:#x}")
        found += _unit(file, unit, position + header_size, position + header_size + size)
        unit += 1
        position += header_size + size
        position += -position % _ALIGNMENT
    if not found:
        raise UnreadableKernelsError("the section for device code holds none")
    return tuple(found)


def _unit(file: BinaryIO, unit: int, position: int, end: int) -> list[Entry]:
    found = []
    while position < end:
        file.seek(position)
        kind, _, header_size, size, digits = _ENTRY.unpack(file.read(_ENTRY.size))
        if kind not in KINDS or header_size < _ENTRY.size or position + header_size + size > end:
            raise UnreadableKernelsError(
                f"device code of unknown kind {kind} at offset {position:#x}"
            )
        found.append(Entry(unit=unit, kind=KINDS[kind], digits=digits))
        position += header_size + size
    return found
