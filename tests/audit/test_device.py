"""Fat binaries whose headers lie: what cannot be read is unknown, and no walk is endless."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest
from elfwright import X, cubin, elf, entry, fat_binary, packed_entry, ptx, ptx_entry
from wheelwright import ARCHS, SO, make_wheel, require

from blackwheel.audit import device
from blackwheel.audit.audit import inspect
from blackwheel.audit.blob import Blob
from blackwheel.audit.device import Found
from blackwheel.audit.elf import read_elf_of
from blackwheel.audit.kernels import KernelCounts, read_library
from blackwheel.audit.sections import read_sections

CODE = entry(cubin("scale", suffix="a"), suffix="a")
RIGHT = fat_binary(CODE)


def found(data: bytes) -> Found:
    with Blob.new() as blob:
        blob.append(data)
        if data[:4] != b"\x7fELF":
            return device.find(blob)
        return device.find(blob, read_elf_of(blob, "x.so"), read_sections(blob))


def changed(data: bytes, place: int, form: str, *values: int) -> bytes:
    copy = bytearray(data)
    struct.pack_into(form, copy, place, *values)
    return bytes(copy)


@pytest.mark.parametrize(
    ("code", "fact"),
    [
        (changed(RIGHT, 0, "<I", 0), "no fat binary header at offset "),
        (changed(RIGHT, 4, "<H", 9), "no fat binary header at offset "),
        (changed(RIGHT, 6, "<H", 0), "no fat binary header at offset "),
        (changed(RIGHT, 6, "<HQ", 0, 0), "no fat binary header at offset "),
        (changed(RIGHT, 8, "<Q", 0), "no fat binary header at offset "),
        (changed(RIGHT, 8, "<Q", 1 << 63), "no fat binary header at offset "),
        (changed(RIGHT, 8, "<Q", 1 << 20), "no fat binary header at offset "),
        (changed(RIGHT, 8, "<Q", len(RIGHT) - 40), "device code of unknown kind 2 at offset "),
        (changed(RIGHT, 20, "<I", 0), "device code of unknown kind 2 at offset "),
        (changed(RIGHT, 20, "<I", 1 << 31), "device code of unknown kind 2 at offset "),
        (changed(RIGHT, 24, "<Q", 1 << 63), "device code of unknown kind 2 at offset "),
        (changed(RIGHT, 44, "<I", 0), "device code for no known arch (0) at offset "),
        (changed(RIGHT, 44, "<I", 1 << 31), "device code for no known arch (2147483648)"),
        (RIGHT[:10], "a fat binary at offset "),
        (bytes(4096), "the section for device code holds none"),
        (RIGHT + b"more than padding", "no fat binary header at offset "),
        (b"before it" + RIGHT, "no fat binary header at offset "),
    ],
)
def test_header_that_lies_makes_the_library_unknown(tmp_path: Path, code: bytes, fact: str) -> None:
    if fact == "a fat binary at offset ":
        data = elf(sections=False, trailing=code)
    else:
        data = elf(rodata=code, section=".nv_fatbin")
    seen = found(data)
    assert [one for one in seen.faults if one.startswith(fact)], seen.faults
    assert seen.any
    require(make_wheel(tmp_path, {SO: data}), "unreadable-kernels", "note")


@pytest.mark.parametrize(
    ("code", "fact"),
    [
        (entry(cubin("scale", arch=90), suffix="a"), "a cubin of sm_90 under"),
        (entry(cubin("scale", arch=90, old=True), suffix="a"), "a cubin of sm_90 under"),
        (entry(cubin("scale"), suffix="a"), "a cubin of sm_120 under"),
        (entry(cubin("scale", arch=90, suffix="a"), suffix="a"), "a cubin of sm_90a under"),
    ],
)
def test_header_that_names_another_arch_than_its_cubin_is_no_proof(
    tmp_path: Path, code: bytes, fact: str
) -> None:
    """One byte in a header would make old code native."""
    data = elf(rodata=fat_binary(code), section=".nv_fatbin")
    wheel = make_wheel(tmp_path, {SO: data})
    (library,) = inspect(wheel, archs=ARCHS).libraries
    assert library.kernels == KernelCounts()
    assert library.unreadable == f"{fact} a header that says sm_120a"
    require(wheel, "unreadable-kernels", "note")


def test_packed_cubin_is_held_to_its_size_and_its_arch(tmp_path: Path) -> None:
    right = cubin("scale", arch=90, old=True)
    for number, (code, counts, fact) in enumerate(
        (
            (packed_entry(right, arch=90), KernelCounts(missing=1), ""),
            (packed_entry(right, suffix="a"), KernelCounts(), "a cubin of sm_90 under a header"),
            (packed_entry(right, arch=90, unpacked=1 << 31), KernelCounts(), "one piece of"),
            (packed_entry(right, arch=90, unpacked=8), KernelCounts(), ""),
        )
    ):
        (tmp_path / "x.so").write_bytes(elf(rodata=fat_binary(code), section=".nv_fatbin"))
        library = read_library(tmp_path / "x.so", path="x.so", sha256="", wanted=ARCHS)
        assert library.kernels == counts, number
        assert library.unreadable.startswith(fact)
        assert bool(library.unreadable) == (number > 0), number


def test_kind_of_code_that_nobody_knows_is_unknown(tmp_path: Path) -> None:
    data = elf(rodata=fat_binary(CODE, entry(b"IR", kind=8)), section=".nv_fatbin")
    require(make_wheel(tmp_path, {SO: data}), "unreadable-kernels", "note")
    (library,) = inspect(make_wheel(tmp_path, {SO: data}), archs=ARCHS).libraries
    assert library.kernels == KernelCounts(native=1)
    assert library.unread_archs == (("sm_120", 1),)


def test_every_fat_binary_that_a_library_registers_must_be_seen() -> None:
    wrapper = struct.pack("<II", 0x466243B1, 1) + bytes(16)
    whole = elf(rodata=RIGHT + wrapper, section=".rodata")
    assert found(whole).faults == []
    two = elf(rodata=RIGHT + wrapper + wrapper, section=".rodata")
    assert found(two).faults == ["it registers 2 fat binaries, 1 can be seen"]


def test_code_that_compares_with_the_mark_is_no_device_code() -> None:
    """The CUDA runtime, linked statically, holds the mark in an instruction."""
    compare = bytes(8) + struct.pack("<I", 0xBA55ED50) + b"\x75\x10" + bytes(64)
    assert not found(elf(rodata=compare, load=4 | X)).any
    assert found(elf(rodata=compare, load=4)).faults
    assert not found(elf(rodata=b"x" + compare, load=4)).any  # at no address that one has
    assert found(elf(rodata=b"x" + RIGHT, load=4)).units  # but a whole one is one anywhere


def test_fat_binary_inside_of_another_is_unknown() -> None:
    inner = fat_binary(entry(cubin("evil", arch=90), arch=90))
    seen = found(fat_binary(entry(ptx("scale") + b"\n/*" + inner + b"*/", kind=1)))
    assert len(seen.units) == 1
    assert seen.faults[0].startswith("a fat binary inside of another at offset ")


def test_linked_kernels_are_counted_once(tmp_path: Path) -> None:
    """`-rdc` leaves the kernels in a section of their own too, as they were before linking."""
    kernels = KernelCounts(native=1)
    for path, relocatable in (("same", RIGHT), ("other", fat_binary(OTHER))):
        begin = RIGHT + relocatable
        data = bytearray(elf(rodata=begin, section=".nv_fatbin"))
        (tmp_path / path).write_bytes(with_sections(bytes(data), len(RIGHT), len(relocatable)))
        library = read_library(tmp_path / path, path=path, sha256="", wanted=ARCHS)
        assert library.kernels == kernels
        kernels = KernelCounts(native=1, missing=1)


OTHER = entry(cubin("evil", arch=90), arch=90)
OLD, OLD_PTX = entry(cubin("scale", arch=90), arch=90), ptx_entry("scale", arch=90)
ADD, ADD_PTX = entry(cubin("add", arch=90), arch=90), ptx_entry("add", arch=90)
OLDER, LOST = entry(cubin("scale", arch=80), arch=80), entry(b"no cubin", arch=80)
BOTH = fat_binary(entry(cubin("scale", "add", arch=90), arch=90))


@pytest.mark.parametrize(
    ("linked", "left", "counts"),
    [
        (fat_binary(OLD), fat_binary(OLD, OLD_PTX), KernelCounts(ptx=1)),
        (RIGHT, fat_binary(CODE, OLD_PTX), KernelCounts(native=1)),
        (BOTH, fat_binary(OLD, OLD_PTX) + fat_binary(ADD, ADD_PTX), KernelCounts(ptx=2)),
        (BOTH, fat_binary(OLD, OLD_PTX) + fat_binary(ADD), KernelCounts(missing=2)),
        # a name that stands in two units, and code that nothing shows to be the linked kernel's
        (fat_binary(OLD) * 2, fat_binary(OLD, OLD_PTX), KernelCounts(ptx=1, missing=2)),
        (RIGHT, fat_binary(OLD_PTX), KernelCounts(native=1, ptx=1)),
        (RIGHT, fat_binary(OLD, OLD_PTX), KernelCounts(native=1, ptx=1)),
        (RIGHT, fat_binary(OLD), KernelCounts(native=1, missing=1)),
        # of the linked code for one arch nobody can read more than the header
        (fat_binary(OLD, LOST), fat_binary(OLD, OLDER, OLD_PTX), KernelCounts(ptx=1)),
    ],
)
def test_ptx_left_over_from_linking_is_the_linked_kernels_own(
    tmp_path: Path, linked: bytes, left: bytes, counts: KernelCounts
) -> None:
    """The driver links it anew where no linked code runs, if it finds PTX of every object."""
    data = elf(rodata=linked + left, section=".nv_fatbin")
    (tmp_path / "x.so").write_bytes(with_sections(data, len(linked), len(left)))
    library = read_library(tmp_path / "x.so", path="x.so", sha256="", wanted=ARCHS)
    assert library.kernels == counts
    assert bool(library.unreadable) == (LOST in linked)


def with_sections(data: bytes, first: int, second: int) -> bytes:
    """Split the section for device code: what follows is said to be relocatable."""
    at = struct.unpack_from("<Q", data, 0x28)[0]
    begin = struct.unpack_from("<Q", data, at + 64 + 0x18)[0]
    names = b"\0.nv_fatbin\0__nv_relfatbin\0.shstrtab\0"
    body = data[:at] + names
    body += bytes(-len(body) % 8)

    def header(name: int, kind: int, place: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, kind, 2, place, place, size, 0, 0, 8, 0)

    table = bytes(64) + header(1, 1, begin, first) + header(12, 1, begin + first, second)
    table += header(27, 3, at, len(names))
    out = bytearray(body + table)
    struct.pack_into("<Q", out, 0x28, len(body))
    struct.pack_into("<HH", out, 0x3C, 4, 3)
    return bytes(out)


@pytest.mark.parametrize(
    "data",
    [
        b"\x50\xed\x55\xba" * 500_000,
        RIGHT[:16] * 100_000,
        fat_binary() * 120_000,
        b"\x7fELF\x02\x01\x01" * 300_000,
        cubin("k")[:64] * 60_000,
        b".version 8.0\n.target sm_80\n" * 100_000,
        b".target sm_80\n" * 300_000,
        b".version 8.0\n.target sm_80\n" + b".entry a(" * 500_000,
        b"\x1f\x8b\x08\x00" * 500_000,
        b"\xfd7zXZ\0" * 300_000,
        (fat_binary(entry(b""))) * 40_000,
        fat_binary(*[entry(b"", kind=1)] * 100_000),
    ],
)
def test_endless_marks_are_given_up_on(tmp_path: Path, data: bytes) -> None:
    began = time.monotonic()
    for number, body in enumerate((data, b"\0" + data, elf(rodata=data))):
        (tmp_path / "x").write_bytes(body)
        library = read_library(tmp_path / "x", path=f"{number}", sha256="", wanted=ARCHS)
        assert not library.kernels.native
    assert time.monotonic() - began < 30


def test_chained_entries_are_not_walked_again_and_again() -> None:
    """Headers in front of each other's entries would make the walk quadratic."""
    tail = entry(b"", kind=1) * 30_000
    body, count = tail, 3_000
    for _ in range(count):
        first = struct.pack("<HHIQIIHHIIIQ", 1, 0x101, 64, 80, 0, 0, 8, 1, 90, 0, 0, 0x11)
        inner = first + bytes(16)
        body = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(inner) + len(body)) + inner + body
    began = time.monotonic()
    assert found(body).faults
    assert time.monotonic() - began < 10
