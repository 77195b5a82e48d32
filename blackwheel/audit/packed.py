"""Opens compressed files and archives inside of a wheel within a budget, or calls them unknown."""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from blackwheel.audit.blob import CHUNK, Blob
from blackwheel.audit.member import Source

MAGICS: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x1f\x9d": "compress",
    b"LZIP": "lzip",
    b"MSCF": "cab",
    b"!<thin>\n": "thin archive",
    b"hsqs": "squashfs",
}
TAR_AT, TAR = 257, b"ustar"
BROKEN: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    KeyError,
)


class UnknownPackingError(Exception):
    """A packed file cannot be opened, or not within the budget."""


@dataclass(kw_only=True, slots=True)
class Budget:
    """The size that a whole wheel's packed files may grow to."""

    size: int = 256 << 20
    files: int = 20_000
    depth: int = 3

    def take(self, size: int) -> None:
        """Use up some of it; raise UnknownPackingError where there is none left."""
        self.size -= size
        if self.size < 0:
            raise UnknownPackingError("what is packed in this wheel is too large to be looked at")

    def take_file(self) -> None:
        """Use up one file."""
        self.files -= 1
        if self.files < 0:
            raise UnknownPackingError("too many files are packed in this wheel to be looked at")


def may_begin(head: bytes) -> str:
    """Name the packing of a stream that begins here; empty where its header cannot be one."""
    how = packing(head)
    if how == "gzip":  # deflate, five flags, and one of few systems that it was packed on
        right = head[2:3] == b"\x08" and len(head) > 9 and head[3] < 32
        return how if right and (head[9] < 14 or head[9] == 255) else ""
    if how == "xz":  # its flags have a checksum of their own
        right = zlib.crc32(head[6:8]).to_bytes(4, "little") == head[8:12]
        return how if right else ""
    return how if how == "bzip2" and head[3:4] in b"123456789" else ""


def packing(head: bytes) -> str:
    """Name how a file is packed, from its first 512 bytes; empty for one that is not."""
    for magic, name in MAGICS.items():
        if head.startswith(magic):
            return name
    return "tar" if head[TAR_AT : TAR_AT + len(TAR)] == TAR else ""


def members(blob: Blob, how: str, budget: Budget) -> Iterator[tuple[str, Source]]:
    """Yield the files that are packed in one; raise UnknownPackingError where that ends early."""
    try:
        if how in ("gzip", "bzip2", "xz"):
            with unpacked(blob, how, budget) as whole, _file(whole) as stream:
                yield "", stream
        elif how == "zip":
            yield from _zipped(blob, budget)
        elif how == "tar":
            yield from _tarred(blob, budget)
        else:
            raise UnknownPackingError(f"{how} cannot be opened here")
    except BROKEN as error:
        raise UnknownPackingError(f"{how} that cannot be read: {error}") from None


@contextlib.contextmanager
def beginning(blob: Blob, how: str, budget: Budget, most: int) -> Iterator[Blob]:
    """Decompress one stream up to `most` bytes; of a broken gzip as far as it can be read.

    Raises UnknownPackingError for another broken stream, and where the budget ends before.
    """
    gzip = how == "gzip"
    begin = _gzip_header(blob.head(1 << 16)) if gzip else 0
    with Blob.new() as out:
        stream = iter(_Stream(blob.part(begin, blob.size - begin), "deflate" if gzip else how))
        while out.size < most:
            try:
                piece = next(stream, None)
            except BROKEN as error:
                if gzip:
                    break
                raise UnknownPackingError(f"{how} that cannot be read: {error}") from None
            if piece is None:
                break
            budget.take(len(piece))
            out.append(piece)
        yield out


def _gzip_header(head: bytes) -> int:
    """Return where the deflated bytes begin: what follows them, a checksum, proves nothing."""
    place = 12 + int.from_bytes(head[10:12], "little") if head[3] & 4 else 10
    for flag in (8, 16):  # a name, a comment
        place = head.find(b"\0", place) + 1 if head[3] & flag else place
        if not place:
            raise UnknownPackingError("gzip whose header has no end")
    return min(place + 2 * bool(head[3] & 2), len(head))


@contextlib.contextmanager
def unpacked(blob: Blob, how: str, budget: Budget) -> Iterator[Blob]:
    """Decompress streams to the end, into a file of its own.

    Bytes that follow a stream and are neither another one nor padding are unknown.
    """
    with Blob.new() as out:
        begin = 0
        while begin < blob.size:
            stream = _Stream(blob.part(begin, blob.size - begin), how)
            for piece in stream:
                budget.take(len(piece))
                out.append(piece)
            begin += stream.consumed
            if blob.zeros(begin, blob.size):
                break
            if packing(blob.at(begin, min(512, blob.size - begin))) != how:
                raise UnknownPackingError(f"{blob.size - begin} other bytes follow its {how}")
        yield out


class _Stream:
    """One compressed stream that begins a blob, a megabyte at a time."""

    def __init__(self, blob: Blob, how: str) -> None:
        self.consumed = 0
        self._blob, self._how = blob, how

    def __iter__(self) -> Iterator[bytes]:
        if self._how in ("gzip", "deflate"):
            yield from self._inflated(31 if self._how == "gzip" else -15)
            return
        xz = self._how == "xz"
        decoder = lzma.LZMADecompressor(memlimit=128 << 20) if xz else bz2.BZ2Decompressor()
        for data in self._chunks():
            yield decoder.decompress(data, CHUNK)
            while not (decoder.needs_input or decoder.eof):
                yield decoder.decompress(b"", CHUNK)
            if decoder.eof:
                self.consumed -= len(decoder.unused_data)
                return
        raise EOFError("it ends early")

    def _inflated(self, bits: int) -> Iterator[bytes]:
        decoder = zlib.decompressobj(wbits=bits)
        for data in self._chunks():
            rest = data
            while rest and not decoder.eof:
                before = decoder.copy()
                try:
                    yield decoder.decompress(rest, CHUNK)
                except zlib.error:
                    yield _before_the_fault(before, rest)
                    raise
                rest = decoder.unconsumed_tail
            if decoder.eof:
                self.consumed -= len(decoder.unused_data)
                return
        yield decoder.flush()
        raise EOFError("it ends early")

    def _chunks(self) -> Iterator[bytes]:
        for place in range(0, self._blob.size, CHUNK):
            data = self._blob.at(place, min(CHUNK, self._blob.size - place))
            self.consumed = place + len(data)
            yield data


def _before_the_fault(decoder: zlib._Decompress, data: bytes, step: int = 4096) -> bytes:
    """Inflate some bytes at a time: zlib gives away all of a call that ends in an error."""
    whole = bytearray()
    while data and not decoder.eof:
        before = decoder.copy()
        try:
            whole += decoder.decompress(data, step)
        except zlib.error:
            whole += _before_the_fault(before, data, step // 64) if step > 1 else b""
            break
        data = decoder.unconsumed_tail
    return bytes(whole)


class _Reader(io.RawIOBase):
    """A blob as a file that can be read and sought."""

    def __init__(self, blob: Blob) -> None:
        self._blob, self._place = blob, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._blob.size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._blob.size - self._place))
        buffer[:count] = self._blob.at(self._place, count) if count else b""
        self._place += count
        return count


def _file(blob: Blob) -> io.BufferedReader:
    return io.BufferedReader(_Reader(blob))


def _zipped(blob: Blob, budget: Budget) -> Iterator[tuple[str, Source]]:
    with zipfile.ZipFile(_file(blob)) as archive:
        for info in archive.infolist():
            if not info.filename.endswith("/"):  # is_dir stumbles over an empty name
                budget.take_file()
                budget.take(info.file_size)
                with archive.open(info) as stream:
                    yield info.filename, stream


def _tarred(blob: Blob, budget: Budget) -> Iterator[tuple[str, Source]]:
    with tarfile.open(fileobj=_file(blob), mode="r:") as archive:
        for info in archive:
            budget.take_file()
            stream = archive.extractfile(info) if info.isfile() else None
            if stream is not None:
                budget.take(info.size)
                with stream:
                    yield info.name, stream
