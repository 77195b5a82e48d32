"""93 kinds of hostile and broken wheels: each is refused or noted for its own reason, in seconds.

A kind is a right wheel with one thing wrong. As a wheel of a stack it must be refused for that; of
a wheel from elsewhere it is told, or stops it where no installer or loader takes such a thing.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from elfwright import CORE, R, W, X, cubin, elf, entry, fat_binary, packed_entry
from toytorch import build_library
from wheelwright import (
    ARCHS,
    INFO,
    LABEL,
    NAME,
    SO,
    TORCH,
    TOY,
    held_files,
    make_wheel,
    native,
    record_row,
    rewritten,
)
from zipwright import File, archive

from blackwheel.audit.audit import Exports, Finding, inspect
from blackwheel.audit.exports import system_exports

INIT, TEXT = "toy/__init__.py", b"NAME = 'toy'\n"
DATA = f"toy-1.0+{LABEL}.data"
C = ("NEEDED", "libc.so.6")
OLD = entry(cubin("scale", arch=90), arch=90)
RIGHT = fat_binary(entry(cubin("scale", suffix="a"), suffix="a"))
Make = Callable[[Path], Path]


@dataclass(frozen=True)
class Kind:
    """How a wheel of it is made, and the names of the findings that are its own reason."""

    make: Make
    own: str
    """Stops a stack's own wheel; of the one right wheel empty."""
    foreign: str = "note"
    """`note` or `fatal`: what becomes of a wheel from elsewhere."""
    told: str = ""
    """The name of the finding there, where it is another."""


def files(held: Mapping[str, bytes], **how: object) -> Make:
    """A right wheel with these files more, or in place of its own."""
    return lambda folder: make_wheel(folder, {SO: native(), **held}, **how)  # type: ignore[arg-type]


def library(data: bytes, path: str = SO) -> Make:
    return files({path: data})


def requires(*lines: str) -> Make:
    return files({}, requires=(*lines, "einops"))


def metadata(change: Callable[[str], str]) -> Make:
    return lambda folder: rewritten(files({})(folder), f"{INFO}/METADATA", change)


def wheel_file(change: Callable[[str], str]) -> Make:
    return lambda folder: rewritten(files({})(folder), f"{INFO}/WHEEL", change)


def record(change: Callable[[str], str]) -> Make:
    return files({}, record=change)


def row(change: Callable[[str], str]) -> Make:
    """Another line of RECORD for the one file that every toy holds."""
    right = record_row(INIT, TEXT)
    return record(lambda text: text.replace(right, change(right)))


def zipped(change: Callable[[list[File]], bytes]) -> Make:
    """The files of a right wheel, written by hand."""

    def make(folder: Path) -> Path:
        held = held_files(files({})(folder / "right"))
        (folder / NAME).write_bytes(change([File(name.encode(), held[name]) for name in held]))
        return folder / NAME

    return make


def raw_record(more: bytes) -> Make:
    """Lines of RECORD that no text can hold."""

    def change(held: list[File]) -> bytes:
        for one in held:
            one.data += more if one.name.endswith(b"/RECORD") else b""
        return archive(held)

    return zipped(change)


def with_one(held: list[File], **values: object) -> list[File]:
    for name, value in values.items():
        setattr(held[0], name, value)
    return held


def bomb(name: bytes, head: bytes, mib: int) -> Make:
    """Zeros without end: one megabyte is packed once, and said again and again.

    The checksum is that of nothing: nobody may read so far.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = first + block * mib + packer.flush()
    one = File(name, b"", packed=packed, size=len(head) + (mib << 20))
    return zipped(lambda held: archive([*held, one]))


def overlapping(held: list[File]) -> bytes:
    """A hundred names for the same packed zeros."""
    zeros = File(b"toy/z0", bytes(1 << 20))
    return archive(
        [
            *held,
            zeros,
            *(File(b"toy/z%d" % n, zeros.data, same_as=b"toy/z0") for n in range(1, 100)),
        ]
    )


def renamed(name: bytes) -> Make:
    """A name that no zip writer takes, put in behind it."""
    stand_in = "toy/" + "#" * (len(name) - 4)

    def make(folder: Path) -> Path:
        wheel = files({stand_in: b"x = 1\n"})(folder)
        wheel.write_bytes(wheel.read_bytes().replace(stand_in.encode(), name))
        return wheel

    return make


def with_mode(path: str, bits: int) -> Make:
    info = zipfile.ZipInfo(path)
    info.external_attr = (stat.S_IFREG | bits) << 16
    more = record_row(path, b"#!/bin/sh\n")
    return files({}, unlisted=[(info, b"#!/bin/sh\n")], record=lambda text: text + more)


def twice(folder: Path) -> Path:
    return make_wheel(folder, {SO: native()}, unlisted=[(INIT, TEXT)])


def without_record(folder: Path) -> Path:
    return zipped(lambda held: archive([f for f in held if not f.name.endswith(b"RECORD")]))(folder)


def without_library(folder: Path) -> Path:
    return make_wheel(folder, {INIT: b"scale = offset = abs\n"})


def code(data: bytes, section: str = ".nv_fatbin") -> bytes:
    return elf(exports=["PyInit__C"], rodata=data, section=section)


def patched(data: bytes, place: int, form: str, *values: int) -> bytes:
    copy = bytearray(data)
    struct.pack_into(form, copy, place, *values)
    return bytes(copy)


def said_to_be_empty(data: bytes) -> bytes:
    """The section of its device code holds no bytes of the file, its header says (NOBITS)."""
    table = struct.unpack_from("<Q", data, 0x28)[0]
    return patched(data, table + 64 + 4, "<I", 8)


def compiled(source: str, *flags: str) -> Make:
    """A second library, made by gcc."""

    def make(folder: Path) -> Path:
        (folder / "x.c").write_text(source)
        argv = ["gcc", "-shared", "-fPIC", "-O1", "-o", folder / "x.so", folder / "x.c", *flags]
        subprocess.run(argv, check=True)
        return library((folder / "x.so").read_bytes(), "toy/_x.so")(folder)

    return make


def throwing(*flags: str) -> Make:
    """A second library that throws, with a runtime of its own."""
    source = """
    #include <stdexcept>
    #include <string>
    extern "C" int f(int x) {
        try { throw std::runtime_error(std::to_string(x)); } catch (std::exception &e) { return 1; }
    }
    """

    def make(folder: Path) -> Path:
        built = build_library(folder / "x" / "x.so", source, flags=flags)
        return library(built.read_bytes(), "toy/_x.so")(folder)

    return make


FOLDED = 'torch===2.11.0\n        ; extra == "x"'
MIME = 'Content-Type: multipart/mixed; boundary="B"\n\n--B\nRequires-Dist: torch>=2\n\n--B--\n'
TAGS = "-".join(".".join(f"{letter}{n}" for n in range(300)) for letter in "abc")
SCREEN = "toy/a\nAll 2 kernels are native 12.0a: you need not build.\n.py"
RUNS = """
#include <stdlib.h>
__attribute__((constructor)) static void begin(void) { if (getenv("NOPE")) system("id"); }
"""
HIDDEN = ("-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL")
NOWHERE = "_ZN3c1021no_such_thing_of_torchEi"

ARCHIVES = {
    "a path that climbs out": Kind(files({"toy/../../../tmp/x.py": b"x"}), "unsafe-path", "fatal"),
    "an absolute path": Kind(files({"/toy/x.py": b"x"}), "unsafe-path", "fatal"),
    "a file that takes its owner's rights": Kind(with_mode("toy/tool", 0o4755), "file-mode"),
    "two names that differ in case": Kind(files({"toy/__INIT__.py": b"raise"}), "same-name"),
    "one name twice": Kind(twice, "duplicate-entry", "fatal"),
    "a name with two slashes": Kind(files({"toy//__init__.py": b"x"}), "unsafe-path", "fatal"),
    "a null byte in a name": Kind(renamed(b"toy/abc.py\0.txt"), "unsafe-path", "fatal"),
    "a line of the verdict in a name": Kind(files({SCREEN: b"x"}), "unsafe-path", "fatal"),
    "no RECORD": Kind(without_record, "no-record", "fatal"),
    "another digest": Kind(row(lambda _: record_row(INIT, b"y" * 13)), "wrong-record"),
    "sha512 alone": Kind(
        row(lambda _: f"{INIT},sha512={'A' * 86},{len(TEXT)}\n"), "other-record-hash"
    ),
    "a size in other digits": Kind(
        row(lambda text: text.replace(f",{len(TEXT)}", ",\u0661\u0663")), "bad-record", "fatal"
    ),
    "RECORD in Latin-1": Kind(raw_record(b"toy/\xe9.py,,\n"), "unreadable-text", "fatal"),
    "a quote that never ends": Kind(raw_record(b'"toy/x.py,,\n'), "bad-record", "fatal"),
    "3.9 GiB of zeros": Kind(bomb(b"toy/data.bin", b"", 3_990), "zip-bomb", "fatal"),
    "a library of 3 GiB of zeros": Kind(bomb(b"toy/x.so", b"\x7fELF", 3_072), "zip-bomb", "fatal"),
    "files that share their bytes": Kind(zipped(overlapping), "hidden-bytes", "fatal"),
    "a file that is not listed": Kind(
        zipped(lambda f: archive([File(b"toy/x.py", b"print()", listed=False), *f])),
        "hidden-bytes",
        "fatal",
    ),
    "a second end in the comment": Kind(
        zipped(lambda f: archive(f, comment=archive([]))), "two-directories", "fatal"
    ),
    "bytes before the archive": Kind(
        zipped(lambda f: archive(f, prefix=b"PK\3\4 unpacks itself")), "bytes-before", "fatal"
    ),
    "an encrypted file": Kind(
        zipped(lambda f: archive(with_one(f, flags=1))), "encrypted", "fatal"
    ),
    "LZMA": Kind(files({}, compression=zipfile.ZIP_LZMA), "compression"),
    "a compression that nobody knows": Kind(
        zipped(lambda f: archive(with_one(f, method=93, packed=f[0].data))), "compression"
    ),
}
PLACES = {
    "a .pth file": Kind(files({"zz.pth": b"import os\n"}), "pth-file"),
    "a .pth file by the data folder": Kind(
        files({f"{DATA}/platlib/zz.pth": b"import os\n"}), "pth-file"
    ),
    "a start file": Kind(files({"toy.start": b"toy:main\n"}), "start-file"),
    "a module beside its package": Kind(
        files({"toy.cpython-312-x86_64-linux-gnu.so": native()}), "name-clash"
    ),
    "a folder that is no package": Kind(files({"toy.more/x.py": b""}), "foreign-top-level"),
    "a scheme that is none": Kind(files({f"{DATA}/stdlib/os.py": b""}), "unknown-scheme", "fatal"),
    "a file in place of a scheme": Kind(files({f"{DATA}/purelib": b""}), "unknown-scheme", "fatal"),
    "the data folder of another": Kind(
        files({"other-1.0.data/platlib/toy/x.py": b"x"}), "foreign-data-folder"
    ),
    "a library among files for every machine": Kind(
        lambda folder: make_wheel(folder, {f"{DATA}/purelib/{SO}": native()}), "other-purelib"
    ),
    "a command that stands before pip": Kind(
        files({f"{INFO}/entry_points.txt": b"[console_scripts]\npip = toy:main\n"}),
        "extra-entry-point",
    ),
    "words of an installer": Kind(
        files({f"{INFO}/direct_url.json": b'{"url": "https://x.invalid/x"}'}), "installer-file"
    ),
    "compiled Python": Kind(
        files({"toy/__pycache__/__init__.cpython-312.pyc": b"\xa7\r\r\n" + bytes(12)}),
        "pyc-without-source",
    ),
}
METADATA = {
    "torch from 2 on": Kind(requires("torch>=2"), "torch-not-pinned"),
    "any torch 2.11": Kind(requires("torch==2.11.*"), "torch-not-pinned"),
    "torch from an address": Kind(requires("torch @ https://x.invalid/x.whl"), "url-requirement"),
    "torch for some Pythons": Kind(
        requires('torch===2.11.0; python_version < "3"'), "torch-not-pinned"
    ),
    "a second torch in capitals": Kind(
        requires(TORCH, 'TORCH==2.13.0; extra == "x"'), "torch-not-pinned"
    ),
    "one that wants a torch of its own": Kind(requires(TORCH, "vllm"), "may-swap-torch"),
    "any torchvision": Kind(requires(TORCH, "torchvision"), "may-swap-torch"),
    "a requirement over two lines": Kind(requires(FOLDED), "bad-metadata", "fatal"),
    "a field in small letters": Kind(
        metadata(lambda text: text + "requires-dist: torch>=2\n"), "torch-not-pinned"
    ),
    "in place of torch": Kind(
        metadata(lambda text: text + "Obsoletes-Dist: torch\n"), "loose-metadata"
    ),
    "two versions": Kind(
        metadata(lambda text: text.replace("Version: 1.0", "Version: 9\nVersion: 1.0")),
        "bad-metadata",
        "fatal",
    ),
    "another name": Kind(
        metadata(lambda text: text.replace("Name: toy", "Name: torch")), "name-mismatch", "fatal"
    ),
    "a Python that is none": Kind(
        metadata(lambda text: text + "Requires-Python: banana\n"), "loose-metadata"
    ),
    "a version of the format that is none": Kind(
        metadata(lambda text: text.replace("Version: 2.4", "Version: 3.0")),
        "bad-metadata",
        "fatal",
    ),
    "40 MB of it": Kind(
        metadata(lambda text: text + "\n" + "x" * (40 << 20)), "unreadable-text", "fatal"
    ),
    "a mail in parts": Kind(metadata(lambda text: text + MIME), "bad-metadata", "fatal"),
    "an ELF file": Kind(metadata(lambda text: "\x7fELF" + text), "bad-metadata", "fatal"),
    "for every machine": Kind(
        wheel_file(lambda text: text.replace("false", "true")), "other-purelib"
    ),
    "no version of the format": Kind(
        wheel_file(lambda text: text.replace("Wheel-Version: 1.0\n", "")),
        "bad-wheel-file",
        "fatal",
    ),
    "two versions of the format": Kind(
        wheel_file(lambda text: "Wheel-Version: 2.0\n" + text), "bad-wheel-file", "fatal"
    ),
    "27 million tags": Kind(wheel_file(lambda text: text + f"Tag: {TAGS}\n"), "tag-mismatch"),
    "a tag that is none": Kind(wheel_file(lambda text: text + "Tag: nonsense\n"), "tag-mismatch"),
    "another spelling of its folder": Kind(files({}, info=INFO.replace("+", "_")), "odd-dist-info"),
    "an old kind of metadata beside it": Kind(
        files({"toy.egg-info": b"Name: torch\nVersion: 99\n"}), "installer-file"
    ),
}
LIBRARIES = {
    "the current folder first": Kind(library(elf(names=[C, ("RUNPATH", ".:/x")])), "runpath"),
    "the runtime of another CUDA": Kind(
        library(elf(names=[C, ("NEEDED", "libcudart.so.12")])), "unknown-library"
    ),
    "a library that nobody brings": Kind(
        library(elf(names=[C, ("NEEDED", "libnosuch.so.9")])), "unknown-library"
    ),
    "another Python's library": Kind(
        library(elf(names=[C, ("NEEDED", "libpython3.9.so.1.0")])), "other-libpython", "fatal"
    ),
    "an executable stack": Kind(library(elf(stack=R | W | X)), "executable-stack", "fatal"),
    "code that is changed while it loads": Kind(library(elf(tags=[(22, 0)])), "text-relocations"),
    "a segment to write and run": Kind(library(elf(load=R | W | X)), "writable-code"),
    "no library": Kind(without_library, "missing-library", told="no-library"),
    "kernels of plain sm_120": Kind(library(native(suffix="")), "not-native"),
    "kernels of sm_90": Kind(library(native(arch=90, suffix="")), "not-native"),
    "packed right kernels": Kind(
        library(code(fat_binary(packed_entry(cubin("scale", suffix="a"), suffix="a")))), "", ""
    ),
    "kernels in a section of another name": Kind(
        library(code(fat_binary(OLD), ".nv_fatbit")), "not-native"
    ),
    "kernels in a section without bytes": Kind(
        library(said_to_be_empty(code(fat_binary(OLD)))), "not-native"
    ),
    "code of a kind that is none": Kind(
        library(code(patched(RIGHT, 16, "<H", 7))), "unreadable-kernels"
    ),
    "code without an end": Kind(
        library(code(patched(RIGHT, 8, "<Q", 1 << 63))), "unreadable-kernels"
    ),
    "code of no size": Kind(library(code(patched(RIGHT, 6, "<HQ", 0, 0))), "unreadable-kernels"),
    "kernels as a constant": Kind(library(code(fat_binary(OLD), ".rodata")), "not-native"),
    "kernels as a file": Kind(files({"toy/k.fatbin": fat_binary(OLD)}), "not-native"),
    "a hidden C++ runtime": Kind(throwing(*HIDDEN), "own-cxx-runtime"),
    "an unwinder of its own": Kind(throwing("-static-libgcc"), "own-unwinder"),
    "a lost symbol, without section headers": Kind(
        library(elf(wanted=[NOWHERE], sections=False)), "undefined-symbol", told="unresolved-symbol"
    ),
    "a lost variable of each thread": Kind(
        compiled("extern __thread int nosuch; int f(void) { return nosuch++; }"),
        "undefined-symbol",
        told="unresolved-symbol",
    ),
    "more room for threads than there is": Kind(
        library(elf(tls=1 << 20, tags=[(30, 0x10)])), "does-not-load", "fatal"
    ),
    "a glibc of the future": Kind(
        library(elf(versions={"libc.so.6": ["GLIBC_9.99"]})), "unknown-version", "fatal"
    ),
    "a program started while it loads": Kind(compiled(RUNS), "constructors"),
    "a library in place of another": Kind(
        library(elf(names=[C, ("AUXILIARY", "libx.so")])), "odd-elf"
    ),
    "a script": Kind(library(b"#!/bin/sh\n"), "does-not-load", "fatal"),
    "nothing": Kind(library(b""), "does-not-load", "fatal"),
    "four bytes": Kind(library(b"\x7fELF"), "unreadable-library", "fatal"),
    "the other order of bytes": Kind(
        library(patched(native(), 5, "<B", 2)), "unreadable-library", "fatal"
    ),
    "a memory image": Kind(library(elf(kind=CORE)), "does-not-load", "fatal"),
    "another system's": Kind(library(elf(system=9)), "does-not-load", "fatal"),
    "names of sections that are nowhere": Kind(
        library(patched(native(), 0x3E, "<H", 0xFF00)), "odd-section-headers"
    ),
    "for Windows": Kind(
        files({"toy/x.dll": b"MZ" + bytes(100)}), "other-data", told="unknown-file"
    ),
}
KINDS = {
    f"{group}: {name}": kind
    for group, held in (
        ("archive", ARCHIVES),
        ("place", PLACES),
        ("metadata", METADATA),
        ("library", LIBRARIES),
    )
    for name, kind in held.items()
}
NEVER_FATAL = ("constructors",)
"""A note even in a stack's own wheel: the loader of every C++ library runs some."""


@pytest.fixture(scope="module")
def exports() -> Exports:
    """An environment without torch: the system's libraries alone."""
    return Exports(torch="2.11.0", python="312", libraries=system_exports())


def cpu() -> float:
    taken = os.times()
    return taken.user + taken.system + taken.children_user + taken.children_system


def names(findings: tuple[Finding, ...], *, fatal: bool) -> set[str]:
    return {one.name for one in findings if one.fatal is fatal}


def test_there_are_93_kinds_and_each_has_a_name_of_its_own() -> None:
    assert len(KINDS) == 93 == sum(map(len, (ARCHIVES, PLACES, METADATA, LIBRARIES)))


def test_nothing_is_wrong_with_the_wheel_that_they_are_made_from(
    tmp_path: Path, exports: Exports
) -> None:
    wheel = files({})(tmp_path)
    assert inspect(wheel, archs=ARCHS, expected=TOY, exports=exports).findings == ()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", KINDS)
def test_hostile_wheel_is_refused_or_noted_for_its_own_reason(
    tmp_path: Path, exports: Exports, name: str
) -> None:
    kind = KINDS[name]
    wheel, began = kind.make(tmp_path), cpu()
    own = inspect(wheel, archs=ARCHS, expected=TOY, exports=exports).findings
    foreign = inspect(wheel, archs=ARCHS).findings
    assert cpu() - began < 10
    for one in (*own, *foreign):
        assert re.fullmatch(r"[^\x00-\x1f\x7f]*", str(one))  # safe on any terminal
    if not kind.own:
        assert names(own, fatal=True) == set() == names(foreign, fatal=True)
        return
    assert kind.own in names(own, fatal=kind.own not in NEVER_FATAL), own
    told = kind.told or kind.own
    assert told in names(foreign, fatal=kind.foreign == "fatal"), foreign
    assert told not in names(foreign, fatal=kind.foreign != "fatal"), foreign
