"""Reads fat binaries, the containers that nvcc packs a source file's cubins and PTX into.

They are found by their mark wherever they lie in a file, for the CUDA runtime is handed an address
and asks for no section. The format is not documented; what is read here was compared with cuobjdump
on wheels built by CUDA 11.8 to 13.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from blackwheel.audit.blob import Blob
from blackwheel.core.archs import Arch

MAGIC: Final = b"\x50\xed\x55\xba"
WRAPPER: Final = b"\xb1\x43\x62\x46"
"""Begins the record by which a library registers one fat binary with the CUDA runtime."""
HEADER: Final = struct.Struct("<IHHQ")
"""Magic, version, size of this header, size of the entries."""
VERSION: Final = 1
KINDS: Final = {1: "ptx", 2: "elf"}

_ENTRY: Final = struct.Struct("<HHIQIIHHIIIQ")
"""Kind, version, size of this header and of the payload, compressed size, place of the options,
minor and major version, compute capability, two unknown, flags."""
_UNPACKED_AT: Final = 56
_SPECIFIC, _FAMILY = 1 << 20, 1 << 21
COMPRESSED: Final = 0x2000 | 0x8000
"""LZ4; zstd since CUDA 12.8."""
_MOST_HEADER: Final = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One cubin or PTX text as its header tells of it."""

    kind: str
    """`elf`, `ptx`, or `kind 8`, which nobody here can read."""
    arch: Arch
    """PTX headers do not tell `a` or `f`."""
    offset: int
    """Of its header in the file."""
    header: int
    size: int
    unpacked: int
    """Bytes that its reader will need: the payload's, or what a compressed one grows to."""
    compressed: bool

    @property
    def end(self) -> int:
        """Return the offset of the next one."""
        return self.offset + self.header + self.size


@dataclass(frozen=True, kw_only=True, slots=True)
class FatBinary:
    """One of them: the code compiled from one source file."""

    offset: int
    end: int
    entries: tuple[Entry, ...]


def fat_binary(blob: Blob, offset: int) -> FatBinary | str:
    """Read the headers of the one that begins here, or say why they cannot be right."""
    if offset + HEADER.size > blob.size:
        return f"a fat binary at offset {offset:#x} ends inside its header"
    _, version, header, size = HEADER.unpack(blob.at(offset, HEADER.size))
    end = offset + header + size
    if version != VERSION or header != HEADER.size or end > blob.size:
        return f"no fat binary header at offset {offset:#x}"
    found: list[Entry] = []
    position = offset + header
    while position < end:
        entry = _entry(blob, position, end)
        if isinstance(entry, str):
            return entry
        found.append(entry)
        position = entry.end
    return FatBinary(offset=offset, end=end, entries=tuple(found))


def _entry(blob: Blob, position: int, end: int) -> Entry | str:
    if position + _ENTRY.size > end:
        return f"a fat binary ends inside the entry at offset {position:#x}"
    fields = _ENTRY.unpack(blob.at(position, _ENTRY.size))
    kind, _, header, size, packed, _, _, _, digits, _, _, flags = fields
    if not _ENTRY.size <= header <= _MOST_HEADER or position + header + size > end:
        return f"device code of unknown kind {kind} at offset {position:#x}"
    if not 10 <= digits <= 999:
        return f"device code for no known arch ({digits}) at offset {position:#x}"
    compressed = bool(flags & COMPRESSED) or packed > 0
    unpacked = size
    if compressed and header >= _UNPACKED_AT + 8:
        (unpacked,) = struct.unpack("<Q", blob.at(position + _UNPACKED_AT, 8))
    suffix = "a" if flags & _SPECIFIC else "f" if flags & _FAMILY else ""
    return Entry(
        kind=KINDS.get(kind, f"kind {kind}"),
        arch=Arch(digits // 10, digits % 10, suffix),
        offset=position,
        header=header,
        size=size,
        unpacked=max(size, unpacked),
        compressed=compressed,
    )


def container(entries_size: int) -> bytes:
    """Return the header of a fat binary that holds entries of so many bytes."""
    return HEADER.pack(int.from_bytes(MAGIC, "little"), VERSION, HEADER.size, entries_size)
