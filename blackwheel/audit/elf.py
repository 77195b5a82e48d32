"""Reads the dynamic interface of an ELF library: its undefined symbols and its exports.

Sections are found by pyelftools; the symbol table itself is read in one sweep, because libtorch_cpu
alone has 79,000 symbols (0.1 s so, 5 s one by one).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

_SYMBOL: Final = struct.Struct("<IBBHQQ")
"""Elf64_Sym: name, info, other, section, value, size."""
_GLOBAL, _WEAK, _UNIQUE = 1, 2, 10


class UnreadableLibraryError(Exception):
    """Raised for a file that is no 64-bit little-endian ELF library with sections."""


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
class Elf:
    """The dynamic interface of one library."""

    soname: str
    needed: tuple[str, ...]
    wanted: tuple[Wanted, ...]
    exports: frozenset[str]


def read_elf(file: Path) -> Elf:
    """Read a library; raise UnreadableLibraryError for anything else."""
    with file.open("rb") as stream:
        try:
            elf = ELFFile(stream)
            if elf.elfclass != 64 or not elf.little_endian:
                raise UnreadableLibraryError("not a 64-bit little-endian library")
            return _read(elf, file.name)
        except (ELFError, struct.error, UnicodeDecodeError, ValueError, KeyError) as error:
            raise UnreadableLibraryError(f"not an ELF file that can be read: {error}") from None


def _read(elf: Any, file_name: str) -> Elf:
    dynamic = elf.get_section_by_name(".dynamic")
    table = elf.get_section_by_name(".dynsym")
    if dynamic is None or table is None:  # a static program or a cubin: wants and offers nothing
        return Elf(soname=file_name, needed=(), wanted=(), exports=frozenset())
    tags = list(dynamic.iter_tags())
    sonames = [tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"]
    strings = elf.get_section(table["sh_link"]).data()
    versions = _versions(elf)
    indices = _indices(elf, table.num_symbols())
    wanted, exports = [], set()
    symbols = _SYMBOL.iter_unpack(table.data())
    for (offset, info, _, section, _, _), index in zip(symbols, indices, strict=True):
        bind = info >> 4
        name = _text(strings, offset)
        if section == 0 and bind in (_GLOBAL, _WEAK):
            version, origin = versions.get(index & 0x7FFF, ("", ""))
            wanted.append(Wanted(name=name, version=version, file=origin, weak=bind == _WEAK))
        elif section != 0 and bind in (_GLOBAL, _WEAK, _UNIQUE):
            exports.add(name)
    return Elf(
        soname=sonames[0] if sonames else file_name,
        needed=tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"),
        wanted=tuple(wanted),
        exports=frozenset(exports),
    )


def _text(strings: bytes, offset: int) -> str:
    return strings[offset : strings.index(b"\0", offset)].decode("utf-8")


def _versions(elf: Any) -> dict[int, tuple[str, str]]:
    """The versions that the library needs: by index the name and the soname it was linked with."""
    section = elf.get_section_by_name(".gnu.version_r")
    if section is None:
        return {}
    return {
        one["vna_other"]: (one.name, need.name)
        for need, ones in section.iter_versions()
        for one in ones
    }


def _indices(elf: Any, count: int) -> tuple[int, ...]:
    section = elf.get_section_by_name(".gnu.version")
    return struct.unpack(f"<{count}H", section.data()) if section else (0,) * count
