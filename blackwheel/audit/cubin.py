"""Reads a cubin, an ELF file for one GPU architecture, without NVIDIA's tools.

Its symbol table names the kernels, its header tells the arch. Which marks tell sm_120a from sm_120
is not documented; what is read here was compared with cuobjdump on cubins of CUDA 11.8 to 13.0.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from blackwheel.audit.blob import Blob, OutOfFileError
from blackwheel.audit.elf import CUDA
from blackwheel.audit.sections import Section, Sections, read_sections
from blackwheel.core.archs import Arch

_SYMBOL: Final = struct.Struct("<IBBHQQ")
_SYMTAB, _FUNCTION, _ENTRY = 2, 2, 0x10
_SECOND_FORMAT: Final = 0x41
"""EI_OSABI since CUDA 12.9; before it was 0x33, with the arch in other bits."""
_ACCELERATED: Final = 0x800
"""In the flags of the first format: sm_90a."""
_COMPATIBLE, _SPECIFIC = ".nv.compat", 9
_TOOLKIT: Final = ".note.nv.tkinfo"
_COMMAND: Final = re.compile(rb"-arch[ =]sm_(\d+)([af]?)")
_MOST_TEXT: Final = 1 << 16
MOST_NAMES: Final = 32 << 20
"""Bytes of all names of a file: names that share their ends would fill the memory."""


class UnreadableKernelsError(Exception):
    """Device code is there, but cannot be read: nothing can be said about its kernels."""


def is_cubin(head: bytes) -> bool:
    """Tell from its first 20 bytes whether an ELF file is one for an NVIDIA GPU."""
    return head[:6] == b"\x7fELF\x02\x01" and head[18:20] == CUDA.to_bytes(2, "little")


def cubin_size(blob: Blob) -> int:
    """Return where a cubin that begins a blob ends, as its headers tell."""
    sections = read_sections(blob)
    if sections.fault:
        raise UnreadableKernelsError(f"a cubin's section headers: {sections.fault}")
    segments, size, count = (
        *struct.unpack("<Q", blob.at(0x20, 8)),
        *struct.unpack("<HH", blob.at(0x36, 4)),
    )
    return max(sections.end, int(segments + size * count))


def read_cubin(blob: Blob) -> tuple[Arch, frozenset[str]]:
    """Return the arch and the names of the kernels; raise UnreadableKernelsError."""
    try:
        return _read(blob)
    except (OutOfFileError, struct.error, ValueError) as error:
        raise UnreadableKernelsError(f"not a cubin that can be read: {error}") from None


def _read(blob: Blob) -> tuple[Arch, frozenset[str]]:
    head = blob.at(0, 64)
    if not is_cubin(head):
        raise UnreadableKernelsError("not a cubin")
    sections = read_sections(blob)
    if sections.fault:
        raise UnreadableKernelsError(f"a cubin's section headers: {sections.fault}")
    tables = [one for one in sections.each if one.kind == _SYMTAB]
    if not tables:
        raise UnreadableKernelsError("a cubin without a symbol table")
    return _arch(blob, head, sections), _kernels(blob, tables[0], sections)


def _arch(blob: Blob, head: bytes, sections: Sections) -> Arch:
    (flags,) = struct.unpack_from("<I", head, 0x30)
    if head[7] == _SECOND_FORMAT:
        number, suffix = flags >> 8 & 0xFF, _suffix(blob, sections)
    else:
        number, suffix = flags & 0xFF, "a" if flags & _ACCELERATED else ""
    if number < 10:
        raise UnreadableKernelsError(f"a cubin of no known arch (flags {flags:#x})")
    return Arch(number // 10, number % 10, suffix)


def _suffix(blob: Blob, sections: Sections) -> str:
    """Return `a` for a cubin that only its own arch runs, `f` where its compiler was told so."""
    named = {one.name: one for one in sections.each}
    if _COMPATIBLE in named and _attributes(_text(blob, named[_COMPATIBLE])).get(_SPECIFIC):
        return "a"
    command = _text(blob, named[_TOOLKIT]) if _TOOLKIT in named else b""
    found = _COMMAND.search(command)
    return "f" if found and found[2] == b"f" else ""


def _text(blob: Blob, section: Section) -> bytes:
    return blob.at(section.offset, min(section.size, _MOST_TEXT))


def _attributes(data: bytes) -> dict[int, int]:
    """Read `.nv.compat`: form, attribute, and a number or the length of what follows."""
    found, place = {}, 0
    while place + 4 <= len(data):
        form, attribute, value = struct.unpack_from("<BBH", data, place)
        found[attribute] = value
        place += 4 + (value if form == 4 else 0)
    return found


def _kernels(blob: Blob, table: Section, sections: Sections) -> frozenset[str]:
    if table.link >= len(sections.each):
        raise UnreadableKernelsError("a cubin whose symbols have no names")
    held = sections.each[table.link]
    text = blob.at(held.offset, held.size)
    names, length = set(), 0
    data = blob.at(table.offset, table.size // _SYMBOL.size * _SYMBOL.size)
    for offset, info, other, section, _, _ in _SYMBOL.iter_unpack(data):
        if info & 15 == _FUNCTION and other & _ENTRY and section:
            end = text.find(b"\0", offset)
            length += end - offset
            if end < offset or length > MOST_NAMES:
                raise UnreadableKernelsError("a cubin whose kernels have no names, or endless ones")
            names.add(text[offset:end].decode("utf-8", "replace"))
    return frozenset(names)
