"""Reads one small file of a zip archive that was not audited: within a bound, or not at all."""

from __future__ import annotations

import zipfile
import zlib
from typing import Final

DAMAGED: Final = (
    EOFError,
    RuntimeError,  # a password; NotImplementedError, an unknown way of packing
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Raised by zipfile for an archive that is damaged, or is none."""
UNREADABLE: Final = (OSError, *DAMAGED)
"""The same, and what a disk raises."""
MOST_BYTES: Final = 16 << 20
"""Of a text in a wheel: METADATA, RECORD, a module."""


def held(archive: zipfile.ZipFile, name: str, *, most: int = MOST_BYTES) -> bytes:
    """Return a file of an archive; raise BadZipFile where it unpacks to more than `most` bytes."""
    with archive.open(name) as source:
        data = source.read(most + 1)
    if len(data) > most:
        raise zipfile.BadZipFile(f"{name[:100]} has more than {most} bytes")
    return data
