"""What the loader would do with a library: refused in a stack's wheel, told of a foreign one."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from elfwright import AARCH64, CORE, LIBRARY, OBJECT, PROGRAM, R, W, X, elf
from toytorch import build_library
from wheelwright import ARCHS, BARE, LABEL, NAME, SO, TORCH, make_wheel, native, require, verdicts

from blackwheel.audit.audit import inspect

LD = "/lib64/ld-linux-x86-64.so.2"
C = ("NEEDED", "libc.so.6")


def wheel_of(folder: Path, data: bytes, path: str = "toy/_x.so", **how: object) -> Path:
    return make_wheel(folder, {SO: native(), path: data}, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "name", "foreign"),
    [
        (elf(stack=R | W | X), "executable-stack", "fatal"),
        (elf(stack=None), "executable-stack", "fatal"),
        (elf(load=R | W | X), "writable-code", "note"),
        (elf(tags=[(22, 0)]), "text-relocations", "note"),
        (elf(tags=[(30, 4)]), "text-relocations", "note"),
        (elf(names=[C, ("AUDIT", "evil.so")]), "odd-elf", "note"),
        (elf(names=[C, ("DEPAUDIT", "evil.so")]), "odd-elf", "note"),
        (elf(names=[C, ("FILTER", "evil.so")]), "odd-elf", "note"),
        (elf(names=[C, ("AUXILIARY", "evil.so")]), "odd-elf", "note"),
        (elf(names=[C, ("RUNPATH", "/usr/local/cuda/lib64")]), "runpath", "note"),
        (elf(names=[C, ("RPATH", "/srv/lib")]), "runpath", "note"),
        (elf(names=[C, ("RUNPATH", "$ORIGIN:")]), "runpath", "note"),
        (elf(names=[C, ("RPATH", ".:$ORIGIN")]), "runpath", "note"),
        (elf(names=[C, ("RUNPATH", "$ORIGIN/../..")]), "runpath", "note"),
        (elf(names=[C, ("RUNPATH", "$ORIGIN/../../../../x")]), "runpath", "note"),
        (elf(names=[C, ("RUNPATH", "$ORIGIN/../other/lib")]), "runpath", "note"),
        (elf(names=[C, ("RUNPATH", "$ORIGIN/../$LIB")]), "runpath", "note"),
        (elf(names=[C, ("RUNPATH", "lib")]), "runpath", "note"),
        (elf(names=[C, ("NEEDED", "/srv/libevil.so")]), "runpath", "note"),
        (elf(names=[C, ("NEEDED", "libcudart.so.12")]), "unknown-library", "note"),
        (elf(names=[C, ("SONAME", "libc10.so")]), "soname-clash", "note"),
        (elf(names=[C, ("SONAME", "libtorch_cpu.so")]), "soname-clash", "note"),
        (elf(names=[C, ("SONAME", "libstdc++.so.6")]), "soname-clash", "note"),
        (elf(names=[C, ("SONAME", "libcuda.so.1")]), "soname-clash", "note"),
        (elf(names=[C, ("SONAME", "libcudart.so.13")]), "soname-clash", "note"),
        (elf(exports=["malloc"]), "interposed-symbol", "note"),
        (elf(exports=["_Znwm", "_ZdlPv"]), "interposed-symbol", "note"),
        (elf(exports=["PyObject_Call"]), "interposed-symbol", "note"),
        (elf(exports=["cudaLaunchKernel"]), "interposed-symbol", "note"),
        (elf(exports=["__cxa_throw"]), "own-cxx-runtime", "note"),
        (elf(isa=0b10), "isa-level", "note"),
        (elf(isa=0b1000), "isa-level", "note"),
        (elf(isa=0b10000), "isa-level", "note"),
        (elf(interpreter="/lib/ld-musl-x86_64.so.1"), "other-sub-loader", "note"),
        (elf(tls=2000, tags=[(30, 0x10)]), "static-tls", "note"),
        (elf(tls=1 << 20, tags=[(30, 0x10)]), "does-not-load", "fatal"),
        (elf(system=9), "does-not-load", "fatal"),
        (elf(kind=CORE), "does-not-load", "fatal"),
        (elf(sections=False), "odd-section-headers", "note"),
        (elf(trailing=b"x" * 100), "trailing-data", "note"),
        (elf(rodata=native()), "odd-elf", "note"),
        (elf(machine=AARCH64), "other-machine-code", "note"),
        (elf(machine=3), "other-machine-code", "note"),
    ],
)
def test_library_like_that_is_named(tmp_path: Path, data: bytes, name: str, foreign: str) -> None:
    require(wheel_of(tmp_path, data), name, foreign)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (elf(machine=AARCH64), "other-machine"),
        (elf(kind=PROGRAM), "does-not-load"),
        (elf(kind=OBJECT), "does-not-load"),
    ],
)
def test_module_that_cannot_be_imported_is_refused_everywhere(
    tmp_path: Path, data: bytes, name: str
) -> None:
    for number, path in enumerate((SO, "toy/_x.abi3.so")):
        require(wheel_of(tmp_path / f"{number}", data, path), name, "fatal")


@pytest.mark.parametrize(
    "data",
    [
        elf(),
        elf(names=[C, ("RUNPATH", "$ORIGIN")]),
        elf(names=[C, ("RUNPATH", "${ORIGIN}/lib")]),
        elf(names=[C, ("RUNPATH", "$ORIGIN/../torch/lib")]),
        elf(names=[C, ("RUNPATH", "$ORIGIN/../nvidia/cu13/lib:$ORIGIN/../nvidia/cudnn/lib")]),
        elf(names=[C, ("RUNPATH", "")]),  # an empty one is none
        elf(names=[C, ("NEEDED", "libcudart.so.13"), ("NEEDED", "libtorch.so")]),
        elf(names=[C, ("SONAME", "libtoy.so")]),
        elf(tls=100, tags=[(30, 0x10)]),
        elf(tls=1 << 20),
        elf(isa=1),
        elf(exports=["PyInit__x", "PyModExport__x", "launch"]),
    ],
)
def test_ordinary_library_is_no_finding(tmp_path: Path, data: bytes) -> None:
    report = inspect(wheel_of(tmp_path, data), archs=ARCHS, expected=BARE)
    assert report.findings == ()


@pytest.mark.parametrize(
    ("requires", "path", "fine"),
    [
        (["torch"], "$ORIGIN/../torch/lib", True),
        ([], "$ORIGIN/../torch/lib", False),
        (["nvidia-cublas"], "$ORIGIN/../nvidia/cublas/lib", True),
        ([], "$ORIGIN/../nvidia/cublas/lib", False),
        ([], "$ORIGIN/../toy.libs", True),
        ([], "$ORIGIN/lib/../..", True),
    ],
)
def test_folder_of_a_neighbour_is_one_that_is_required(
    tmp_path: Path, requires: list[str], path: str, fine: bool
) -> None:
    files = {"toy/_x.so": elf(names=[C, ("RUNPATH", path)]), "toy.libs/libx.so": elf()}
    seen = verdicts(make_wheel(tmp_path, files, requires=requires))
    assert ("runpath" not in seen.noted) == (fine or path.endswith("/../.."))


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("$ORIGIN/../..", "outside of site-packages"),
        ("/usr/lib", "not a place beside it"),
        ("lib", "a folder of whoever runs it"),
        ("$ORIGIN:", "that is the folder which a program happens to run in"),
        ("$ORIGIN/../other", "a folder of another package, other, which it does not require"),
    ],
)
def test_folder_is_refused_with_its_reason(tmp_path: Path, path: str, why: str) -> None:
    data = elf(names=[C, ("RUNPATH", path)])
    report = inspect(wheel_of(tmp_path, data), archs=ARCHS, expected=BARE)
    assert [one.fact.rpartition(": ")[2] for one in report.fatal] == [why]


def test_torchs_own_wheel_may_have_torchs_names(tmp_path: Path) -> None:
    data = elf(names=[("SONAME", "libc10.so"), C])
    name = NAME.replace("toy-", "torch-")
    wheel = make_wheel(tmp_path, {"torch/lib/libc10.so": data}, name=name, requires=[])
    assert "soname-clash" not in verdicts(wheel).noted
    other = NAME.replace("toy-", "evil-")
    wheel = make_wheel(tmp_path, {"evil/libc10.so": data}, name=other, requires=[])
    assert "soname-clash" in verdicts(wheel).noted


def test_program_may_have_its_own_ways(tmp_path: Path) -> None:
    data = elf(kind=PROGRAM, stack=None, interpreter=LD, exports=[])
    seen = verdicts(wheel_of(tmp_path, data, "toy/bin/tool"))
    assert "executable-stack" in seen.noted
    assert seen.fatal == set()


def test_constructors_are_one_note(tmp_path: Path) -> None:
    gcc = ["_ITM_registerTMCloneTable"]  # who wants this has one constructor from the compiler
    busy = {f"toy/_{n}.so": elf(tags=[(27, 8 * n)], wanted=gcc) for n in range(1, 7)}
    report = inspect(make_wheel(tmp_path, busy), archs=ARCHS)
    (note,) = [one for one in report.findings if one.name == "constructors"]
    assert not note.fatal
    assert note.fact == (
        "functions run while it is loaded, before any is called:"
        " toy/_6.so: 5, toy/_5.so: 4, toy/_4.so: 3 and 2 more libraries"
    )


RUNS = """
#include <stdlib.h>
__attribute__((constructor)) static void begin(void) { if (getenv("NOPE")) system("id"); }
"""


@pytest.mark.parametrize(
    ("source", "flags", "starts"),
    [
        (RUNS, [], True),
        (RUNS, ["-nostartfiles"], True),  # no constructor of the compiler's beside it
        (RUNS.replace("__attribute__((constructor)) static ", ""), [], False),
        (RUNS.replace('system("id")', "abort()"), [], False),
    ],
    ids=["constructor", "alone", "when called", "starts nothing"],
)
def test_library_that_may_start_programs_while_it_is_loaded_has_a_note_of_its_own(
    tmp_path: Path, source: str, flags: list[str], starts: bool
) -> None:
    (tmp_path / "x.c").write_text(source)
    out = tmp_path / "_x.so"
    argv = ["gcc", "-shared", "-fPIC", "-o", out, tmp_path / "x.c", *flags]
    subprocess.run(argv, check=True)
    report = inspect(wheel_of(tmp_path, out.read_bytes()), archs=ARCHS)
    notes = [str(one) for one in report.findings if one.name == "constructors" and one.library]
    fact = "runs code while it is loaded, and can start programs: system"
    assert notes == ([f"constructors: toy/_x.so: {fact}"] if starts else [])
    assert "constructors" not in {one.name for one in report.fatal}


THROWS = """
#include <stdexcept>
#include <string>
extern "C" int f(int x) {
    try { throw std::runtime_error(std::to_string(x)); } catch (std::exception &e) { return 1; }
}
"""


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ([], ""),
        (["-static-libstdc++"], "own-cxx-runtime"),
        (["-static-libstdc++", "-static-libgcc"], "own-cxx-runtime"),
        (["-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL"], "own-cxx-runtime"),
        (
            ["-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL", "-s"],
            "own-cxx-runtime",
        ),
        (["-static-libgcc"], "own-unwinder"),
    ],
)
def test_runtime_of_its_own_is_found_though_its_symbols_are_hidden(
    tmp_path: Path, flags: list[str], name: str
) -> None:
    library = build_library(tmp_path / "_x.so", THROWS, flags=flags)
    wheel = wheel_of(tmp_path, library.read_bytes())
    if name:
        require(wheel, name, "note", expected=replace(BARE, glibc="2.99"))
    else:
        assert not verdicts(wheel).noted & {"own-cxx-runtime", "own-unwinder"}


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["-Wl,-z,execstack"], "executable-stack"),
        (["-Wl,-rpath,/usr/local/cuda/lib64"], "runpath"),
        (["-Wl,-rpath,/srv/lib", "-Wl,--disable-new-dtags"], "runpath"),
        (["-Wl,-f,libevil.so"], "odd-elf"),
        (["-Wl,--audit,libevil.so"], "odd-elf"),
        (["-Wl,-soname,libc10.so"], "soname-clash"),
        (["-ftls-model=initial-exec"], "does-not-load"),
    ],
)
def test_what_a_linker_makes_is_named(tmp_path: Path, flags: list[str], name: str) -> None:
    source = tmp_path / "x.c"
    source.write_text("__thread char big[1 << 20]; char *f(int i) { return &big[i]; }\n")
    out = tmp_path / "_x.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", out, source, *flags], check=True)
    assert name in verdicts(wheel_of(tmp_path, out.read_bytes()), BARE).own


def test_text_relocations_of_a_linker_are_named(tmp_path: Path) -> None:
    source = tmp_path / "x.s"
    source.write_text(".data\n.globl g\ng: .quad 1\n.text\n.globl h\nh: .quad g\n")
    out = tmp_path / "_x.so"
    argv = ["gcc", "-shared", "-nostdlib", "-Wl,-z,notext", "-o", out, source]
    subprocess.run(argv, check=True)
    assert "text-relocations" in verdicts(wheel_of(tmp_path, out.read_bytes()), BARE).own


def test_machine_is_that_of_the_tag(tmp_path: Path) -> None:
    name = f"toy-1.0+{LABEL}-cp312-cp312-manylinux_2_28_aarch64.whl"
    arm = make_wheel(tmp_path, {"toy/_x.so": elf(machine=AARCH64)}, name=name, requires=[TORCH])
    assert not verdicts(arm).noted & {"other-machine", "other-machine-code"}
    intel = make_wheel(tmp_path / "x", {"toy/_x.so": elf(kind=LIBRARY)}, name=name)
    assert "other-machine-code" in verdicts(intel).noted
