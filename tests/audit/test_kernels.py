"""Archs in real cubins: each kernel is counted, and nothing that cannot be read passes."""

from __future__ import annotations

import io
import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uv
from elftools.elf.elffile import ELFFile
from wheelwright import TOY, make_wheel

from blackwheel.audit import cuobjdump, device
from blackwheel.audit.audit import inspect
from blackwheel.audit.blob import Blob
from blackwheel.audit.contract import arch_findings
from blackwheel.audit.cubin import UnreadableKernelsError, read_cubin
from blackwheel.audit.kernels import KernelCounts, Library, read_library
from blackwheel.core.archs import parse_list
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

    def compile_toys(
        *gencode: str, sources: tuple[str, ...] = ("kernels.cu",), only: str = ""
    ) -> Path:
        key = (*gencode, *sources, only)
        if key not in done and only:
            out = tmp_path_factory.mktemp("piece") / f"k.{only.strip('-')}"
            argv = [root / "bin" / "nvcc", only, *gencode, "-o", out, TOYS / sources[0]]
            subprocess.run(argv, check=True)
            done[key] = out
        elif key not in done:
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
        section = ELFFile(file).get_section_by_name(device.EXECUTABLE)
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
        " 2 run as code of the family; it holds 1 x sm_120"
    ]


def test_family_sm_120f_fails_the_audit_for_12_0a(compiled: Compile) -> None:
    library = read(compiled("arch=compute_120f,code=sm_120f"))
    assert library.kernels == KernelCounts(family=2)
    assert library.archs == "1 x sm_120f"


@pytest.mark.parametrize("arch", ["120", "120a", "80"])
def test_ptx_alone_fails_the_audit(compiled: Compile, arch: str) -> None:
    library = read(compiled(f"arch=compute_{arch},code=compute_{arch}"))
    assert said(library) == [
        "not-native: toy/_C.so: 2 of 2 kernels are not native sm_120a: 2 run through PTX;"
        f" it holds 1 x PTX sm_{arch}"
    ]


def test_ptx_bound_to_another_device_counts_as_nothing(compiled: Compile) -> None:
    library = read(compiled("arch=compute_90a,code=compute_90a"))
    assert library.kernels == KernelCounts(missing=2)


def test_missing_gencode_fails_the_audit(compiled: Compile) -> None:
    library = read(compiled())
    assert said(library) == [
        "not-native: toy/_C.so: 2 of 2 kernels are not native sm_120a: 2 run through PTX;"
        " it holds 1 x sm_75, 1 x PTX sm_75"
    ]


def test_sass_of_another_generation_counts_as_nothing(compiled: Compile) -> None:
    library = read(compiled("arch=compute_90,code=sm_90"))
    assert said(library) == [
        "not-native: toy/_C.so: 2 of 2 kernels are not native sm_120a:"
        " 2 run not at all; it holds 1 x sm_90"
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
        " 1 runs not at all; it holds 1 x sm_90, 1 x sm_120a"
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
        (unknown_kind, "device code of unknown kind 65535"),
        (zeroed_code, "a cubin without a symbol table"),
        (zeroed_section, "the section for device code holds none"),
        (dropped_entries, "no fat binary header at offset "),
    ],
)
def test_device_code_that_cannot_be_read_fails_the_audit(
    compiled: Compile, tmp_path: Path, edit: Callable[[bytearray], None], fact: str
) -> None:
    library = read(changed(compiled(*NATIVE), tmp_path, edit))
    allowed = Contract(library="*", native=False, why="no contract excuses what nobody could read")
    finding = arch_findings([library], [allowed], WANTED)[0]
    assert finding.fatal
    assert str(finding).startswith(f"unreadable-kernels: toy/_C.so: {fact}")
    assert not library.host_only


def test_cuobjdump_that_skips_device_code_fails_the_audit(compiled: Compile) -> None:
    with Blob.of(compiled("arch=compute_90,code=sm_90", *NATIVE)) as blob:
        entries = [one for unit in device.find(blob).units for one in unit.entries]
        text = b"".join(b"Fatbin elf code:\n====\narch = sm_90\nsymbols:\n" for _ in entries)
        with Blob.new() as answer:
            answer.append(text)
            given = mmap.mmap(answer.handle, len(text), access=mmap.ACCESS_READ)
            with given, pytest.raises(UnreadableKernelsError) as caught:
                cuobjdump._parsed(given, entries, cuobjdump.SYMBOLS)
    fact = "cuobjdump lists 2 pieces of device code, it was given 2"
    assert str(caught.value) == fact


def without_section_headers(data: bytearray) -> None:
    struct.pack_into("<Q", data, 0x28, 0)
    struct.pack_into("<HH", data, 0x3C, 0, 0)


def with_the_section_renamed(data: bytearray) -> None:
    place = data.rindex(b".nv_fatbin\0")
    data[place : place + 10] = b".rodata_xy"


def with_the_section_said_to_be_empty(data: bytearray) -> None:
    with io.BytesIO(data) as file:
        elf = ELFFile(file)
        number = [one.name for one in elf.iter_sections()].index(device.EXECUTABLE)
        header = elf["e_shoff"] + number * elf["e_shentsize"]
    struct.pack_into("<I", data, header + 4, 8)  # NOBITS


@pytest.mark.parametrize(
    "hide", [without_section_headers, with_the_section_renamed, with_the_section_said_to_be_empty]
)
def test_kernels_are_found_whatever_section_headers_say(
    compiled: Compile, tmp_path: Path, hide: Callable[[bytearray], None]
) -> None:
    data = bytearray(compiled("arch=compute_90,code=sm_90").read_bytes())
    hide(data)
    (tmp_path / "_C.so").write_bytes(data)
    assert read(tmp_path / "_C.so").kernels == KernelCounts(missing=2)


@pytest.mark.parametrize(
    ("arch", "only", "counts"),
    [
        ("-arch=sm_120a", "-cubin", KernelCounts(native=2)),
        ("-arch=sm_120", "-cubin", KernelCounts(family=2)),
        ("-arch=sm_120f", "-cubin", KernelCounts(family=2)),
        ("-arch=sm_90a", "-cubin", KernelCounts(missing=2)),
        ("-gencode=arch=compute_120a,code=sm_120a", "-fatbin", KernelCounts(native=2)),
        ("-gencode=arch=compute_90,code=sm_90", "-fatbin", KernelCounts(missing=2)),
        ("-arch=compute_80", "-ptx", KernelCounts(ptx=2)),
    ],
)
def test_device_code_that_lies_in_no_library_is_counted(
    compiled: Compile, arch: str, only: str, counts: KernelCounts
) -> None:
    assert read(compiled(arch, only=only)).kernels == counts


@pytest.mark.parametrize("arch", ["75", "80", "90", "90a", "100f", "120", "120a", "120f", "121a"])
def test_own_reader_of_cubins_tells_what_cuobjdump_tells(compiled: Compile, arch: str) -> None:
    with Blob.of(compiled(f"-arch=sm_{arch}", only="-cubin")) as blob:
        own_arch, own_kernels = read_cubin(blob)
    gencode = f"-gencode=arch=compute_{arch},code=sm_{arch}"
    with Blob.of(compiled(gencode, only="-fatbin")) as blob:
        (unit,) = device.find(blob).units
        (theirs,) = cuobjdump.read_entries(blob, unit.entries)
    assert (theirs.arch.sm, theirs.why) == (f"sm_{arch}", "")
    assert (own_arch.sm, own_kernels) == (theirs.arch.sm, theirs.kernels)


def test_kernels_are_read_in_batches_as_at_once(
    compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = compiled(
        "arch=compute_90,code=sm_90", "arch=compute_80,code=[sm_80,compute_80]", *NATIVE
    )
    once = read(file)
    monkeypatch.setattr(cuobjdump, "BATCH", 1)
    assert read(file) == once
    assert once.kernels == KernelCounts(native=2)


def test_one_piece_that_cannot_be_read_costs_no_other_its_verdict(
    compiled: Compile, tmp_path: Path
) -> None:
    file = compiled("arch=compute_90,code=sm_90", "arch=compute_80,code=sm_80", *NATIVE)
    with Blob.of(file) as blob:
        (unit,) = device.find(blob).units
        first = unit.entries[0]
    data = bytearray(file.read_bytes())
    begin = first.offset + first.header
    data[begin : begin + 64] = bytes(64)
    (tmp_path / "_C.so").write_bytes(data)
    library = read(tmp_path / "_C.so")
    assert library.kernels == KernelCounts(native=2)
    assert library.unread_archs == ((first.arch.sm, 1),)
    (finding,) = arch_findings([library], [], WANTED)
    assert (finding.name, finding.fatal) == ("unreadable-kernels", True)
    assert finding.fact.endswith(f"the headers of what could not be read say 1 x {first.arch.sm}")


def test_wheel_with_plain_sm_120_fails_the_audit(compiled: Compile, tmp_path: Path) -> None:
    expected = replace(TOY, contracts=())
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
    assert "not-native" in [finding.name for finding in report.findings]
