"""The ABI closure of real libraries, linked by a real compiler against a toy torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from elfwright import elf
from packaging.tags import parse_tag
from toytorch import C10, build_library, make_torch
from wheelwright import BARE, NAME, make_wheel

from blackwheel.audit.audit import Exports, audit, exports_of, inspect, link_with
from blackwheel.audit.blob import Blob
from blackwheel.audit.elf import read_elf, read_elf_of
from blackwheel.audit.symbols import links, system_findings, unlinked
from blackwheel.core.errors import BlackwheelError, Exit

PATH = "toy/_C.so"
USES_TORCH = """
namespace c10 { int device_count(); int stream_of(int); }
namespace at { float *data_of(int); }
extern "C" float *entry() { return at::data_of(c10::device_count() + c10::stream_of(0)); }
"""
TOY = replace(BARE, glibc="2.28")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_torch(tmp_path_factory.mktemp("torch") / "env")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def exports(environment: Path, store: Path) -> Exports:
    return exports_of(environment, store=store)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Exports:
    """A later torch that lacks one function."""
    code = {"libc10.so": C10.replace("int stream_of(int) { return 0; }", "")}
    made = make_torch(
        tmp_path_factory.mktemp("other") / "env", version="2.13.0+cu130", sources=code
    )
    return exports_of(made, store=store)


def torch_libraries(environment: Path, *names: str) -> list[Path]:
    return [next(environment.rglob(name)) for name in names]


def built(environment: Path, folder: Path, source: str = USES_TORCH, *needs: str) -> Path:
    wanted = needs or ("libc10.so", "libtorch_cpu.so")
    return build_library(folder / "_C.so", source, needs=torch_libraries(environment, *wanted))


def said(file: Path, exports: Exports, *, path: str = PATH) -> list[str]:
    found, findings = links({path: read_elf(file)}, exports)
    assert all(finding.fatal for finding in findings)
    assert [one.library for one in found] == [path]
    return [str(finding) for finding in findings]


def bond(file: Path, exports: Exports) -> str:
    ((one,), _) = links({PATH: read_elf(file)}, exports)
    return one.torch


def test_library_built_for_this_torch_links(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    file = built(environment, tmp_path)
    assert said(file, exports) == []
    assert bond(file, exports) == "full"


def test_removed_export_is_named_demangled(
    environment: Path, other: Exports, tmp_path: Path
) -> None:
    assert said(built(environment, tmp_path), other) == [
        "undefined-symbol: toy/_C.so: 1 symbol cannot be found with torch 2.13.0+cu130:"
        " c10::stream_of(int)"
    ]


def test_link_with_another_torch_tells_where_a_symbol_used_to_be(
    environment: Path, exports: Exports, other: Exports, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path, {PATH: built(environment, tmp_path)})
    ([((before,), none)], _) = link_with(wheel, [exports])
    assert (before.missing, none) == ((), ())
    ([((after,), (finding,))], _) = link_with(wheel, [other], before=exports)
    assert [str(one) for one in after.missing] == ["c10::stream_of(int) (was in libc10.so)"]
    assert finding.fact.endswith("c10::stream_of(int) (was in libc10.so)")


def test_link_with_refuses_what_is_no_wheel(exports: Exports, tmp_path: Path) -> None:
    wheel = tmp_path / NAME
    wheel.write_bytes(b"")
    with pytest.raises(BlackwheelError, match="empty-file: the file is empty"):
        link_with(wheel, [exports])


def test_symbol_of_a_library_that_nobody_loads_is_missing(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    source = """
    namespace at { namespace cuda { int sm_count(); } }
    extern "C" int entry() { return at::cuda::sm_count(); }
    """
    assert said(built(environment, tmp_path, source), exports) == [
        "undefined-symbol: toy/_C.so: 1 symbol cannot be found with torch 2.11.0+cu130:"
        " at::cuda::sm_count()"
    ]
    linked = built(environment, tmp_path, source, "libtorch_cuda.so")
    assert said(linked, exports) == []


def test_symbol_that_torch_loads_for_everyone_is_found(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    source = (
        'extern "C" int cudaGetDevice(int *); extern "C" int entry() { return cudaGetDevice(0); }'
    )
    assert said(built(environment, tmp_path, source, "libc10.so"), exports) == []


def test_more_symbols_than_a_line_holds_are_counted(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    names = [f"gone{number}" for number in range(7)]
    source = "".join(f'extern "C" int {name}();' for name in names)
    source += f'extern "C" int entry() {{ return {" + ".join(f"{name}()" for name in names)}; }}'
    (fact,) = said(built(environment, tmp_path, source), exports)
    assert "7 symbols cannot be found" in fact
    assert fact.count("gone") == 5
    assert fact.endswith("; and 2 more")


def test_library_of_another_cuda_is_refused(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    cudart = build_library(tmp_path / "libcudart.so.12", "int nothing;")
    file = build_library(tmp_path / "_C.so", "int none;", needs=[cudart])
    assert said(file, exports) == [
        "unknown-library: toy/_C.so: needs libcudart.so.12,"
        " which neither torch 2.11.0+cu130 nor the system brings"
    ]


def test_library_that_the_wheel_brings_itself_is_found(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    helper = build_library(tmp_path / "libhelper.so", 'extern "C" int help() { return 1; }')
    source = 'extern "C" int help(); extern "C" int entry() { return help(); }'
    file = build_library(tmp_path / "_C.so", source, needs=[helper])
    both = {PATH: read_elf(file), "toy/libhelper.so": read_elf(helper)}
    assert links(both, exports)[1] == ()
    _, findings = links({PATH: read_elf(file)}, exports)
    assert [one.name for one in findings] == ["unknown-library"]


def test_symbol_of_torch_is_gone_though_another_library_is_not_here(
    environment: Path, other: Exports, tmp_path: Path
) -> None:
    """What a library that is not here exports cannot be told; torch's own names only torch has."""
    afar = build_library(tmp_path / "libafar.so.1", 'extern "C" int afar() { return 1; }')
    source = USES_TORCH.replace("float *entry", "int afar(); extern float *entry").replace(
        "c10::stream_of(0)", "c10::stream_of(afar())"
    )
    needs = [*torch_libraries(environment, "libc10.so", "libtorch_cpu.so"), afar]
    file = build_library(tmp_path / "_C.so", source, needs=needs)
    ((link,), findings) = links({PATH: read_elf(file)}, other)
    assert [one.demangled for one in link.missing] == ["c10::stream_of(int)"]
    assert link.elsewhere == ("libafar.so.1",)
    assert [one.name for one in findings] == ["unknown-library", "undefined-symbol"]


def test_stable_interface_alone_is_recognised(
    environment: Path, exports: Exports, other: Exports, tmp_path: Path
) -> None:
    source = """
    #include <vector>
    extern template class std::vector<int>;
    extern "C" int aoti_torch_get_dim(int);
    extern "C" int entry() {
        std::vector<int> seen;
        seen.push_back(aoti_torch_get_dim(1));
        return seen[0];
    }
    """
    file = built(environment, tmp_path, source)
    wanted = {one.name for one in read_elf(file).wanted}
    assert "_ZNSt6vectorIiSaIiEE9push_backEOi" in wanted
    assert exports.owner("_ZNSt6vectorIiSaIiEE9push_backEOi") == "libc10.so"
    assert bond(file, exports) == "stable"
    assert said(file, other) == []
    both = built(environment, tmp_path, source + USES_TORCH.replace("entry", "second"))
    assert bond(both, exports) == "full"


def test_symbol_linked_without_its_version_is_found_in_the_system(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    source = 'extern "C" int getpid(); extern "C" int entry() { return getpid(); }'
    file = build_library(tmp_path / "_C.so", source, flags=["-nostdlib"])
    assert [one.version for one in read_elf(file).wanted if one.name == "getpid"] == [""]
    assert said(file, exports) == []


def test_library_without_torch_is_bound_to_none(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    assert bond(build_library(tmp_path / "_C.so", "int none;"), exports) == "none"


def test_weak_symbol_may_stay_undefined(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    source = """
    extern "C" int maybe() __attribute__((weak));
    extern "C" int entry() { return maybe ? maybe() : 0; }
    """
    assert said(built(environment, tmp_path, source), exports) == []


def test_driver_is_not_expected_on_this_machine(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    driver = build_library(
        tmp_path / "libcuda.so.1",
        'extern "C" int cuInit(int) { return 0; } int custom() { return 0; }',
    )
    source = 'extern "C" int cuInit(int); extern "C" int entry() { return cuInit(0); }'
    assert said(build_library(tmp_path / "_C.so", source, needs=[driver]), exports) == []
    source = 'int custom(); extern "C" int entry() { return custom(); }'
    (fact,) = said(build_library(tmp_path / "_C.so", source, needs=[driver]), exports)
    assert fact.endswith("cannot be found with torch 2.11.0+cu130: custom()")


def test_python_symbols_are_held_to_the_interpreter(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    real = 'extern "C" void *PyTuple_New(long); extern "C" void *entry() { return PyTuple_New(0); }'
    assert said(built(environment, tmp_path, real), exports) == []
    gone = real.replace("PyTuple_New", "PyTuple_Gone")
    file = built(environment, tmp_path, gone)
    (fact,) = said(file, exports)
    assert fact.endswith("PyTuple_Gone")
    assert said(file, exports, path="toy/_C.cpython-399-x86_64-linux-gnu.so") == []


TAKES_NEWEST = 'extern "C" int newest(); extern "C" int entry() { return newest(); }'


def versioned(folder: Path, soname: str, version: str, source: str = TAKES_NEWEST) -> Path:
    """A library that takes `newest` from a system library at that symbol version."""
    system = build_library(
        folder / "system" / soname,
        'extern "C" int newest() { return 1; }',
        versions=f"{version} {{ *; }};",
    )
    return build_library(folder / "_C.so", source, needs=[system], flags=["-nostdlib"])


@pytest.mark.parametrize(
    ("soname", "version", "glibc"),
    [
        ("libm.so.6", "GLIBC_2.2.5", "2.5"),
        ("libm.so.6", "GLIBC_2.28", "2.28"),
        ("libm.so.6", "GLIBC_2.32", "2.32"),
        ("libstdc++.so.6", "GLIBCXX_3.4.24", "2.27"),
        ("libstdc++.so.6", "GLIBCXX_3.4.30", "2.35"),
        ("libstdc++.so.6", "CXXABI_1.3.13", "2.34"),
        ("libgcc_s.so.1", "GCC_12.0.0", "2.35"),
    ],
)
def test_symbol_version_tells_the_glibc_that_brings_it(
    exports: Exports, tmp_path: Path, soname: str, version: str, glibc: str
) -> None:
    ((one,), findings) = links({PATH: read_elf(versioned(tmp_path, soname, version))}, exports)
    assert (one.glibc, one.glibc_for, findings) == (glibc, "newest", ())


def test_newest_of_several_versions_counts(exports: Exports, tmp_path: Path) -> None:
    for old, new in (("one", "two"), ("two", "one")):
        system = build_library(
            tmp_path / "system" / "libm.so.6",
            'extern "C" { int one() { return 1; } int two() { return 2; } }',
            versions=f"GLIBC_2.17 {{ {old}; }}; GLIBC_2.32 {{ {new}; }} GLIBC_2.17;",
        )
        source = 'extern "C" { int one(); int two(); int entry() { return one() + two(); } }'
        file = build_library(tmp_path / "_C.so", source, needs=[system], flags=["-nostdlib"])
        ((seen,), _) = links({PATH: read_elf(file)}, exports)
        assert (seen.glibc, seen.glibc_for) == ("2.32", new)


def test_version_of_a_weak_symbol_counts_too(exports: Exports, tmp_path: Path) -> None:
    source = """
    extern "C" int newest() __attribute__((weak));
    extern "C" int entry() { return newest ? newest() : 0; }
    """
    file = versioned(tmp_path, "libm.so.6", "GLIBC_2.32", source)
    ((one,), _) = links({PATH: read_elf(file)}, exports)
    assert one.glibc == "2.32"


def test_version_that_no_manylinux_level_knows_is_refused(exports: Exports, tmp_path: Path) -> None:
    for version in ("GLIBCXX_9.9", "GLIBC_PRIVATE", "GLIBC_ABI_NEWER", "GLIBC_9.99"):
        file = versioned(tmp_path, "libstdc++.so.6", version)
        assert floor(file, exports, tag="linux_x86_64", allowed="") == [
            f"unknown-version: toy/_C.so: needs newest ({version}), a version which no"
            " manylinux level knows"
        ]


def test_version_that_no_symbol_is_taken_from_counts(exports: Exports) -> None:
    """GLIBC_ABI_DT_RELR is such a one: glibc 2.36, whatever the symbols ask for."""
    needs = {"libc.so.6": ["GLIBC_2.2.5", "GLIBC_ABI_DT_RELR"]}
    wanted = {"wanted": ["malloc"], "versioned": {"malloc": "GLIBC_2.2.5"}}
    for data in (elf(versions=needs, **wanted), elf(tags=[(36, 0)])):
        with Blob.new() as blob:
            blob.append(data)
            one = read_elf_of(blob, "_C.so")
        found = system_findings(
            {PATH: one}, parse_tag("cp312-cp312-manylinux_2_34_x86_64"), floor="2.35"
        )
        assert [str(finding) for finding in found] == [
            "glibc-too-new: toy/_C.so: needs glibc 2.36 for GLIBC_ABI_DT_RELR,"
            " the stack allows 2.35",
            "false-platform-tag: toy/_C.so: needs glibc 2.36 for GLIBC_ABI_DT_RELR,"
            " the file name promises 2.34",
        ]
        assert links({PATH: one}, exports)[0][0].glibc == "2.36"


def test_glibc_is_looked_at_without_an_environment(tmp_path: Path) -> None:
    new = make_wheel(tmp_path, {PATH: versioned(tmp_path, "libm.so.6", "GLIBC_2.32")})
    report = inspect(new, archs=TOY.archs, expected=TOY)
    assert "glibc-too-new" in [finding.name for finding in report.fatal]


@pytest.mark.parametrize(
    ("wanted", "needed", "names"),
    [
        (["no_such_thing"], ["libc.so.6"], ["unresolved-symbol"]),
        (["no_such_thing"], ["libc.so.6", "libnosuch.so.9"], ["unknown-library"]),
        (["no_such_thing"], ["libtorch.so"], []),
        (["no_such_thing"], ["libcudart.so.13"], []),
        (["PyList_New"], ["libc.so.6"], []),
        (["malloc"], ["libc.so.6"], []),
    ],
)
def test_what_can_be_told_without_an_environment_is_told(
    wanted: list[str], needed: list[str], names: list[str]
) -> None:
    with Blob.new() as blob:
        blob.append(elf(wanted=wanted, names=[("NEEDED", one) for one in needed]))
        one = read_elf_of(blob, "_C.so")
    found = list(unlinked({PATH: one}, requires={"torch"}, provider=False))
    assert [finding.name for finding in found] == names
    lonely = [one.name for one in unlinked({PATH: one}, requires=set(), provider=False)]
    assert ("unknown-library" in lonely) == ("libtorch.so" in needed or "libnosuch.so.9" in needed)


def floor(file: Path, exports: Exports, *, tag: str, allowed: str) -> list[str]:
    tags: Sequence = list(parse_tag(f"cp312-cp312-{tag}"))
    found = system_findings({PATH: read_elf(file)}, tags, floor=allowed)
    return [str(finding) for finding in found]


def test_glibc_above_the_floor_is_refused(exports: Exports, tmp_path: Path) -> None:
    file = versioned(tmp_path, "libm.so.6", "GLIBC_2.32")
    assert floor(file, exports, tag="linux_x86_64", allowed="2.32") == []
    assert floor(file, exports, tag="linux_x86_64", allowed="2.28") == [
        "glibc-too-new: toy/_C.so: needs glibc 2.32 for newest, the stack allows 2.28"
    ]


def test_platform_tag_that_promises_too_much_is_refused(exports: Exports, tmp_path: Path) -> None:
    file = versioned(tmp_path, "libm.so.6", "GLIBC_2.32")
    assert floor(file, exports, tag="manylinux_2_34_x86_64", allowed="") == []
    assert floor(file, exports, tag="manylinux_2_28_x86_64", allowed="") == [
        "false-platform-tag: toy/_C.so: needs glibc 2.32 for newest, the file name promises 2.28"
    ]
    assert floor(file, exports, tag="manylinux2014_x86_64", allowed="") == [
        "false-platform-tag: toy/_C.so: needs glibc 2.32 for newest, the file name promises 2.17"
    ]


def test_audit_holds_a_wheel_to_closure_and_floor(
    environment: Path, exports: Exports, other: Exports, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path / "right", {PATH: built(environment, tmp_path)})
    audited = audit(wheel, expected=TOY, exports=exports)
    assert [one["torch"] for one in audited.section()["links"]] == ["full"]
    with pytest.raises(BlackwheelError) as caught:
        audit(wheel, expected=TOY, exports=other)
    assert caught.value.code == Exit.AUDIT
    assert "undefined-symbol: toy/_C.so: 1 symbol cannot be found" in caught.value.fact
    new = make_wheel(tmp_path / "new", {PATH: versioned(tmp_path, "libm.so.6", "GLIBC_2.32")})
    report = inspect(new, archs=TOY.archs, exports=exports, expected=TOY)
    assert [finding.name for finding in report.fatal] == ["glibc-too-new"]
    report = inspect(new, archs=TOY.archs, exports=exports, expected=replace(TOY, glibc="2.35"))
    assert report.fatal == ()


def test_library_that_is_cut_off_is_refused(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    whole = built(environment, tmp_path)
    whole.write_bytes(whole.read_bytes()[:200])
    wheel = make_wheel(tmp_path / "w", {PATH: whole})
    ([(_, (finding,))], _) = link_with(wheel, [exports])
    assert inspect(wheel, archs=()).linked(exports)[1] == (finding,), "the same of what was read"
    assert finding.fatal
    assert str(finding).startswith(
        "unreadable-library: toy/_C.so: not an ELF file that can be read"
    )


def test_export_table_is_kept_by_torch_identity(tmp_path: Path) -> None:
    store, environment = tmp_path / "store", make_torch(tmp_path / "env")
    first = exports_of(environment, store=store)
    (table,) = (store / "exports").iterdir()
    written = table.stat().st_mtime_ns
    assert exports_of(environment, store=store) == first
    assert table.stat().st_mtime_ns == written
    table.write_text("{", encoding="utf-8")
    assert exports_of(environment, store=store) == first
    whole = table.read_bytes()
    flipped = bytearray(whole)
    flipped[-10] ^= 1  # in the name of a symbol
    table.write_bytes(flipped)
    assert exports_of(environment, store=store) == first
    assert table.read_bytes() == whole
    (record,) = environment.rglob("torch-*.dist-info/RECORD")
    record.write_text("torch/version.py,other,\n")
    exports_of(environment, store=store)
    assert len(list((store / "exports").iterdir())) == 2


def test_environment_without_torch_is_refused(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.12" / "site-packages"
    packages.mkdir(parents=True)
    with pytest.raises(BlackwheelError) as caught:
        exports_of(tmp_path, store=tmp_path / "store")
    assert caught.value.code == Exit.TORCH
    assert str(caught.value) == "\n".join(
        [
            "error: torch-missing",
            "  no torch is installed there",
            f"  where: {packages}",
            "  fix:   name a virtual environment, or its site-packages folder, with torch in it",
        ]
    )


FREE = replace(TOY, torch="")
"""A stack that says of its wheel that it links no torch."""
CALLED = 'extern "C" int ffi_call(); extern "C" int entry() { return ffi_call(); }'


def test_library_bound_to_torch_is_refused_where_the_stack_says_that_none_is_linked(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path, {PATH: built(environment, tmp_path)}, requires=["einops"])
    report = inspect(wheel, archs=FREE.archs, exports=exports, expected=FREE)
    (found,) = (one for one in report.findings if one.name == "links-torch")
    assert found.fatal
    assert str(found) == (
        "links-torch: toy/_C.so: takes libc10.so, libtorch_cpu.so, at::data_of(int),"
        " c10::device_count(), c10::stream_of(int) from torch,"
        " and its stack says that it links no torch"
    )
    blind = inspect(wheel, archs=FREE.archs, expected=FREE)
    assert "links-torch" in [one.name for one in blind.findings], "also without an environment"


def test_symbol_of_torchs_stable_interface_alone_is_a_bond_too(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    """Of the environment nothing is needed: the one reader of torch's ABI knows the names."""
    source = 'extern "C" int aoti_torch_get_dim(int);\n'
    source += 'extern "C" int f() { return aoti_torch_get_dim(1); }'
    file = build_library(tmp_path / "_C.so", source)
    wheel = make_wheel(tmp_path, {PATH: file}, requires=["einops"])
    for there in (exports, None):
        report = inspect(wheel, archs=FREE.archs, exports=there, expected=FREE)
        (found,) = (one for one in report.findings if one.name == "links-torch")
        assert found.fact.startswith("takes aoti_torch_get_dim from torch")


def test_symbol_of_torchs_python_library_is_a_bond_too(tmp_path: Path) -> None:
    source = 'extern "C" void* THPVariable_Wrap(void*);\n'
    source += 'extern "C" void* f() { return THPVariable_Wrap(nullptr); }'
    file = build_library(tmp_path / "_C.so", source)
    wheel = make_wheel(tmp_path, {PATH: file}, requires=["einops"])
    report = inspect(wheel, archs=FREE.archs, expected=FREE)
    (found,) = (one for one in report.findings if one.name == "links-torch")
    assert found.fact.startswith("takes THPVariable_Wrap from torch")


def test_library_that_links_no_torch_is_what_its_stack_says(
    exports: Exports, tmp_path: Path
) -> None:
    file = build_library(tmp_path / "_C.so", 'extern "C" int entry() { return 1; }')
    wheel = make_wheel(tmp_path, {PATH: file}, requires=["einops"])
    report = inspect(wheel, archs=FREE.archs, exports=exports, expected=FREE)
    assert [str(one) for one in report.findings if one.fatal] == []
    assert [one.torch for one in report.links] == ["none"]


def test_symbol_of_a_library_loaded_beside_is_found_only_where_the_stack_names_it(
    tmp_path: Path,
) -> None:
    made = make_torch(tmp_path / "env")
    beside = "ffi/lib/libffi_of_kernels.so"
    packages = made / "lib" / "python3.12" / "site-packages"
    build_library(packages / beside, 'extern "C" int ffi_call() { return 1; }')
    file = build_library(tmp_path / "_C.so", CALLED)
    store = tmp_path / "store"
    assert said(file, exports_of(made, store=store)) == [
        "undefined-symbol: toy/_C.so: 1 symbol cannot be found with torch 2.11.0+cu130: ffi_call"
    ]
    assert said(file, exports_of(made, store=store, beside=[beside])) == []
    assert said(file, exports_of(made, store=store)) != [], "the kept table has none of it"
    with pytest.raises(BlackwheelError) as caught:
        exports_of(made, store=store, beside=["ffi/lib/other.so"])
    assert str(caught.value) == (
        "error: no-library-beside\n"
        "  the environment holds no ffi/lib/other.so, which the stack has loaded before the wheel's"
        " own\n"
        f"  where: {made}\n"
        "  fix:   name its package among the project's `requirements`, then: nox -s lock"
    )
