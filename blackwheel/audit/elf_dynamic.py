"""Reads the dynamic segment of a library: needed names, symbols, versions, and odd requests."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from elftools.elf.enums import ENUM_D_TAG

from blackwheel.audit.blob import Blob, OutOfFileError

_SYMBOL: Final = struct.Struct("<IBBHQQ")
"""Elf64_Sym: name, info, other, section, value, size."""
_NEED: Final = struct.Struct("<HHIII")
"""Elf64_Verneed: version, number of versions, name, first version, next."""
_VERSION: Final = struct.Struct("<IHHII")
"""Elf64_Vernaux: hash, flags, index, name, next."""
_RELOCATION: Final = 24
_GLOBAL, _WEAK, _UNIQUE = 1, 2, 10
_DEFAULT, _PROTECTED = 0, 3
_MOST_VERSIONS: Final = 1 << 15
MOST_NAMES: Final = 32 << 20
"""Bytes of all names of a file: names that share their ends would fill the memory."""
_MOST_BUCKETS: Final = 1 << 24
_TEXTREL_FLAG, _STATIC_TLS_FLAG, _PIE_FLAG = 0x4, 0x10, 0x8000000
_ODD: Final = ("DT_AUDIT", "DT_DEPAUDIT", "DT_FILTER", "DT_AUXILIARY", "DT_CONFIG")
"""They make the loader take other libraries than those that are needed."""


class UnreadableLibraryError(Exception):
    """The file is no 64-bit little-endian ELF file that can be read whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """One undefined symbol."""

    name: str
    version: str = ""
    """`GLIBC_2.32`; empty where the exporting library has no versions, as torch's have none."""
    file: str = ""
    """The soname that the linker took it from, where it is versioned."""
    weak: bool = False
    """It may stay undefined, but its version must still be known to the loader."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dynamic:
    """The dynamic segment, less its symbols."""

    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: str = ""
    runpath: str = ""
    odd: tuple[tuple[str, str], ...] = ()
    """DT_AUDIT and the like, with the library that they name."""
    text_relocations: bool = False
    packed_relocations: bool = False
    """DT_RELR: glibc knows it from 2.36 on."""
    static_tls: bool = False
    pie: bool = False
    """It says that it is a program, although it can be loaded anywhere."""
    constructors: int = 0
    """Functions that run while it is loaded, the compiler's own `frame_dummy` among them."""
    versions: tuple[tuple[str, str], ...] = ()
    """(soname, version) of all that it needs, also those that no symbol is taken from."""


class Symbols(NamedTuple):
    """The dynamic symbol table."""

    wanted: tuple[Wanted, ...] = ()
    exports: frozenset[str] = frozenset()


Table = dict[str, list[int]]
Place = Callable[[int], int]


def read_table(data: bytes) -> Table:
    """Read the entries of a dynamic segment by name, up to the first null as the loader does.

    Raises OutOfFileError where there is none: the loader would read on behind the segment.
    """
    names = {number: name for name, number in ENUM_D_TAG.items() if isinstance(number, int)}
    table: Table = {}
    for number, value in struct.iter_unpack("<QQ", data[: len(data) // 16 * 16]):
        if number == 0:
            return table
        table.setdefault(names.get(number, f"{number:#x}"), []).append(value)
    raise OutOfFileError("its dynamic segment has no end")


def read_dynamic(blob: Blob, table: Table, place: Place) -> tuple[Dynamic, Symbols]:
    """Read the entries of a dynamic segment; `place` turns an address into a file offset."""
    strings = _Strings(blob, table, place)
    flags = _last(table, "DT_FLAGS")
    needs = _versions(blob, table, place, strings)
    dynamic = Dynamic(
        soname=strings.named("DT_SONAME"),
        needed=tuple(map(strings.text, table.get("DT_NEEDED", ()))),
        rpath=strings.named("DT_RPATH"),
        runpath=strings.named("DT_RUNPATH"),
        odd=tuple((tag, strings.text(v)) for tag in _ODD for v in table.get(tag, ())),
        text_relocations="DT_TEXTREL" in table or bool(flags & _TEXTREL_FLAG),
        packed_relocations="DT_RELR" in table or "0x24" in table,
        static_tls=bool(flags & _STATIC_TLS_FLAG),
        pie=bool(_last(table, "DT_FLAGS_1") & _PIE_FLAG),
        constructors=_last(table, "DT_INIT_ARRAYSZ") // 8,
        versions=tuple(sorted(set(needs.values()))),
    )
    return dynamic, _symbols(blob, table, place, strings, needs)


class _Strings:
    """The dynamic string table."""

    def __init__(self, blob: Blob, table: Table, place: Place) -> None:
        self._table = table
        size = _last(table, "DT_STRSZ")
        self._data = blob.at(place(_last(table, "DT_STRTAB")), size) if size else b""
        self._left = max(MOST_NAMES, 2 * size)

    def text(self, offset: int) -> str:
        end = self._data.find(b"\0", offset)
        if not 0 <= offset < len(self._data) or end == -1:
            raise OutOfFileError(f"the name at {offset:#x} lies in no string table")
        self._left -= end - offset
        if self._left < 0:
            raise OutOfFileError("its names are longer than their table")
        return self._data[offset:end].decode("utf-8")

    def named(self, tag: str) -> str:
        return self.text(_last(self._table, tag)) if tag in self._table else ""


def _last(table: Table, tag: str) -> int:
    """The value that the loader takes where a tag stands twice."""
    return table.get(tag, [0])[-1]


def _versions(
    blob: Blob, table: Table, place: Place, strings: _Strings
) -> dict[int, tuple[str, str]]:
    """The versions that the library needs, by their index: soname and version."""
    found: dict[int, tuple[str, str]] = {}
    if "DT_VERNEED" not in table:
        return found
    at = place(_last(table, "DT_VERNEED"))
    for _ in range(min(_last(table, "DT_VERNEEDNUM"), _MOST_VERSIONS)):
        _, count, name, first, further = _NEED.unpack(blob.at(at, _NEED.size))
        file, each = strings.text(name), at + first
        for _ in range(count):
            _, _, index, text, more = _VERSION.unpack(blob.at(each, _VERSION.size))
            if len(found) >= _MOST_VERSIONS or index in found:
                raise OutOfFileError("its table of needed versions lists one twice")
            found[index] = (file, strings.text(text))
            each += more
            if not more:
                break
        at += further
        if not further:
            break
    return found


def _symbols(
    blob: Blob,
    table: Table,
    place: Place,
    strings: _Strings,
    needs: dict[int, tuple[str, str]],
) -> Symbols:
    count = _symbol_count(blob, table, place)
    if not count:
        return Symbols()
    at = place(_last(table, "DT_SYMTAB"))
    data = blob.at(at, count * _SYMBOL.size)
    indices = array("H", bytes(2 * count))
    if "DT_VERSYM" in table:
        indices = array("H", blob.at(place(_last(table, "DT_VERSYM")), 2 * count))
    wanted, exports = [], set()
    for number, symbol in enumerate(_SYMBOL.iter_unpack(data)):
        offset, info, other, section, _, _ = symbol
        bind = info >> 4
        if section == 0 and bind in (_GLOBAL, _WEAK) and number:
            file, version = needs.get(indices[number] & 0x7FFF, ("", ""))
            name = strings.text(offset)
            wanted.append(Wanted(name=name, version=version, file=file, weak=bind == _WEAK))
        elif section and bind in (_GLOBAL, _WEAK, _UNIQUE) and other & 3 in (_DEFAULT, _PROTECTED):
            exports.add(strings.text(offset))
    return Symbols(wanted=tuple(wanted), exports=frozenset(exports))


def _symbol_count(blob: Blob, table: Table, place: Place) -> int:
    """How many symbols there are: as many as the hash tables hold, or a relocation names."""
    counts = [_highest_relocated(blob, table, place) + 1] if "DT_SYMTAB" in table else [0]
    if "DT_HASH" in table:
        counts.append(int(struct.unpack("<II", blob.at(place(_last(table, "DT_HASH")), 8))[1]))
    if "DT_GNU_HASH" in table:
        counts.append(_hashed(blob, place(_last(table, "DT_GNU_HASH"))))
    return max(counts) if max(counts) > 1 else 0


def _hashed(blob: Blob, at: int) -> int:
    """Return how many symbols a GNU hash table ends with."""
    buckets, first, bloom, _ = struct.unpack("<IIII", blob.at(at, 16))
    if buckets > _MOST_BUCKETS:
        raise OutOfFileError(f"a hash table of {buckets} buckets")
    begin = at + 16 + 8 * bloom
    last = int(max(array("I", blob.at(begin, 4 * buckets)), default=0))
    if last < first:
        return int(first)  # nothing is exported
    chain = begin + 4 * buckets + 4 * (last - first)
    while not struct.unpack("<I", blob.at(chain, 4))[0] & 1:
        chain, last = chain + 4, last + 1
    return last + 1


def _highest_relocated(blob: Blob, table: Table, place: Place) -> int:
    """Return the highest number of a symbol that a relocation asks the loader for."""
    highest = 0
    for tag, size in (("DT_RELA", "DT_RELASZ"), ("DT_JMPREL", "DT_PLTRELSZ")):
        length = _last(table, size) // _RELOCATION * _RELOCATION
        if tag in table and length:
            highest = max(highest, *_relocated(blob, place(_last(table, tag)), length))
    return highest


def _relocated(blob: Blob, at: int, length: int) -> Iterable[int]:
    """Yield the highest symbol of each megabyte of relocations: 64-bit (offset, info, addend)."""
    step = (1 << 20) // _RELOCATION * _RELOCATION
    for offset in range(0, length, step):
        words = array("Q", blob.at(at + offset, min(step, length - offset)))
        yield max(words[1::3]) >> 32
