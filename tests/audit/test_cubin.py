"""A cubin's arch and kernels by its own headers: what does not fit is unreadable, not guessed."""

from __future__ import annotations

import struct

import pytest
from elfwright import cubin

from blackwheel.audit.blob import Blob
from blackwheel.audit.cubin import UnreadableKernelsError, cubin_size, is_cubin, read_cubin


def read(data: bytes) -> tuple[str, set[str]]:
    with Blob.new() as blob:
        blob.append(data)
        arch, kernels = read_cubin(blob)
        return arch.sm, set(kernels)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("arch", "suffix"), [(75, ""), (90, ""), (90, "a"), (120, "a")])
def test_arch_and_kernels_are_read(arch: int, suffix: str, old: bool) -> None:
    data = cubin("scale", "add", arch=arch, suffix=suffix, old=old, helpers=["tripled"])
    assert is_cubin(data[:20])
    assert read(data) == (f"sm_{arch}{suffix}", {"scale", "add"})


def test_family_is_told_by_the_compilers_words() -> None:
    assert read(cubin("scale", arch=120, suffix="f"))[0] == "sm_120f"


def test_end_is_told_by_the_headers() -> None:
    data = cubin("scale")
    with Blob.new() as blob:
        blob.append(data + bytes(1000))
        assert cubin_size(blob) == len(data)


@pytest.mark.parametrize(
    ("place", "form", "value"),
    [
        (0, "<B", 0),
        (18, "<H", 62),
        (0x28, "<Q", 0),
        (0x28, "<Q", 1 << 50),
        (0x30, "<I", 0),
        (0x3C, "<H", 0),
        (0x3C, "<H", 0xFFFF),
        (0x3E, "<H", 99),
    ],
)
def test_header_that_lies_makes_it_unreadable(place: int, form: str, value: int) -> None:
    data = bytearray(cubin("scale"))
    struct.pack_into(form, data, place, value)
    with pytest.raises(UnreadableKernelsError):
        read(bytes(data))


def test_no_changed_byte_is_a_traceback() -> None:
    data = cubin("scale", helpers=["x"])
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0xFF
        try:
            read(bytes(changed))
        except UnreadableKernelsError:
            continue


def test_names_that_share_their_ends_do_not_fill_the_memory() -> None:
    data = cubin("x" * 60_000, *[f"k{n}" for n in range(10_000)])
    changed = bytearray(data)
    long = data.index(b"x" * 60_000)
    strings = long - 1
    table = data.index(struct.pack("<IB", 1, 0x12), long)
    for number in range(10_000):
        struct.pack_into("<I", changed, table + 24 * number, long - strings + number % 50_000)
    with pytest.raises(UnreadableKernelsError, match="endless"):
        read(bytes(changed))
