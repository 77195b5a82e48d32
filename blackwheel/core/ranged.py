"""Opens a file of a server as if it lay here: reads the parts that are asked for, within bounds."""

from __future__ import annotations

import io
import re
from typing import Final

from blackwheel.core.http import FailedError, Patience, chunks, opened, tried

MOST: Final = 64 << 20
"""Bytes of one file in all: the tables of a torch wheel and three small members are 3 MB."""
BLOCK: Final = 1 << 20


class _Ranged(io.RawIOBase):
    """A file by its address; each read is one request."""

    def __init__(self, url: str, patience: Patience) -> None:
        self._url, self._patience = url, patience
        self._place, self._read = 0, 0
        self.size = 0
        self._fetch(0, 0)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next read."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place of the file."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read bytes from the server into a buffer; return how many."""
        last = min(self._place + len(buffer), self.size) - 1
        if last < self._place:
            return 0
        data = self._fetch(self._place, last)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def _fetch(self, first: int, last: int) -> bytes:
        self._read += last - first + 1
        if self._read > MOST:
            raise FailedError(f"a file of which more than {MOST} bytes must be read")
        return tried(lambda: self._once(first, last), self._patience)

    def _once(self, first: int, last: int) -> bytes:
        headers = {"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        wanted = last - first + 1
        with opened(self._url, patience=self._patience, headers=headers) as answer:
            told = re.fullmatch(
                rf"bytes {first}-{last}/([0-9]{{1,18}})", answer.headers.get("Content-Range", "")
            )
            if answer.status_code != 206 or not told:
                raise FailedError("the server sends no part of a file")
            if self.size and int(told[1]) != self.size:
                raise FailedError("the file changed while it was read")
            self.size = int(told[1])
            data = b"".join(chunks(answer, patience=self._patience, most=wanted))
        if len(data) != wanted:
            raise FailedError(f"cut off at {len(data)} of {wanted} bytes", again=True)
        return data


def opened_remotely(url: str, patience: Patience) -> io.BufferedReader:
    """Return a seekable file of a server; raise `AbsentError` or `FailedError`, also by reads."""
    return io.BufferedReader(_Ranged(url, patience), buffer_size=BLOCK)
