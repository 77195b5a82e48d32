"""Reads an ELF file: its demands on the loader, its undefined and its exported symbols.

It is read as the loader reads it: from program headers and the dynamic segment. Section headers are
only a hint for people, and are read apart (`sections`). Every walk is bounded by the file's size.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from elftools.elf.enums import ENUM_E_MACHINE

from blackwheel.audit import elf_dynamic
from blackwheel.audit.blob import Blob, OutOfFileError
from blackwheel.audit.elf_dynamic import Dynamic, UnreadableLibraryError, Wanted

__all__ = ["Elf", "Segment", "UnreadableLibraryError", "Wanted", "read_elf", "read_elf_of"]

MAGIC: Final = b"\x7fELF"
X86_64: Final = 62
CUDA: Final = 190
AMDGPU: Final = 224
DEVICES: Final = (CUDA, AMDGPU)
"""Machines of graphics cards: no loader of the system looks at such a file."""

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_LOAD, _DYNAMIC, _INTERP, _NOTE, _TLS = 1, 2, 3, 4, 7
_STACK, _RELRO, _PROPERTY = 0x6474E551, 0x6474E552, 0x6474E553
_X, _W = 1, 2
_MOST_SEGMENTS: Final = 1000
_PAGE: Final = 4096
_KINDS: Final = {1: "object", 2: "program", 3: "library", 4: "core"}
_SYSTEMS: Final = (0, 3)
"""EI_OSABI that glibc's loader takes: System V and GNU."""
_ISA_NEEDED: Final = 0xC0008002
_LEVELS: Final = ("", "x86-64-v2", "x86-64-v3", "x86-64-v4")


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One program header."""

    kind: int
    flags: int
    offset: int
    address: int
    size: int
    """In the file."""
    memory: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Elf:
    """One ELF file; of a file for a graphics card only the machine is told."""

    machine: int
    kind: str
    """`library`, `program`, `object` or `core`."""
    system: int
    """EI_OSABI."""
    soname: str
    """Its file's name where it names none."""
    segments: tuple[Segment, ...] = ()
    interpreter: str = ""
    isa: str = ""
    """`x86-64-v3` where it says that it needs that level."""
    needed: tuple[str, ...] = ()
    wanted: tuple[Wanted, ...] = ()
    exports: frozenset[str] = frozenset()
    dynamic: Dynamic = field(default_factory=Dynamic)

    @property
    def machine_name(self) -> str:
        """Return `EM_AARCH64`, or the number."""
        names = {number: name for name, number in ENUM_E_MACHINE.items()}
        return str(names.get(self.machine, self.machine))

    @property
    def loads_here(self) -> bool:
        """Tell whether glibc's loader takes its system mark."""
        return self.system in _SYSTEMS

    @property
    def executable_stack(self) -> bool:
        """Tell whether it asks for a stack that code can run on; to ask for nothing does so too."""
        stacks = [one.flags for one in self.segments if one.kind == _STACK]
        return not stacks or any(flags & _X for flags in stacks)

    @property
    def writable_code(self) -> bool:
        """Tell whether a segment can be written and run."""
        return any(one.kind == _LOAD and one.flags & _W and one.flags & _X for one in self.segments)

    @property
    def relro(self) -> bool:
        """Tell whether relocated tables are made read-only."""
        return any(one.kind == _RELRO for one in self.segments)

    @property
    def tls(self) -> int:
        """Bytes of thread-local storage."""
        return sum(one.memory for one in self.segments if one.kind == _TLS)

    def runs(self, offset: int) -> bool:
        """Tell whether this place of the file is mapped as code."""
        return any(
            one.kind == _LOAD and one.flags & _X and one.offset <= offset < one.offset + one.size
            for one in self.segments
        )

    @property
    def end(self) -> int:
        """Return the offset at which the last segment ends in the file."""
        return max((one.offset + one.size for one in self.segments), default=0)


def read_elf(file: Path) -> Elf:
    """Read a library that lies somewhere; raise UnreadableLibraryError for anything else."""
    with Blob.of(file) as blob:
        return read_elf_of(blob, file.name)


def read_elf_of(blob: Blob, name: str) -> Elf:
    """Read an ELF file; raise UnreadableLibraryError with the reason."""
    try:
        return _read(blob, name)
    except (OutOfFileError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise UnreadableLibraryError(f"not an ELF file that can be read: {error}") from None


def _read(blob: Blob, name: str) -> Elf:
    head = blob.head(_HEADER.size)
    if head[:4] != MAGIC:
        raise UnreadableLibraryError("not an ELF file")
    if head[4:7] != b"\x02\x01\x01":
        raise UnreadableLibraryError("not a 64-bit little-endian library")
    fields = _HEADER.unpack(blob.at(0, _HEADER.size))
    identity, kind, machine, version, _, segments_at, *_ = fields
    entry, count = fields[9], fields[10]
    if version != 1 or kind not in _KINDS:
        raise UnreadableLibraryError(f"ELF version {version}, type {kind}: no loader knows these")
    elf = Elf(machine=machine, kind=_KINDS[kind], system=identity[7], soname=name)
    if machine in DEVICES or elf.kind in ("object", "core") or not count:
        return elf
    if entry != _SEGMENT.size or count > _MOST_SEGMENTS:
        raise UnreadableLibraryError(f"{count} program headers of {entry} bytes")
    table = blob.at(segments_at, count * _SEGMENT.size)
    segments = tuple(
        Segment(kind=s[0], flags=s[1], offset=s[2], address=s[3], size=s[5], memory=s[6])
        for s in _SEGMENT.iter_unpack(table)
    )
    for one in segments:
        if one.kind in (_LOAD, _DYNAMIC, _INTERP) and one.offset + one.size > blob.size:
            raise UnreadableLibraryError(
                f"a segment ends at {one.offset + one.size:#x}, the file at {blob.size:#x}"
            )
    _require_one_reading(segments)
    return _loaded(blob, replace(elf, segments=segments))


def _require_one_reading(segments: tuple[Segment, ...]) -> None:
    """Refuse segments of which two readers see different bytes.

    glibc takes the last dynamic segment, by its address; others take the first, by its offset. What
    is mapped last covers what lay there, a page at a time.
    """
    loads = [one for one in segments if one.kind == _LOAD]
    for before, after in itertools.pairwise(loads):
        end = before.address + max(before.size, before.memory)
        moved = after.address - after.offset != before.address - before.offset
        if after.address < end or (moved and after.address - after.address % _PAGE < end):
            raise UnreadableLibraryError(
                f"two segments share the address {after.address:#x}, or are in no order"
            )
    dynamic = [one for one in segments if one.kind == _DYNAMIC]
    if len(dynamic) > 1:
        raise UnreadableLibraryError(f"it has {len(dynamic)} dynamic segments")
    for one in dynamic:
        if _placed(segments)(one.address) != one.offset:
            raise UnreadableLibraryError(
                f"its dynamic segment lies at {one.offset:#x} of the file, and is mapped from"
                " another place"
            )


def _loaded(blob: Blob, elf: Elf) -> Elf:
    """Read what the program headers name."""
    by_kind: dict[int, Segment] = {}
    for one in elf.segments:
        by_kind.setdefault(one.kind, one)
    interpreter = ""
    if _INTERP in by_kind:
        held = by_kind[_INTERP]
        interpreter = blob.at(held.offset, min(held.size, 4096)).split(b"\0")[0].decode("utf-8")
    notes = [one for one in elf.segments if one.kind in (_NOTE, _PROPERTY)]
    isa = _isa_needed(blob, notes) if elf.machine == X86_64 else ""
    elf = replace(elf, interpreter=interpreter, isa=isa)
    if _DYNAMIC not in by_kind:  # a static program wants and offers nothing
        return elf
    held = by_kind[_DYNAMIC]
    table = elf_dynamic.read_table(blob.at(held.offset, held.size))
    dynamic, symbols = elf_dynamic.read_dynamic(blob, table, _placed(elf.segments))
    program = bool(interpreter) and (dynamic.pie or not dynamic.soname)
    return replace(
        elf,
        kind="program" if program else elf.kind,
        soname=dynamic.soname or elf.soname,
        needed=dynamic.needed,
        wanted=symbols.wanted,
        exports=symbols.exports,
        dynamic=dynamic,
    )


def _placed(segments: tuple[Segment, ...]) -> Callable[[int], int]:
    """Return how an address is turned into a place of the file."""
    loads = [one for one in segments if one.kind == _LOAD]

    def place(address: int) -> int:
        for one in loads:
            if one.address <= address < one.address + one.size:
                return address - one.address + one.offset
        raise OutOfFileError(f"address {address:#x} lies in no segment of the file")

    return place


def _isa_needed(blob: Blob, notes: list[Segment]) -> str:
    """Read the level of x86-64 that the loader refuses to do without."""
    needed = 0
    for one in notes:
        for kind, name, body in _notes(blob.at(one.offset, min(one.size, 1 << 16))):
            if kind == 5 and name == b"GNU\0":  # NT_GNU_PROPERTY_TYPE_0
                needed |= _properties(body).get(_ISA_NEEDED, 0)
    levels = [level for bit, level in enumerate(_LEVELS) if needed >> bit & 1]
    unknown = f"bits {needed:#x}" if needed >> len(_LEVELS) else ""
    return unknown or (levels[-1] if levels else "")


def _notes(data: bytes) -> list[tuple[int, bytes, bytes]]:
    found, place = [], 0
    while place + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<III", data, place)
        name = data[place + 12 : place + 12 + name_size]
        begin = place + 12 + name_size + -name_size % 4
        found.append((kind, name, data[begin : begin + size]))
        place = begin + size + -size % 4
    return found


def _properties(data: bytes) -> Mapping[int, int]:
    found, place = {}, 0
    while place + 12 <= len(data):
        kind, size = struct.unpack_from("<II", data, place)
        found[kind] = int.from_bytes(data[place + 8 : place + 8 + min(size, 4)], "little")
        place += 8 + size + -size % 8
    return found
