"""The dynamic interface of a library, read as the loader reads it; no table leads astray."""

from __future__ import annotations

import struct
import subprocess
import time
from pathlib import Path

import pytest
from elfwright import DYNAMIC, PROGRAM, elf

from blackwheel.audit.blob import Blob
from blackwheel.audit.elf import Elf, UnreadableLibraryError, read_elf, read_elf_of
from blackwheel.audit.sections import read_sections


def read(data: bytes) -> Elf:
    with Blob.new() as blob:
        blob.append(data)
        return read_elf_of(blob, "x.so")


def compiled(folder: Path, source: str, *flags: str) -> Path:
    (folder / "x.c").write_text(source)
    argv = ["gcc", "-shared", "-fPIC", "-o", folder / "x.so", folder / "x.c", *flags]
    subprocess.run(argv, check=True)
    return folder / "x.so"


def test_all_that_a_library_says_is_read() -> None:
    seen = read(
        elf(
            names=[
                ("SONAME", "libx.so.1"),
                ("NEEDED", "libc.so.6"),
                ("NEEDED", "libtorch.so"),
                ("RPATH", "$ORIGIN"),
                ("RUNPATH", "$ORIGIN/../lib:/tmp"),
                ("AUDIT", "libaudit.so"),
                ("AUXILIARY", "libaux.so"),
                ("FILTER", "libfilter.so"),
            ],
            tags=[(22, 0), (30, 0x10), (27, 24), (36, 0)],
            exports=["PyInit__C"],
            wanted=["malloc", "newest"],
            versions={"libc.so.6": ["GLIBC_2.2.5", "GLIBC_2.38"], "libm.so.6": ["GLIBC_2.29"]},
            versioned={"newest": "GLIBC_2.38"},
            tls=100,
            interpreter="/lib64/ld-linux-x86-64.so.2",
            isa=0b101,
        )
    )
    assert seen.needed == ("libc.so.6", "libtorch.so")
    assert (seen.soname, seen.exports) == ("libx.so.1", frozenset({"PyInit__C"}))
    malloc, newest = seen.wanted
    assert (malloc.name, malloc.version, newest.version, newest.file) == (
        *("malloc", "", "GLIBC_2.38", "libc.so.6"),
    )
    dynamic = seen.dynamic
    assert (dynamic.rpath, dynamic.runpath) == ("$ORIGIN", "$ORIGIN/../lib:/tmp")
    assert dynamic.odd == (
        ("DT_AUDIT", "libaudit.so"),
        ("DT_FILTER", "libfilter.so"),
        ("DT_AUXILIARY", "libaux.so"),
    )
    assert dynamic.text_relocations
    assert dynamic.static_tls
    assert dynamic.packed_relocations
    assert dynamic.constructors == 3
    assert ("libm.so.6", "GLIBC_2.29") in dynamic.versions
    assert (seen.tls, seen.isa) == (100, "x86-64-v3")
    assert seen.interpreter == "/lib64/ld-linux-x86-64.so.2"
    assert not seen.executable_stack
    assert seen.relro


@pytest.mark.parametrize(
    "flags",
    [
        ["-Wl,--hash-style=gnu"],
        ["-Wl,--hash-style=sysv"],
        ["-Wl,--hash-style=both"],
        ["-Wl,--hash-style=gnu", "-fvisibility=hidden"],
    ],
)
def test_real_library_is_read_without_its_section_headers(tmp_path: Path, flags: list[str]) -> None:
    source = """
    #include <stdlib.h>
    extern int from_afar(int);
    int mine(int x) { return from_afar(x) + abs(rand()); }
    """
    whole = compiled(tmp_path, source, *flags)
    with_headers = read_elf(whole)
    data = bytearray(whole.read_bytes())
    struct.pack_into("<Q", data, 0x28, 0)
    struct.pack_into("<HH", data, 0x3C, 0, 0)
    (tmp_path / "bare.so").write_bytes(data)
    bare = read_elf(tmp_path / "bare.so")
    assert bare.wanted == with_headers.wanted
    assert {one.name for one in bare.wanted} >= {"from_afar", "rand"}
    assert bare.exports == with_headers.exports
    assert ("mine" in bare.exports) == ("hidden" not in flags[-1])


def test_stack_is_executable_unless_said_otherwise(tmp_path: Path) -> None:
    for flag, stack in (("-z,execstack", True), ("-z,noexecstack", False)):
        assert read_elf(compiled(tmp_path, "int x;", f"-Wl,{flag}")).executable_stack is stack
    assert read(elf(stack=None)).executable_stack  # what the loader does then


def test_packed_relocations_are_seen(tmp_path: Path) -> None:
    source = """
    #include <stdlib.h>
    static const char *names[64] = {"a", "b", "c"};
    const char *at(int i) { return names[(i + rand()) & 63]; }
    """
    packed = read_elf(compiled(tmp_path, source, "-Wl,-z,pack-relative-relocs"))
    assert packed.dynamic.packed_relocations
    assert ("libc.so.6", "GLIBC_ABI_DT_RELR") in packed.dynamic.versions
    assert not any(one.version == "GLIBC_ABI_DT_RELR" for one in packed.wanted)


def test_program_is_no_library() -> None:
    assert read(elf(kind=PROGRAM)).kind == "program"


@pytest.mark.parametrize(
    ("place", "form", "value", "fact"),
    [
        (0, "<4s", b"\x7fELG", "not an ELF file"),
        (4, "<B", 1, "not a 64-bit little-endian library"),
        (5, "<B", 2, "not a 64-bit little-endian library"),
        (6, "<B", 0, "not a 64-bit little-endian library"),
        (16, "<H", 0xFE00, "type 65024: no loader knows these"),
        (20, "<I", 9, "ELF version 9"),
        (32, "<Q", 1 << 62, "56 bytes at offset"),
        (32, "<Q", (1 << 64) - 8, "bytes at offset"),
        (54, "<H", 1, "program headers of 1 bytes"),
        (56, "<H", 0xFFFF, "65535 program headers of 56 bytes"),
        (64 + 32, "<Q", 1 << 40, "a segment ends at"),
        (64 + 56 + 8, "<Q", 1 << 60, "a segment ends at"),
    ],
)
def test_header_that_lies_is_named(place: int, form: str, value: int | bytes, fact: str) -> None:
    data = bytearray(elf())
    struct.pack_into(form, data, place, value)
    with pytest.raises(UnreadableLibraryError) as caught:
        read(bytes(data))
    assert fact.replace("56 bytes at", "bytes at") in str(caught.value)


def segments(data: bytes, *more: tuple[int, ...]) -> bytes:
    """A file with these program headers behind its own, in the room of its notes and names."""
    count = struct.unpack_from("<H", data, 56)[0]
    changed = bytearray(data)
    for number, one in enumerate(more, count):
        assert 64 + 56 * (number + 1) <= 64 + 56 * count + ROOM
        struct.pack_into("<IIQQQQQQ", changed, 64 + 56 * number, *one)
    struct.pack_into("<H", changed, 56, count + len(more))
    return bytes(changed)


ROOM = 256
ROOMY = elf(interpreter="x" * ROOM, kind=PROGRAM)


def changed(data: bytes, place: int, form: str, *values: int) -> bytes:
    copy = bytearray(data)
    struct.pack_into(form, copy, place, *values)
    return bytes(copy)


def without_end(data: bytes) -> bytes:
    """Cut the dynamic segment before its null; the loader reads on."""
    size = struct.unpack_from("<Q", data, 64 + 56 + 32)[0]
    return changed(data, 64 + 56 + 32, "<QQ", size - 16, size - 16)


def moved(data: bytes) -> bytes:
    """Have the dynamic segment's address name other bytes than its offset does."""
    at = struct.unpack_from("<Q", data, 64 + 56 + 8)[0]
    return changed(data, 64 + 56 + 16, "<Q", at + 16)


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (segments(ROOMY, (DYNAMIC, 4, 0, 0, 0, 16, 16, 8)), "it has 2 dynamic segments"),
        (segments(ROOMY, (1, 4, 64, 0, 0, 64, 64, 4096)), "two segments share the address 0x0"),
        (segments(ROOMY, (1, 4, 0, 64, 0, 9, 9, 4096)), "two segments share the address 0x40"),
        (segments(ROOMY, (1, 4, 0, 1 << 11, 0, 9, 9, 4096)), "two segments share the address"),
        (segments(ROOMY, (1, 4, 256, 256, 0, 0, 64, 4096)), "two segments share the address 0x100"),
        (without_end(elf()), "its dynamic segment has no end"),
        (moved(elf()), "is mapped from another place"),
    ],
)
def test_segments_that_two_readers_would_take_differently_are_refused(
    data: bytes, fact: str
) -> None:
    with pytest.raises(UnreadableLibraryError, match=fact):
        read(data)


def test_segments_one_behind_the_other_are_read() -> None:
    read(segments(ROOMY, (1, 4, 0, 1 << 20, 0, 64, 64, 4096)))
    end = len(ROOMY) - struct.unpack_from("<Q", ROOMY, 0x28)[0]
    assert end > 0  # its section headers follow what is mapped, on the same page
    read(segments(ROOMY, (1, 4, len(ROOMY) - end, len(ROOMY) - end, 0, end, end, 4096)))


def dynamic_entry(data: bytes, number: int) -> int:
    """Where an entry of the dynamic segment lies in the file."""
    at = struct.unpack_from("<Q", data, 64 + 56 + 8)[0]
    assert struct.unpack_from("<I", data, 64 + 56)[0] == DYNAMIC
    while struct.unpack_from("<Q", data, at)[0] != number:
        at += 16
    return at


VERSIONED = elf(
    wanted=["newest"],
    exports=["mine"],
    versions={"libc.so.6": ["GLIBC_2.38"], "libm.so.6": ["GLIBC_2.29"]},
    versioned={"newest": "GLIBC_2.38"},
)


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (5, 1 << 40),  # strings
        (10, 1 << 40),  # their size
        (10, 1),
        (6, 1 << 40),  # symbols
        (4, 1 << 40),  # hash
        (0x6FFFFFF0, 1 << 50),  # versions of symbols
        (0x6FFFFFFE, 1 << 50),  # needed versions
        (1, 1 << 40),  # a name
    ],
)
def test_dynamic_segment_that_points_elsewhere_is_named(number: int, value: int) -> None:
    data = bytearray(VERSIONED)
    struct.pack_into("<Q", data, dynamic_entry(VERSIONED, number) + 8, value)
    with pytest.raises(UnreadableLibraryError):
        read(bytes(data))


@pytest.mark.parametrize("count", [1 << 20, 1 << 32, (1 << 64) - 1])
def test_chain_of_versions_that_never_ends_does(count: int) -> None:
    """Each says that the next is 0 bytes, or some bytes back: around for ever."""
    began = time.monotonic()
    for back in (0, (1 << 32) - 16, 16):
        data = bytearray(VERSIONED)
        at = struct.unpack_from("<Q", data, dynamic_entry(VERSIONED, 0x6FFFFFFE) + 8)[0]
        struct.pack_into("<H", data, at + 2, 0xFFFF)
        struct.pack_into("<I", data, at + 16 + 12, back)
        struct.pack_into("<I", data, at + 12, back)
        struct.pack_into("<Q", data, dynamic_entry(VERSIONED, 0x6FFFFFFF) + 8, count)
        try:
            read(bytes(data))
        except UnreadableLibraryError:
            continue
    assert time.monotonic() - began < 5


def test_hash_table_that_never_ends_is_named() -> None:
    table = struct.pack("<IIIIQI", 1, 1, 1, 0, 0, 1) + struct.pack("<I", 2) * 100_000
    data = bytearray(elf(rodata=table))
    place = bytes(data).index(table)
    struct.pack_into("<QQ", data, dynamic_entry(bytes(data), 4), 0x6FFFFEF5, place)
    with pytest.raises(UnreadableLibraryError):
        read(bytes(data))


def test_names_that_share_their_ends_do_not_fill_the_memory() -> None:
    data = elf(exports=["x" * 50_000], wanted=[f"w{n}" for n in range(20_000)])
    changed = bytearray(data)
    symbols = struct.unpack_from("<Q", data, dynamic_entry(data, 6) + 8)[0]
    strings = struct.unpack_from("<Q", data, dynamic_entry(data, 5) + 8)[0]
    long = data.index(b"x" * 50_000, strings) - strings
    for number in range(1, 20_000):
        struct.pack_into("<I", changed, symbols + 24 * number, long + number)
    with pytest.raises(UnreadableLibraryError, match="longer than their table"):
        read(bytes(changed))


def test_no_changed_byte_is_a_traceback() -> None:
    """Every byte of headers and tables, in turn: an Elf comes back, or a named error."""
    data = elf(
        wanted=["newest"],
        exports=["mine"],
        versions={"libc.so.6": ["GLIBC_2.38"]},
        tls=8,
        isa=1,
        interpreter="/lib64/ld.so",
    )
    for place in range(len(data)):
        for value in (0x00, 0xFF, data[place] ^ 0x80):
            changed = bytearray(data)
            changed[place] = value
            with Blob.new() as blob:
                blob.append(bytes(changed))
                read_sections(blob)
                try:
                    read_elf_of(blob, "x.so")
                except UnreadableLibraryError:
                    continue


@pytest.mark.parametrize(
    ("place", "form", "value", "fault"),
    [
        (0x28, "<Q", 0, "there are none"),
        (0x28, "<Q", 1 << 60, "they do not fit the file"),
        (0x3A, "<H", 1, "one is 1 bytes long"),
        (0x3C, "<H", 0xFF00, "they do not fit the file"),
        (0x3E, "<H", 0xFF00, "number 65280 is said to hold the names"),
        (0x3E, "<H", 3, "number 3 is said to hold the names"),
    ],
)
def test_section_headers_that_lie_are_named(place: int, form: str, value: int, fault: str) -> None:
    data = bytearray(elf())
    struct.pack_into(form, data, place, value)
    with Blob.new() as blob:
        blob.append(bytes(data))
        assert fault in read_sections(blob).fault
    assert read(bytes(data)).needed == ("libc.so.6",)  # the loader does not care


def test_more_section_headers_than_memory_is_for_are_not_read() -> None:
    data = elf()
    table = struct.unpack_from("<Q", data, 0x28)[0]
    many = changed(changed(data, 0x3C, "<H", 0), table + 32, "<Q", 200_000)  # the first one tells
    with Blob.new() as blob:
        blob.append(many + bytes(64 * 200_000))
        assert read_sections(blob).fault == "of 200000, number 2 is said to hold the names"
