"""Inflates one file of a zip archive, and holds it to its size and checksum to the last byte.

zipfile stops at the size that the directory names; a reader that inflates to the end of the stream
would find more. Here both ends must be the same.
"""

from __future__ import annotations

import zipfile
import zlib
from typing import IO, Final, Protocol

BLOCK: Final = 1 << 18
"""Packed bytes that are read at once."""


class Source(Protocol):
    """Anything that gives its bytes in order, and all of them again after `seek(0)`."""

    def read(self, size: int, /) -> bytes:
        """Return so many bytes; fewer are the last ones."""

    def seek(self, offset: int, /) -> int:
        """Begin again."""


class Member:
    """One stored or deflated file, from its first byte to its last or again from the first."""

    def __init__(self, file: IO[bytes], info: zipfile.ZipInfo, begin: int) -> None:
        self._file, self._info, self._begin = file, info, begin
        self.seek(0)

    def seek(self, offset: int) -> int:
        """Begin again: no other place than the first can be sought."""
        if offset:
            raise ValueError(offset)
        self._place, self._left = self._begin, self._info.compress_size
        self._size, self._checksum = 0, 0
        deflated = self._info.compress_type == zipfile.ZIP_DEFLATED
        self._inflate = zlib.decompressobj(-15) if deflated else None
        self._rest = b""
        return offset

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most so many; raise BadZipFile for contradictions."""
        pieces, missing = [], size
        while missing:
            piece = self._next(missing)
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        data = b"".join(pieces) if len(pieces) != 1 else pieces[0]
        self._size += len(data)
        self._checksum = zlib.crc32(data, self._checksum)
        if self._size > self._info.file_size:
            raise zipfile.BadZipFile(f"it holds more than its {self._info.file_size} bytes")
        if missing:
            self._require_end()
        return data

    def _next(self, most: int) -> bytes:
        if self._inflate is None:
            return self._packed(min(most, BLOCK))
        while not self._inflate.eof:
            given = self._rest or self._packed(BLOCK)
            piece = self._inflate.decompress(given, most)
            self._rest = self._inflate.unconsumed_tail
            if piece or not (given or self._rest):
                return piece
        return b""

    def _packed(self, most: int) -> bytes:
        size = min(most, self._left)
        if not size:
            return b""
        self._file.seek(self._place)
        data = self._file.read(size)
        self._place += len(data)
        self._left -= len(data)
        if len(data) < size:
            raise EOFError("the archive ends inside of it")
        return data

    def _require_end(self) -> None:
        inflate = self._inflate
        if inflate is not None and not inflate.eof:
            raise zipfile.BadZipFile("its packed bytes end early")
        if self._left or (inflate is not None and (inflate.unused_data or self._rest)):
            raise zipfile.BadZipFile("packed bytes follow its end")
        if self._size != self._info.file_size:
            fact = f"it holds {self._size} bytes, not the {self._info.file_size} it says"
            raise zipfile.BadZipFile(fact)
        if self._checksum != self._info.CRC:
            raise zipfile.BadZipFile("its checksum is another")
