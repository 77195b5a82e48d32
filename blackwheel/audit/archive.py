"""Opens a zip archive that nobody trusts: two readers of it must see the same files.

pip reads the directory at the end of an archive, uv what stands before each file on the way. Where
the two do not tell the same, or bytes belong to neither, nothing more is read.
"""

from __future__ import annotations

import contextlib
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from blackwheel.audit.findings import Finding, RefusedError
from blackwheel.audit.member import Member, Source

MOST_FILES: Final = 50_000
"""The largest wheel of cubins has 16,000."""
MOST_DIRECTORY: Final = 16 << 20
LARGEST: Final = 16 << 30
"""All files unpacked; torch takes 1.6 GB."""
RATIO, FREE = 100, 64 << 20
"""So many times its packed size may a file be that is larger than 64 MiB; the archive as well."""

_END: Final = struct.Struct("<4s4H2IH")
_END_MARK, _FILE_MARK = b"PK\x05\x06", b"PK\x03\x04"
_LARGE_END_MARK, _LOCATOR_MARK = b"PK\x06\x06", b"PK\x06\x07"
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_ENCRYPTED, _DESCRIBED, _PATCH, _UTF8 = 0x2041, 0x8, 0x20, 0x800
_TWO_ENDS: Final = "two records end the archive: which one counts?"
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_OTHER_NAME: Final = 0x7075
BROKEN: Final = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    UnicodeDecodeError,
    ValueError,
    OverflowError,
    EOFError,
    struct.error,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """An open archive whose layout holds."""

    zip: zipfile.ZipFile
    file: BinaryIO
    files: tuple[zipfile.ZipInfo, ...]
    folders: tuple[zipfile.ZipInfo, ...]
    findings: tuple[Finding, ...]

    @contextlib.contextmanager
    def reading(self, info: zipfile.ZipInfo) -> Iterator[Source]:
        """Read one of its files; raise an error of `BROKEN` where it is not as it says."""
        if info.compress_type in _METHODS and not info.flag_bits & (_ENCRYPTED | _PATCH):
            self.file.seek(info.header_offset)
            header = _LOCAL.unpack(self.file.read(_LOCAL.size))
            yield Member(self.file, info, info.header_offset + _LOCAL.size + header[9] + header[10])
        else:
            with self.zip.open(info) as stream:
                yield stream


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open an archive; raise RefusedError where readers of it would disagree, or choke on it."""
    with path.open("rb") as file:
        count, comment = _require_end(file, path.stat().st_size)
        try:
            archive = zipfile.ZipFile(file)
        except BROKEN as error:
            raise _broken(error) from None
        with archive:
            infos = archive.infolist()
            if len(infos) != count:
                fact = f"its end counts {count:,} files, its directory lists {len(infos):,}"
                raise RefusedError("two-directories", fact)
            if not all(info.filename for info in infos):  # zipfile itself stumbles over one
                raise RefusedError("unsafe-path", "the archive holds a file without a name")
            _require_layout(file, infos, archive.start_dir)
            _require_small(infos, path.stat().st_size)
            yield Archive(
                zip=archive,
                file=file,
                files=tuple(info for info in infos if not info.is_dir()),
                folders=tuple(info for info in infos if info.is_dir()),
                findings=tuple(_notes(infos, comment)),
            )


def _broken(error: Exception) -> RefusedError:
    return RefusedError("truncated-wheel", f"the archive cannot be read: {error}")


def _require_end(file: BinaryIO, size: int) -> tuple[int, bytes]:
    """Read the last record, which must end the file and name the directory.

    Returns how many files it counts, and its comment.
    """
    file.seek(max(0, size - (1 << 16) - _END.size))
    tail = file.read()
    place = tail.rfind(_END_MARK)
    first = tail.find(_END_MARK)
    if place == -1 or len(tail) - place < _END.size:
        raise RefusedError("truncated-wheel", "the archive cannot be read: File is not a zip file")
    _, _, _, here, count, length, start, commented = _END.unpack_from(tail, place)
    at = size - len(tail) + place
    if (first != place and first + _END.size + commented >= place) or here != count:
        raise RefusedError("two-directories", _TWO_ENDS)
    behind = len(tail) - place - _END.size - commented
    if behind:
        raise RefusedError("bytes-behind", f"{behind} bytes lie behind the end of the archive")
    large = tail[place - 20 : place][:4] == _LOCATOR_MARK if place >= 20 else False
    if large:
        at -= 20 + 56
        file.seek(max(0, at))
        record = file.read(56)
        if at < 0 or record[:4] != _LARGE_END_MARK:
            raise RefusedError("bytes-before", "its second last record is not where it should be")
        small, most = (count, length, start), (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        here, count, length, start = struct.unpack_from("<4Q", record, 24)
        large_ones = zip(small, (count, length, start), most, strict=True)
        if here != count or any(one not in (told, full) for one, told, full in large_ones):
            raise RefusedError("two-directories", _TWO_ENDS)
    if count > MOST_FILES or length > MOST_DIRECTORY:
        raise RefusedError("too-many-files", f"it lists {count:,} files in {length:,} bytes")
    if start + length != at:
        raise RefusedError(
            "bytes-before", f"{at - start - length} bytes stand before the archive, or in it"
        )
    return count, tail[place + _END.size :]


def _require_layout(file: BinaryIO, infos: Sequence[zipfile.ZipInfo], directory: int) -> None:
    """Every file must stand where the directory says, under the same name, and nothing between."""
    faults: list[Finding] = []
    place = 0
    for info in sorted(infos, key=lambda one: one.header_offset):
        name = info.orig_filename
        gap = info.header_offset - place
        if gap:
            fact = (
                f"{gap} bytes before it belong to no file"
                if gap > 0
                else "it lies on another file's bytes"
            )
            faults.append(Finding(name="hidden-bytes", fact=fact, library=name))
        file.seek(info.header_offset)
        fault, header = _local_fault(file.read(_LOCAL.size), file, info)
        if fault:
            faults.append(Finding(name="two-headers", fact=fault, library=name))
        place = info.header_offset + header + info.compress_size
        if info.flag_bits & _DESCRIBED:
            place += _descriptor(file, place, info)
        if len(faults) > 20:
            break
    if place != directory and not faults:
        fact = f"{directory - place} bytes behind the last file belong to none"
        faults.append(Finding(name="hidden-bytes", fact=fact))
    if faults:
        raise RefusedError("odd-archive", "readers of it would not see the same files", *faults)


def _local_fault(header: bytes, file: BinaryIO, info: zipfile.ZipInfo) -> tuple[str, int]:
    """Compare what stands before a file with the directory; return a fault and how long it is."""
    if len(header) < _LOCAL.size or header[:4] != _FILE_MARK:
        return "no file begins where the directory says", 0
    _, _, flags, method, _, _, crc, packed, size, name_size, extra = _LOCAL.unpack(header)
    name = file.read(name_size)
    length = _LOCAL.size + name_size + extra
    coded = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437", "replace")
    more = file.read(extra)
    if name != coded or (not name.isascii() and (flags ^ info.flag_bits) & _UTF8):
        return f"the directory calls it so, the file itself {name!r}", length
    if _has_other_name(more):
        return "the file itself has a second name, which some readers take", length
    if method != info.compress_type or (flags ^ info.flag_bits) & (_ENCRYPTED | _DESCRIBED):
        return "the directory and the file itself tell another compression", length
    if not flags & _DESCRIBED:
        sizes = (_large(size, more, 0), _large(packed, more, size == 0xFFFFFFFF))
        if (crc, *sizes) != (info.CRC, info.file_size, info.compress_size):
            return "the directory and the file itself tell another size", length
    return "", length


def _large(size: int, extra: bytes, number: int) -> int:
    """Return a size, from the extra field where it takes more than 32 bits."""
    place = 0
    while size == 0xFFFFFFFF and place + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, place)
        if kind == 1 and 8 * number + 8 <= length and place + 12 + 8 * number <= len(extra):
            return int(struct.unpack_from("<Q", extra, place + 4 + 8 * number)[0])
        place += 4 + length
    return size


def _descriptor(file: BinaryIO, place: int, info: zipfile.ZipInfo) -> int:
    """Return how long the record behind a file's data is that tells its size."""
    file.seek(place)
    data = file.read(24)
    begin = 4 if data[:4] == b"PK\x07\x08" else 0
    for width, code in ((4, "<III"), (8, "<IQQ")):
        length = begin + 4 + 2 * width
        if length <= len(data):
            told = struct.unpack_from(code, data, begin)
            if told == (info.CRC, info.compress_size, info.file_size):
                return length
    return 0


def _require_small(infos: Sequence[zipfile.ZipInfo], size: int) -> None:
    for info in infos:
        if info.file_size > FREE and info.file_size > RATIO * max(1, info.compress_size):
            fact = f"grows from {info.compress_size:,} to {info.file_size:,} bytes"
            raise RefusedError("zip-bomb", f"{info.orig_filename}: {fact}")
    total = sum(info.file_size for info in infos)
    if total > LARGEST or (total > FREE and total > RATIO * size):
        raise RefusedError("zip-bomb", f"it grows from {size:,} to {total:,} bytes")


def _notes(infos: Sequence[zipfile.ZipInfo], comment: bytes) -> Iterator[Finding]:
    if comment:
        fact = f"a comment of {len(comment)} bytes ends the archive"
        yield Finding(name="archive-comment", fact=fact)
    for info in infos:
        name = info.orig_filename
        if info.flag_bits & (_ENCRYPTED | _PATCH):
            yield Finding(name="encrypted", fact="is encrypted, or a patch", library=name)
        elif info.compress_type not in _METHODS:
            fact = f"is packed in another way ({info.compress_type}) than every installer knows"
            yield Finding(name="compression", fact=fact, library=name)
        if _has_other_name(info.extra):
            fact = "has a second name, which some readers take"
            yield Finding(name="two-headers", fact=fact, library=name)
        if info.is_dir() and info.file_size:
            yield Finding(name="unsafe-path", fact="is a folder with bytes", library=name)


def _has_other_name(extra: bytes) -> bool:
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, place)
        if kind == _OTHER_NAME:
            return True
        place += 4 + length
    return False
