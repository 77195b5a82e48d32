"""Every file is of a known kind, or named; device code is found whatever holds it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from elfwright import cubin, elf, entry, fat_binary, ptx
from wheelwright import ARCHS, SO, TOY, make_wheel, native, require, verdicts

from blackwheel.audit import contents
from blackwheel.audit.audit import inspect
from blackwheel.audit.contents import Reading
from blackwheel.audit.kernels import KernelCounts, Library
from blackwheel.audit.packed import Budget
from blackwheel.audit.wheel import unpack

OLD = entry(cubin("scale", arch=90), arch=90)
OLD_CODE = fat_binary(OLD)
NAMED = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\3\0abcname\0comment\0hc" + zlib.compress(OLD_CODE)[2:-4]
"""Gzip with all that may stand before its data, and nothing behind it."""
RELEASED = cubin("scale", arch=90, old=True).replace(b"\xbe\0\1\0", b"\xbe\0\x81\0")
"""CUDA 12.9 writes its release in the place of ELF's version."""


def report(tmp_path: Path, path: str, data: bytes) -> tuple[list[str], list[Library]]:
    """Names of what is noted of a foreign wheel with this file, and the files with code."""
    found = inspect(make_wheel(tmp_path, {SO: native(), path: data}), archs=ARCHS)
    assert found.fatal == ()
    return [one.name for one in found.findings], [one for one in found.libraries if one.path != SO]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("toy/x.py", b"x = 1\n"),
        ("toy/x.py", "# -*- coding: latin-1 -*-\nx = 'ü'\n".encode("latin-1")),
        ("toy/x.py", b""),
        ("toy/py.typed", b""),
        ("toy/x.json", b"{}"),
        ("toy/x", "größer ≤ 日本語\n".encode()),
        ("toy/run.sh", b"#!/bin/sh\n"),
        ("toy/x.cuh", "// Müller\n".encode("latin-1")),
        ("toy/LICENSE", "© Müller\n".encode("latin-1")),
        ("toy/x.png", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        ("toy/x.jpg", b"\xff\xd8\xff" + bytes(100)),
        ("toy/large.txt", "ä".encode() * (1 << 20)),
    ],
)
def test_file_of_a_harmless_kind_is_no_finding(tmp_path: Path, path: str, data: bytes) -> None:
    wheel = make_wheel(tmp_path, {SO: native(), path: data})
    assert inspect(wheel, archs=ARCHS, expected=TOY).findings == ()


@pytest.mark.parametrize(
    ("path", "data", "name", "foreign"),
    [
        ("toy/x.bin", bytes(range(256)) * 10, "unknown-file", "note"),
        ("toy/x.py", b"x = 1\n\0", "unknown-file", "note"),
        ("toy/x.py", b"x = 'text' " * 200_000 + b"\0\1\2", "unknown-file", "note"),
        ("toy/x.txt", b"\xff\xfe" + "wide".encode("utf-16-le"), "unknown-file", "note"),
        ("toy/x.npy", b"\x93NUMPY\1\0" + bytes(100), "other-data", ""),
        ("toy/x.bc", b"BC\xc0\xde" + bytes(100), "other-data", ""),
        ("toy/x.db", b"SQLite format 3\0" + bytes(100), "other-data", ""),
        ("toy/x.dll", b"MZ" + bytes(100), "other-data", ""),
        ("toy/x.dll", b"MZ" + bytes(100), "unknown-file", "note"),
        ("toy/x.npz", b"PK\5\6" + bytes(18), "other-data", ""),
    ],
)
def test_file_of_another_kind_is_named(
    tmp_path: Path, path: str, data: bytes, name: str, foreign: str
) -> None:
    wheel = make_wheel(tmp_path, {SO: native(), path: data})
    if (name, foreign) == ("unknown-file", "note") and path.endswith(".dll"):
        assert "unknown-file" in verdicts(wheel).noted
        return
    require(wheel, name, foreign)


def test_stack_may_allow_its_wheel_data(tmp_path: Path) -> None:
    files = {SO: native(), "toy/tables/x.npy": b"\x93NUMPY\1\0" + bytes(100)}
    wheel = make_wheel(tmp_path, files)
    allowed = replace(TOY, data=("toy/tables/*.npy",))
    assert inspect(wheel, archs=ARCHS, expected=allowed).findings == ()
    other = replace(TOY, data=("toy/other/*",))
    assert [one.name for one in inspect(wheel, archs=ARCHS, expected=other).fatal] == ["other-data"]


@pytest.mark.parametrize(
    ("path", "data", "kind"),
    [
        ("toy/k.cubin", cubin("scale", arch=90), "cubin"),
        ("toy/k.bin", cubin("scale", arch=90), "cubin"),
        ("toy/k.cubin", cubin("scale", arch=90, old=True), "cubin"),
        ("toy/k.fatbin", OLD_CODE, "file"),
        ("toy/weights.bin", bytes(4096) + OLD_CODE, "file"),
        ("toy/weights.bin", bytes((1 << 20) - 2) + OLD_CODE, "file"),  # over the end of a chunk
        ("toy/k.pyc", OLD_CODE, "file"),
        ("toy/x.png", b"\x89PNG\r\n\x1a\n" + OLD_CODE, "file"),
        ("toy/x.bin", b"x" + cubin("scale", arch=90), "file"),
        ("toy/k.a", b"!<arch>\nk.o/            0 \n" + OLD_CODE, "archive"),
        ("toy/_x.so", elf(rodata=OLD_CODE, section=".nv_fatbin"), "library"),
        ("toy/_x.so", elf(rodata=OLD_CODE, section=".rodata"), "library"),
        ("toy/_x.so", elf(rodata=OLD_CODE, sections=False), "library"),
        ("toy/_x.so", elf(rodata=b"x" + OLD_CODE), "library"),
        ("toy/_x.so", elf(rodata=cubin("scale", arch=90)), "library"),
        ("toy/_x.so", elf(rodata=RELEASED), "library"),
        ("toy/_x.so", elf(trailing=OLD_CODE), "library"),
        ("toy/_x.o", elf(kind=1, rodata=OLD_CODE), "object"),
        ("toy/_x.so", elf(rodata=gzip.compress(OLD_CODE)), "library"),
        ("toy/_x.so", elf(rodata=lzma.compress(OLD_CODE)), "library"),
    ],
)
def test_code_for_another_card_is_found(tmp_path: Path, path: str, data: bytes, kind: str) -> None:
    names, (library,) = report(tmp_path, path, data)
    assert "not-native" in names
    assert (library.kernels, library.kind) == (KernelCounts(missing=1), kind)
    assert library.elf_archs == (("sm_90", 1),)
    require(make_wheel(tmp_path / "own", {SO: native(), path: data}), "not-native", "note")


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_120"])
@pytest.mark.parametrize(
    ("path", "before"),
    [
        ("toy/k.ptx", b""),
        ("toy/k.txt", b""),
        ("toy/k.py", b"PTX = '''"),
        ("toy/k.md", b"# how it was\n```\n" * 100_000),
        ("toy/_x.so", b"ELF"),
        ("toy/k.bin", b"\0\1\2\3"),
    ],
)
def test_ptx_is_found_in_any_file(tmp_path: Path, path: str, before: bytes, target: str) -> None:
    text = ptx("scale", "add", target=target)
    data = elf(rodata=text + b"\0") if before == b"ELF" else before + text
    names, (library,) = report(tmp_path, path, data)
    assert "not-native" in names
    assert library.kernels == KernelCounts(ptx=2)
    assert library.ptx_archs == ((target, 1),)


def test_talk_of_ptx_is_none(tmp_path: Path) -> None:
    text = b"nvcc writes .target sm_80 and .version into PTX; .entry begins a kernel\n"
    assert report(tmp_path, "toy/README.md", text) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        ptx("scale").replace(b".target sm_80", b".target /* a comment */ sm_80"),
        ptx("scale").replace(b".target sm_80", b".target // a comment\nsm_80"),
        ptx("scale").replace(b".target sm_80", b".target texmode_independent, sm_80, debug"),
        ptx("scale").replace(b".version 8.0", b".version /* a comment */ 8.0"),
        ptx("scale").replace(b".target", b"//" + b"x" * 3_000_000 + b"\n.target"),
        ptx("scale").replace(b"entry scale", b"entry /* a comment */ scale"),
    ],
    ids=["comment", "line", "mode", "version", "long", "entry"],
)
def test_ptx_is_found_whatever_comments_it_holds(tmp_path: Path, text: bytes) -> None:
    for path, data in (("toy/k.txt", text), ("toy/_x.so", elf(rodata=text + b"\0"))):
        names, (library,) = report(tmp_path, path, data)
        assert "not-native" in names
        assert library.kernels == KernelCounts(ptx=1)


def test_ptx_whose_kernels_have_no_names_is_unknown(tmp_path: Path) -> None:
    text = ptx("scale").replace(b"entry scale", b"entry /*" + b"x" * 9_000 + b"*/ scale")
    names, (library,) = report(tmp_path, "toy/k.ptx", text)
    assert "unreadable-kernels" in names
    assert library.unreadable.endswith("whose kernels cannot be named")
    require(make_wheel(tmp_path, {SO: native(), "toy/k.ptx": text}), "unreadable-kernels", "note")


def test_cubin_of_32_bits_is_unknown(tmp_path: Path) -> None:
    narrow = b"\x7fELF\x01\x01\x01" + bytes(9) + b"\2\0\xbe\0\1\0\0\0"
    names, (library,) = report(tmp_path, "toy/_x.so", elf(rodata=bytes(8) + narrow))
    assert "unreadable-kernels" in names
    assert library.unreadable.startswith("a cubin of 32 bits at offset ")


def zipped(data: bytes) -> bytes:
    with io.BytesIO() as out:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("k.fatbin", data)
        return out.getvalue()


def tarred(data: bytes) -> bytes:
    with io.BytesIO() as out:
        with tarfile.open(fileobj=out, mode="w") as archive:
            info = tarfile.TarInfo("k.fatbin")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        return out.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda data: gzip.compress(tarred(data)),
    "zip.xz": lambda data: lzma.compress(zipped(data)),
    "second stream": lambda data: gzip.compress(b"first") + gzip.compress(data),
}


@pytest.mark.parametrize("how", PACKERS)
def test_code_is_found_in_packed_files(tmp_path: Path, how: str) -> None:
    names, (library,) = report(tmp_path, "toy/k.dat", PACKERS[how](OLD_CODE))
    assert "not-native" in names
    assert library.path.startswith("toy/k.dat!")
    assert library.kernels == KernelCounts(missing=1)


def test_code_beside_what_is_packed_is_counted_with_it(tmp_path: Path) -> None:
    """Of as many pieces as lie in the archive by a name, one may hide in its comment."""
    right = fat_binary(entry(cubin("scale", suffix="a"), suffix="a"))
    for method, beside in ((zipfile.ZIP_DEFLATED, OLD_CODE), (zipfile.ZIP_STORED, b"")):
        with io.BytesIO() as out:
            with zipfile.ZipFile(out, "w", method) as archive:
                archive.writestr("k.fatbin", right)
                archive.comment = beside
            data = out.getvalue()
        _, libraries = report(tmp_path, "toy/k.dat", data)
        counts = [KernelCounts(native=1), KernelCounts(missing=1)]
        assert [one.kernels for one in libraries] == counts[: 1 + bool(beside)]


def test_library_in_a_packed_file_is_no_library_of_the_wheel(tmp_path: Path) -> None:
    _, libraries = report(tmp_path, "toy/k.gz", gzip.compress(native()))
    assert [one.kernels for one in libraries] == [KernelCounts(native=1)]
    require(
        make_wheel(tmp_path / "own", {SO: native(), "toy/k.gz": gzip.compress(native())}),
        "undeclared-library",
        "",
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\x28\xb5\x2f\xfd" + bytes(100),  # zstd
        b"\x04\x22\x4d\x18" + bytes(100),  # lz4
        b"7z\xbc\xaf\x27\x1c" + bytes(100),
        b"!<thin>\nfar away",
        gzip.compress(b"x" * 1000)[:-20],
        gzip.compress(b"x") + b"more",
        zipped(b"x" * 1000)[:-30],
        b"\x1f\x8b\x08" + bytes(50),
        gzip.compress(gzip.compress(gzip.compress(gzip.compress(gzip.compress(b"deep"))))),
    ],
    ids=["zstd", "lz4", "7z", "thin", "cut", "more", "cut zip", "no gzip", "deep"],
)
def test_packed_file_that_cannot_be_opened_is_unknown(tmp_path: Path, data: bytes) -> None:
    require(make_wheel(tmp_path, {SO: native(), "toy/k.dat": data}), "packed-data", "note")


def test_packed_files_have_a_budget(tmp_path: Path) -> None:
    nested = gzip.compress(gzip.compress(bytes(100 << 20)))  # 100 MiB of zeros in a few bytes
    files = {SO: native(), **{f"toy/{n}.gz": nested for n in range(3)}}
    require(make_wheel(tmp_path, files), "packed-data", "note")


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (gzip.compress(OLD_CODE)[:-8], "gzip at "),  # without its checksum
        (gzip.compress(OLD_CODE)[:-8] + bytes(8), "gzip at "),
        (NAMED, "gzip at "),
        (b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * 70_000, "gzip whose header has no end"),
        (gzip.compress(b"x") * 257 + gzip.compress(OLD_CODE), "more than 256 places may hold"),
        (gzip.compress(bytes(1 << 20) + OLD_CODE), "gzip at "),
        (lzma.compress(OLD_CODE)[:-40], "xz that cannot be read"),
        (bz2.compress(OLD_CODE)[:-8], "bzip2 that cannot be read"),
    ],
    ids=[
        "cut",
        "other checksum",
        "named",
        "long name",
        "behind many",
        "behind much",
        "cut xz",
        "cut bzip2",
    ],
)
def test_code_packed_inside_of_a_library_is_found_or_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, fact: str
) -> None:
    monkeypatch.setattr(contents, "TRIAL_SIZE", 1 << 20)
    names, (library,) = report(tmp_path, "toy/_x.so", elf(rodata=data))
    assert "unreadable-kernels" in names
    assert library.unreadable.startswith(fact)


def test_budget_that_ends_inside_of_a_library_leaves_it_unknown(tmp_path: Path) -> None:
    data = elf(rodata=gzip.compress(bytes(1 << 20)) + gzip.compress(OLD_CODE))
    wheel = make_wheel(tmp_path, {"toy/_x.so": data})
    reading = Reading(archs=ARCHS, budget=Budget(size=1 << 19))
    (library,) = unpack(wheel, reading).libraries
    assert library.unreadable == "what is packed in this wheel is too large to be looked at"


def test_mark_of_a_packer_alone_is_nothing(tmp_path: Path) -> None:
    """A library that unpacks such files holds their marks too."""
    marks = b"\xfd7zXZ\0" + bytes(9) + (b"\x1f\x8b\x08" + b"\xff" * 9) * 300 + b"BZh\x001AY&SY"
    names, (library,) = report(tmp_path, "toy/_x.so", elf(rodata=marks))
    assert (library.host_only, names) == (True, [])


def test_letters_of_a_packer_that_begin_a_file_are_none(tmp_path: Path) -> None:
    """bzip2's mark stands four bytes behind its beginning."""
    names, _ = report(tmp_path, "toy/x.bin", b"x1AY&SY" + bytes(range(256)))
    assert "unknown-file" in names


@pytest.mark.parametrize(
    ("path", "data", "name", "foreign"),
    [
        (SO, b"", "does-not-load", "fatal"),
        (SO, b"#!/bin/sh\n", "does-not-load", "fatal"),
        (SO, bytes(range(256)), "does-not-load", "fatal"),
        (SO, cubin("scale", suffix="a"), "does-not-load", "fatal"),
        (SO, fat_binary(OLD), "does-not-load", "fatal"),
        ("toy/_x.abi3.so", elf(machine=224), "does-not-load", "fatal"),
        (SO, b"\x7fELF", "unreadable-library", "fatal"),
        (SO, b"\x7fELF\x01\x01\x01" + bytes(100), "unreadable-library", "fatal"),
        (SO, b"\x7fELF\x02\x02\x01" + bytes(100), "unreadable-library", "fatal"),
        ("toy/libx.so.1", b"INPUT(libx.so.1.2)", "odd-elf", "note"),
        ("toy/libx.so.1", native()[:200], "unreadable-library", "fatal"),
        ("toy/x.dat", native()[:200], "odd-elf", "note"),
        ("toy/x.dat", b"x" + native(), "odd-elf", "note"),
    ],
)
def test_library_that_is_none_is_named(
    tmp_path: Path, path: str, data: bytes, name: str, foreign: str
) -> None:
    require(make_wheel(tmp_path, {SO: native(), path: data}), name, foreign)


def test_amd_code_is_device_code_of_another_maker(tmp_path: Path) -> None:
    code = bytearray(elf(machine=224))
    found = inspect(make_wheel(tmp_path, {SO: native(), "toy/k.hsaco": bytes(code)}), archs=ARCHS)
    assert ("device", 1) in found.files


def test_kinds_are_counted(tmp_path: Path) -> None:
    files = {SO: native(), "toy/k.ptx": ptx("scale"), "toy/x.bin": bytes(range(256))}
    found = inspect(make_wheel(tmp_path, files), archs=ARCHS)
    assert dict(found.files) == {"text": 3, "python": 1, "native": 1, "device": 1, "unknown": 1}
