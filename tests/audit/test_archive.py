"""Archives that pip and uv would read differently, or choke on: nothing of them is read."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from wheelwright import ARCHS, BARE, INFO, NAME, SO, TOY, held_files, make_wheel, native, require
from zipwright import File, archive, deflated

from blackwheel.audit import archive as audited
from blackwheel.audit.audit import inspect


@pytest.fixture
def files(tmp_path: Path) -> list[File]:
    """The files of a right wheel, to be written in a wrong way."""
    wheel = make_wheel(tmp_path / "right", {SO: native()})
    return [File(name.encode(), data) for name, data in held_files(wheel).items()]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def written(data: bytes) -> Path:
        (tmp_path / NAME).write_bytes(data)
        return tmp_path / NAME

    return written


Write = Callable[[bytes], Path]


def test_archive_made_by_hand_is_read(files: list[File], write: Write) -> None:
    assert inspect(write(archive(files)), archs=ARCHS, expected=TOY).findings == ()


def test_sizes_behind_the_data_are_read(files: list[File], write: Write) -> None:
    for one in files:
        one.described = True
    assert inspect(write(archive(files)), archs=ARCHS, expected=TOY).findings == ()


def test_large_archives_are_read(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {SO: native()})
    held = held_files(wheel)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as written:
        for name, data in held.items():
            with written.open(name, "w", force_zip64=True) as sink:  # sizes in an extra field
                sink.write(data)
    assert inspect(wheel, archs=ARCHS, expected=TOY).findings == ()


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ({"prefix": b"#!/bin/sh\nexec python $0\n"}, "not-a-wheel"),
        ({"prefix": b"PK\3\4 an installer of its own"}, "odd-archive"),
        ({"prefix": b"PK\3\4 an installer of its own", "shift": True}, "odd-archive"),
        ({"behind": b"more"}, "bytes-behind"),
        ({"gap": b"between"}, "odd-archive"),
        ({"comment": archive([])}, "two-directories"),
        ({"count": 60_000}, "too-many-files"),
        ({"count": 2}, "two-directories"),
    ],
)
def test_bytes_that_belong_to_no_file_are_refused(
    files: list[File], write: Write, how: dict[str, bytes], name: str
) -> None:
    data = archive(files, **how)  # type: ignore[arg-type]
    if name == "odd-archive" and "shift" not in how and "prefix" in how:
        name = "bytes-before"
    require(write(data), name, "fatal")


def with_large_end(data: bytes, count: int) -> bytes:
    """An archive with a second end, for archives over 4 GiB, that counts so many files."""
    end = data.rindex(b"PK\5\6")
    length, start = struct.unpack_from("<II", data, end + 12)
    record = struct.pack("<4sQ2H2I2Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count)
    record += struct.pack("<2Q", length, start)
    return data[:end] + record + struct.pack("<4sIQI", b"PK\6\7", 0, end, 1) + data[end:]


def test_two_ends_must_count_the_same_files(files: list[File], write: Write) -> None:
    """Some readers take the second end only where the first one says that it is too small."""
    data = with_large_end(archive(files), len(files))
    assert inspect(write(data), archs=ARCHS, expected=TOY).findings == ()
    fewer = archive(files, count=len(files) - 1)
    require(write(with_large_end(fewer, len(files))), "two-directories", "fatal")


@pytest.mark.parametrize("length", [22, 30, 42, 97])
def test_second_end_that_begins_before_the_file_is_refused(write: Write, length: int) -> None:
    data = bytearray(b"PK\6\6" + bytes(length + 18))
    data[-22:] = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, 0, 0, 0)
    data[-42:-38] = b"PK\6\7"
    report = inspect(write(bytes(data)), archs=ARCHS)
    assert {one.name for one in report.fatal} <= {"bytes-before", "two-directories", "not-a-wheel"}
    assert report.fatal


def test_comment_is_refused_where_a_stack_makes_the_wheel(files: list[File], write: Write) -> None:
    require(write(archive(files, comment=b"built by hand")), "archive-comment", "note")


def test_file_that_the_directory_does_not_list_is_refused(files: list[File], write: Write) -> None:
    files.insert(1, File(b"toy/hidden.py", b"print(1)", listed=False))
    wheel = write(archive(files))
    assert b"toy/hidden.py" in wheel.read_bytes()
    require(wheel, "hidden-bytes", "fatal")


def test_file_under_two_names_is_refused(files: list[File], write: Write) -> None:
    files[0].local_name = b"toy/__main__.py"
    require(write(archive(files)), "two-headers", "fatal")


@pytest.mark.parametrize("change", [{"local_method": 0}, {"local_size": 3}])
def test_file_with_two_descriptions_is_refused(
    files: list[File], write: Write, change: dict[str, int]
) -> None:
    for name, value in change.items():
        setattr(files[0], name, value)
    require(write(archive(files)), "two-headers", "fatal")


def test_files_that_share_their_bytes_are_refused(files: list[File], write: Write) -> None:
    files.append(File(b"toy/twice.py", files[0].data, same_as=files[0].name))
    require(write(archive(files)), "hidden-bytes", "fatal")


@pytest.mark.parametrize(("flags", "method"), [(1, 8), (0x20, 8), (0x2000, 8)])
def test_encrypted_file_is_refused(
    files: list[File], write: Write, flags: int, method: int
) -> None:
    files[0].flags, files[0].method = flags, method
    require(write(archive(files)), "encrypted", "fatal")


@pytest.mark.parametrize(
    ("method", "foreign"), [(zipfile.ZIP_BZIP2, "note"), (zipfile.ZIP_LZMA, "note"), (93, "note")]
)
def test_other_compression_is_refused(
    tmp_path: Path, files: list[File], write: Write, method: int, foreign: str
) -> None:
    if method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        wheel = make_wheel(tmp_path / "other", {SO: native()}, compression=method)
    else:
        files[0].method, files[0].packed = method, files[0].data
        wheel = write(archive(files))
    require(wheel, "compression", foreign)


def test_second_name_in_an_extra_field_is_refused(files: list[File], write: Write) -> None:
    other = b"toy/__main__.py"
    body = struct.pack("<BI", 1, zlib.crc32(files[0].name)) + other
    files[0].extra = struct.pack("<HH", 0x7075, len(body)) + body
    require(write(archive(files)), "two-headers", "fatal")


def test_second_name_that_only_the_file_itself_has_is_refused(
    files: list[File], write: Write
) -> None:
    body = struct.pack("<BI", 1, zlib.crc32(files[0].name)) + b"toy/__main__.py"
    files[0].local_extra = struct.pack("<HH", 0x7075, len(body)) + body
    require(write(archive(files)), "two-headers", "fatal")


def test_name_in_two_codes_is_refused(files: list[File], write: Write) -> None:
    files[0].flags, files[0].local_flags = 0x800, 0
    require_right(write(archive(files)))  # letters that are the same in every code
    files[0].name = "toy/ü.py".encode()
    require(write(archive(files)), "two-headers", "fatal")


def require_right(wheel: Path) -> None:
    assert inspect(wheel, archs=ARCHS, expected=TOY).findings == ()


def test_folder_with_bytes_is_refused(files: list[File], write: Write) -> None:
    files.insert(0, File(b"toy/folder/", b"bytes"))
    require(write(archive(files)), "unsafe-path", "fatal")


def zeros(mib: int) -> tuple[bytes, int, int]:
    packer, checksum = zlib.compressobj(9, zlib.DEFLATED, -15), 0
    out, block = b"", bytes(1 << 20)
    for _ in range(mib):
        out += packer.compress(block)
        checksum = zlib.crc32(block, checksum)
    return out + packer.flush(), checksum, mib << 20


@pytest.mark.parametrize("name", [b"toy/data.bin", b"toy/data.so", INFO.encode() + b"/METADATA"])
def test_file_that_grows_beyond_measure_is_not_unpacked(
    files: list[File], write: Write, name: bytes
) -> None:
    packed, checksum, size = zeros(256)
    kept = [one for one in files if one.name != name]
    data = bytearray(archive([*kept, File(name, b"", packed=packed, size=size)]))
    # the checksum, which is that of nothing in what was written
    for mark, at in ((b"PK\3\4", 14), (b"PK\1\2", 16)):
        place = data.rindex(mark)
        struct.pack_into("<I", data, place + at, checksum)
    require(write(bytes(data)), "zip-bomb", "fatal")


def test_file_that_grows_is_refused_though_the_archive_is_large(write: Write) -> None:
    packed, checksum, size = zeros(256)
    ballast = File(b"toy/ballast", os.urandom(4 << 20), method=0)
    data = bytearray(archive([ballast, File(b"toy/zeros", b"", packed=packed, size=size)]))
    for mark, at in ((b"PK\3\4", 14), (b"PK\1\2", 16)):
        struct.pack_into("<I", data, data.rindex(mark) + at, checksum)
    require(write(bytes(data)), "zip-bomb", "fatal")


def test_many_files_that_grow_together_are_not_unpacked(write: Write) -> None:
    packed, checksum, size = zeros(32)
    many = [File(b"toy/%d" % n, b"", packed=packed, size=size) for n in range(4)]
    data = bytearray(archive(many))
    place = 0
    for _ in many:
        place = data.index(b"PK\3\4", place) + 4
        struct.pack_into("<I", data, place + 10, checksum)
    for _ in many:
        place = data.index(b"PK\1\2", place) + 4
        struct.pack_into("<I", data, place + 12, checksum)
    require(write(bytes(data)), "zip-bomb", "fatal")


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda d: {"packed": deflated(d * 1000)}, "it holds more than its 8 bytes"),
        (lambda d: {"packed": deflated(d) + b"more"}, "packed bytes follow its end"),
        (lambda d: {"packed": deflated(d)[:-3]}, "its packed bytes end early"),
        (lambda d: {"packed": deflated(d[:-1])}, f"not the {len(b'NAME = 1')} it says"),
        (lambda d: {"packed": deflated(d[::-1])}, "its checksum is another"),
        (lambda d: {"packed": d + d, "method": 0}, "it holds more than its 8 bytes"),
        (lambda d: {"packed": d[::-1], "method": 0}, "its checksum is another"),
    ],
)
def test_file_that_is_not_as_its_header_says_is_refused(
    files: list[File],
    write: Write,
    change: Callable[[bytes], dict[str, object]],
    fact: str,
) -> None:
    data = b"NAME = 1"
    files[0].data = data
    for name, value in change(data).items():
        setattr(files[0], name, value)
    report = inspect(write(archive(files)), archs=ARCHS, expected=TOY)
    assert [one.name for one in report.fatal] == ["bad-crc"], report.findings
    assert fact in report.fatal[0].fact


def test_archive_is_refused_by_one_error_with_its_reasons(files: list[File], write: Write) -> None:
    files.insert(1, File(b"toy/hidden.py", b"print(1)", listed=False))
    report = inspect(write(archive(files)), archs=ARCHS, expected=TOY)
    assert [str(one) for one in report.findings] == [
        "odd-archive: readers of it would not see the same files",
        f"hidden-bytes: {files[2].name.decode()}: 53 bytes before it belong to no file",
    ]


@pytest.mark.parametrize("cut", [1, 21, 22, 60, 200])
def test_archive_that_is_cut_off_is_refused(files: list[File], write: Write, cut: int) -> None:
    report = inspect(write(archive(files)[:-cut]), archs=ARCHS)
    assert {one.name for one in report.fatal} <= {"truncated-wheel", "bytes-before", "odd-archive"}
    assert report.fatal


def test_every_byte_of_the_directory_is_held_to(files: list[File], write: Write) -> None:
    """A changed byte in a header is refused, or changes nothing that an installer acts on."""
    small = [one for one in files if not one.name.endswith(b".so")]
    data = archive(small)
    begin = data.index(b"PK\1\2")
    for place in range(begin, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 0x55
        inspect(write(bytes(changed)), archs=ARCHS, expected=BARE)  # never raises


def test_directory_larger_than_the_budget_is_not_read(
    files: list[File], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audited, "MOST_FILES", 3)
    require(write(archive(files)), "too-many-files", "fatal")
