"""Writes zip archives byte by byte: archives that zipfile would never write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class File:
    """One file, and what the two places that tell of it say."""

    name: bytes
    data: bytes
    listed: bool = True
    local_name: bytes | None = None
    flags: int = 0
    method: int = zlib.DEFLATED
    local_method: int | None = None
    size: int | None = None
    local_size: int | None = None
    mode: int = 0o100644
    extra: bytes = b""
    local_extra: bytes | None = None
    local_flags: int | None = None
    described: bool = False
    """Its sizes stand behind its data."""
    packed: bytes | None = None
    same_as: bytes | None = None
    """It lies where that other file lies."""
    before: bytes = b""
    offset: int = field(default=0, init=False)

    @property
    def content(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflated(self.data) if self.method == zlib.DEFLATED else self.data


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def archive(
    files: Sequence[File],
    *,
    prefix: bytes = b"",
    behind: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
    shift: bool = False,
    gap: bytes = b"",
) -> bytes:
    """Return an archive; with `shift` its offsets count from the file's first byte."""
    out, base = prefix, 0 if shift else len(prefix)
    places: dict[bytes, int] = {}
    for one in files:
        if one.same_as is not None:
            one.offset = places[one.same_as]
            continue
        out += one.before
        one.offset = places[one.name] = len(out) - base
        out += _local(one)
    out += gap
    directory = b"".join(_listed(one) for one in files if one.listed)
    total = sum(one.listed for one in files) if count is None else count
    end = struct.pack(
        *("<4s4H2IH", b"PK\5\6", 0, 0, total, total, len(directory)),
        *(len(out) - base, len(comment)),
    )
    return out + directory + end + comment + behind


def _sizes(one: File, size: int | None) -> tuple[int, int, int]:
    told = len(one.data) if size is None else size
    return zlib.crc32(one.data), len(one.content), told


def _local(one: File) -> bytes:
    name = one.name if one.local_name is None else one.local_name
    method = one.method if one.local_method is None else one.local_method
    flags = (one.flags if one.local_flags is None else one.local_flags) | 8 * one.described
    extra = one.extra if one.local_extra is None else one.local_extra
    told = (0, 0, 0) if one.described else _sizes(one, one.local_size or one.size)
    begin = (b"PK\3\4", 20, flags, method, 0, 0x5021)
    head = struct.pack("<4s5H3I2H", *begin, *told, len(name), len(extra))
    tail = b"PK\7\x08" + struct.pack("<3I", *_sizes(one, one.size)) if one.described else b""
    return head + name + extra + one.content + tail


def _listed(one: File) -> bytes:
    flags = one.flags | 8 * one.described
    begin = (b"PK\1\2", 0x0314, 20, flags, one.method, 0, 0x5021, *_sizes(one, one.size))
    lengths = (len(one.name), len(one.extra), 0, 0, 0)
    head = struct.pack("<4s6H3I5H2I", *begin, *lengths, one.mode << 16, one.offset)
    return head + one.name + one.extra
