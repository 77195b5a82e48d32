"""Reads section headers of an ELF file: a hint, for the loader needs none and believes none."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from blackwheel.audit.blob import Blob, OutOfFileError

_HEADER: Final = struct.Struct("<IIQQQQIIQQ")
_TABLE_AT, _COUNTS_AT = 0x28, 0x3A
_NOBITS: Final = 8
_MOST: Final = 1 << 17
"""Each takes some hundred bytes of memory; linked libraries have tens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One section and where it lies in the file."""

    name: str
    kind: int
    offset: int
    size: int
    link: int
    empty: bool
    """Said to hold no bytes of the file (NOBITS)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sections:
    """All of them, or why they cannot be believed."""

    each: tuple[Section, ...] = ()
    fault: str = ""
    end: int = 0
    """Where the table and the last section end in the file."""


def read_sections(blob: Blob) -> Sections:
    """Read the section headers of a 64-bit little-endian ELF file."""
    try:
        return _read(blob)
    except (OutOfFileError, struct.error, ValueError) as error:
        return Sections(fault=f"they do not fit the file: {error}")


def _read(blob: Blob) -> Sections:
    (table,) = struct.unpack("<Q", blob.at(_TABLE_AT, 8))
    size, count, names = struct.unpack("<HHH", blob.at(_COUNTS_AT, 6))
    if not table:
        return Sections(fault="there are none")
    if size != _HEADER.size:
        return Sections(fault=f"one is {size} bytes long")
    first = _HEADER.unpack(blob.at(table, _HEADER.size))
    count = count or first[5]  # more than 65,279: the first header tells
    names = first[6] if names == 0xFFFF else names
    if not 0 < count <= _MOST or names >= count:
        return Sections(fault=f"of {count}, number {names} is said to hold the names")
    headers = list(_HEADER.iter_unpack(blob.at(table, count * _HEADER.size)))
    text = blob.at(headers[names][4], headers[names][5])
    each = tuple(_section(header, text) for header in headers)
    for one in each:
        if not one.empty and one.offset + one.size > blob.size:
            return Sections(each=each, fault=f"{one.name} ends beyond the file")
    end = max((one.offset + one.size for one in each if not one.empty), default=0)
    return Sections(each=each, end=max(end, table + count * _HEADER.size))


def _section(header: tuple[int, ...], text: bytes) -> Section:
    end = text.find(b"\0", header[0])
    name = text[header[0] : end].decode("utf-8", "replace") if end != -1 else ""
    return Section(
        name=name,
        kind=header[1],
        offset=header[4],
        size=header[5],
        link=header[6],
        empty=header[1] in (0, _NOBITS),
    )
