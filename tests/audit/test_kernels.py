"""Archs in real cubins: each kernel is counted, and nothing that cannot be read passes."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uv
from elftools.elf.elffile import ELFFile
from wheelwright import LABEL, TORCH, make_wheel

from blackwheel.audit import fatbin
from blackwheel.audit.audit import Expected, inspect
from blackwheel.audit.fatbin import UnreadableKernelsError
from blackwheel.audit.kernels import KernelCounts, Library, _dump, arch_findings, read_library
from blackwheel.core.archs import parse, parse_list
from blackwheel.stacks.records import Contract
from blackwheel.toolchain.toolkit import assemble

pytestmark = [pytest.mark.toolchain, pytest.mark.network]

TOYS = Path(__file__).parents[1] / "toys" / "cuda"
LOCK = Path(__file__).parents[2] / "constraints" / "torch211" / "toolchain.txt"
WANTED = parse_list("12.0a")
NATIVE = ("arch=compute_120a,code=sm_120a",)
LIBRARY = "toy/_C.so"

Compile = Callable[..., Path]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compile]:
    """Compile toys into a shared library with the registry's nvcc, each once."""
    store = tmp_path_factory.mktemp("store")
    environment = {name: value for name, value in os.environ.items() if "CUDA" not in name}
    root = assemble(LOCK, store=store, uv=Path(uv.find_uv_bin()), environment=environment).root
    done: dict[tuple[str, ...], Path] = {}

    def compile_toys(*gencode: str, sources: tuple[str, ...] = ("kernels.cu",)) -> Path:
        key = (*gencode, *sources)
        if key not in done:
            out = tmp_path_factory.mktemp("library") / "_C.so"
            objects = []
            for number, source in enumerate(sources):
                name, *flags = source.split()
                objects.append(out.with_name(f"{number}.o"))
                argv = [root / "bin" / "nvcc", "-c", "-Xcompiler", "-fPIC"]
                argv += [flag for flag in flags if flag.startswith("-D")]
                code = [flag for flag in flags if flag.startswith("arch=")] or gencode
                argv += [f"-gencode={flag}" for flag in code]
                subprocess.run([*argv, "-o", objects[-1], TOYS / name], check=True)
            argv = [root / "bin" / "nvcc", "-shared", "--cudart=none", "-o", out, *objects]
            subprocess.run(argv, check=True)
            done[key] = out
        return done[key]

    yield compile_toys
    shutil.rmtree(store)


def read(file: Path) -> Library:
    return read_library(file, path=LIBRARY, sha256="", wanted=WANTED)


def said(library: Library, *contracts: Contract) -> list[str]:
    return [str(finding) for finding in arch_findings([library], contracts, WANTED)]


def changed(library: Path, folder: Path, edit: Callable[[bytearray], None]) -> Path:
    """A copy of a library whose device code section was edited in place."""
    data = bytearray(library.read_bytes())
    with library.open("rb") as file:
        section = ELFFile(file).get_section_by_name(fatbin.EXECUTABLE_SECTION)
        begin, size = section["sh_offset"], section["sh_size"]
    part = data[begin : begin + size]
    edit(part)
    data[begin : begin + size] = part
    copy = folder / "_C.so"
    copy.write_bytes(data)
    return copy


def test_native_library_passes(compiled: Compile) -> None:
    library = read(compiled(*NATIVE))
    assert library.elf_archs == (("sm_120a", 1),)
    assert library.ptx_archs == ()
    assert library.kernels == KernelCounts(native=2)
    assert library.archs == "1 x sm_120a"
    assert said(library) == []


def test_plain_sm_120_fails_the_audit(compiled: Compile) -> None:
    library = read(compiled("arch=compute_120,code=sm_120"))
    assert said(library) == [
        "not-native: toy/_C.so: 2 of 2 kernels are not native sm_120a:"
        " 2 have only SASS of the family; it holds 1 x sm_120"
    ]


def test_family_sm_120f_fails_the_audit_for_12_0a(compiled: Compile) -> None:
    library = read(compiled("arch=compute_120f,code=sm_120f"))
    assert library.kernels == KernelCounts(family=2)
    assert library.archs == "1 x sm_120f"


@pytest.mark.parametrize("arch", ["120", "120a", "80"])
def test_ptx_alone_fails_the_audit(compiled: Compile, arch: str) -> None:
    library = read(compiled(f"arch=compute_{arch},code=compute_{arch}"))
    assert said(library) == [
        "not-native: toy/_C.so: 2 of 2 kernels are not native sm_120a: 2 have only PTX;"
        f" it holds 1 x PTX sm_{arch}"
    ]


def test_ptx_bound_to_another_device_counts_as_nothing(compiled: Compile) -> None:
    library = read(compiled("arch=compute_90a,code=compute_90a"))
    assert library.kernels == KernelCounts(missing=2)


def test_missing_gencode_fails_the_audit(compiled: Compile) -> None:
    library = read(compiled())
    assert said(library) == [
        "not-native: toy/_C.so: 2 of 2 kernels are not native sm_120a: 2 have only PTX;"
        " it holds 1 x sm_75, 1 x PTX sm_75"
    ]


def test_sass_of_another_generation_counts_as_nothing(compiled: Compile) -> None:
    library = read(compiled("arch=compute_90,code=sm_90"))
    assert said(library) == [
        "not-native: toy/_C.so: 2 of 2 kernels are not native sm_120a:"
        " 2 have nothing that runs there; it holds 1 x sm_90"
    ]
    assert set(library.examples) == {"_Z3addPf", "_Z5scaleILi2EEvPf"}


def test_fat_library_is_native_for_every_arch_in_it(compiled: Compile) -> None:
    file = compiled("arch=compute_90,code=sm_90", *NATIVE)
    library = read_library(file, path=LIBRARY, sha256="", wanted=parse_list("9.0;12.0a"))
    assert library.kernels == KernelCounts(native=2)
    assert library.kernels_by_arch == (("sm_90", 2), ("sm_120a", 2))


def test_every_wanted_arch_must_be_native(compiled: Compile) -> None:
    wanted = parse_list("9.0;12.0a")
    library = read_library(compiled(*NATIVE), path=LIBRARY, sha256="", wanted=wanted)
    assert library.kernels == KernelCounts(missing=2)
    (finding,) = arch_findings([library], [], wanted)
    assert finding.fatal


def test_one_kernel_without_native_code_fails_although_another_of_its_name_has_it(
    compiled: Compile,
) -> None:
    library = read(
        compiled(
            sources=(
                "hidden.cu -DSUMMAND=1 -DENTRY=first arch=compute_120a,code=sm_120a",
                "hidden.cu -DSUMMAND=2 -DENTRY=second arch=compute_90,code=sm_90",
            )
        )
    )
    assert library.kernels == KernelCounts(native=1, missing=1)
    assert library.examples == ("_Z6hiddenPf",)
    assert said(library) == [
        "not-native: toy/_C.so: 1 of 2 kernels are not native sm_120a:"
        " 1 has nothing that runs there; it holds 1 x sm_90, 1 x sm_120a"
    ]


def test_older_sass_with_its_ptx_counts_as_ptx(compiled: Compile) -> None:
    library = read(compiled("arch=compute_80,code=[sm_80,compute_80]"))
    assert library.kernels == KernelCounts(ptx=2)
    assert library.kernels_by_arch == (("sm_80", 2),)


def test_contract_allows_older_sass_and_says_why(compiled: Compile) -> None:
    library = read(compiled("arch=compute_90,code=sm_90"))
    allowed = Contract(library="toy/*.so", native=False, why="its kernels are empty there")
    (finding,) = arch_findings([library], [allowed], WANTED)
    assert not finding.fatal
    assert finding.fact.endswith("it holds 1 x sm_90; allowed: its kernels are empty there")
    other = Contract(library="other/*.so", native=False, why="another library")
    (finding,) = arch_findings([library], [other], WANTED)
    assert finding.fatal


def test_host_library_needs_no_kernels(tmp_path: Path) -> None:
    source, file = tmp_path / "host.c", tmp_path / "host.so"
    source.write_text("int one(void) { return 1; }")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", file, source], check=True)
    library = read(file)
    assert library.host_only
    assert said(library) == []


def broken_header(part: bytearray) -> None:
    part[:4] = bytes(4)


def unknown_kind(part: bytearray) -> None:
    part[16:18] = b"\xff\xff"


def zeroed_code(part: bytearray) -> None:
    part[200:] = bytes(len(part) - 200)


def zeroed_section(part: bytearray) -> None:
    part[:] = bytes(len(part))


def dropped_entries(part: bytearray) -> None:
    struct.pack_into("<Q", part, 8, 0)


@pytest.mark.parametrize(
    ("edit", "fact"),
    [
        (broken_header, "no fat binary header at offset "),
        (unknown_kind, "device code of unknown kind 65535 at offset "),
        (zeroed_code, "Invalid ELF in '_C.so'"),
        (zeroed_section, "the section for device code holds none"),
        (dropped_entries, "no fat binary header at offset "),
    ],
)
def test_device_code_that_cannot_be_read_fails_the_audit(
    compiled: Compile, tmp_path: Path, edit: Callable[[bytearray], None], fact: str
) -> None:
    library = read(changed(compiled(*NATIVE), tmp_path, edit))
    allowed = Contract(library="*", native=False, why="no contract excuses what nobody could read")
    (finding,) = arch_findings([library], [allowed], WANTED)
    assert finding.fatal
    assert str(finding).startswith(f"unreadable-kernels: toy/_C.so: {fact}")


def test_cuobjdump_that_skips_device_code_fails_the_audit(compiled: Compile) -> None:
    file = compiled("arch=compute_90,code=sm_90", *NATIVE)
    entries = fatbin.entries(file)
    assert entries is not None
    with pytest.raises(UnreadableKernelsError) as caught:
        _dump(file, "--dump-elf-symbols", [*entries, entries[-1]])
    fact = "cuobjdump lists 2 pieces of device code, the section holds 3"
    assert str(caught.value) == fact


def test_wheel_with_plain_sm_120_fails_the_audit(compiled: Compile, tmp_path: Path) -> None:
    expected = Expected(
        name="toy",
        version="1.0",
        label=LABEL,
        python="cp312",
        modules=("toy",),
        torch=TORCH,
        archs=(parse("12.0a"),),
    )
    right = make_wheel(tmp_path / "right", {LIBRARY: compiled(*NATIVE)})
    wrong = make_wheel(tmp_path / "wrong", {LIBRARY: compiled("arch=compute_120,code=sm_120")})
    seen = [
        [one.name for one in inspect(wheel, archs=WANTED, expected=expected).fatal]
        for wheel in (right, wrong)
    ]
    assert seen == [[], ["not-native"]]


def test_cubin_under_another_name_is_found(compiled: Compile, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"toy/weights.bin": compiled("arch=compute_90,code=sm_90")})
    report = inspect(wheel, archs=WANTED)
    assert [library.path for library in report.libraries] == ["toy/weights.bin"]
    assert [finding.name for finding in report.findings] == ["not-native"]
