from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Literal

import proved
import pytest
from packaging.version import Version

from blackwheel.core.errors import BlackwheelError
from blackwheel.pins.lock import lock_text
from blackwheel.stacks import loader
from blackwheel.stacks.records import ToolchainPin
from blackwheel.toolchain.driver_stub import build_stub, driver_functions, stub_source
from blackwheel.toolchain.host_compiler import Compiler, host_compiler, require_gcc
from blackwheel.toolchain.toolkit import (
    Toolchain,
    host_candidates,
    host_toolchain,
    lock_digest,
    locked_versions,
    toolchain_for,
    toolchain_variables,
)

LOCK = Path(__file__).parents[2] / "constraints" / "torch211" / "toolchain.txt"
HERE = {"PATH": os.environ["PATH"]}

DRIVER_HEADER = """
#define cuMemAlloc                          cuMemAlloc_v2
#define cuMemcpyHtoD                        __CUDA_API_PTDS(cuMemcpyHtoD_v2)
#define cuMemPrefetchAsync                  __CUDA_API_PTSZ(cuMemPrefetchAsync_v2)
#define CUDA_CB
CUresult CUDAAPI cuInit(unsigned int Flags);
__CUDA_DEPRECATED CUresult CUDAAPI
cuMemAlloc(CUdeviceptr *dptr, size_t bytesize);
/* CUresult CUDAAPI cuOnlyInAComment(int x); */
typedef void (CUDA_CB *CUhostFn)(void *userData);
"""
DRIVER_NAMES = {
    "cuInit",
    "cuMemAlloc",
    "cuMemAlloc_v2",
    "cuMemcpyHtoD_v2",
    "cuMemcpyHtoD_v2_ptds",
    "cuMemPrefetchAsync_v2",
    "cuMemPrefetchAsync_v2_ptsz",
}


def toolkit(root: Path, version: str) -> Path:
    """A host toolkit as far as it is looked at before a build: an nvcc that states its version."""
    nvcc = root / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    release = version.rpartition(".")[0]
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{version}'\n")
    nvcc.chmod(0o755)
    return root


def changed_lock(folder: Path, old: str, new: str) -> Path:
    text = LOCK.read_text(encoding="utf-8")
    assert old in text
    path = folder / "toolchain.txt"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_driver_header_yields_plain_versioned_and_per_thread_names() -> None:
    assert driver_functions(DRIVER_HEADER) == DRIVER_NAMES


def test_stub_defines_every_name_under_the_drivers_soname_and_twice_the_same_bytes(
    tmp_path: Path,
) -> None:
    compiler = host_compiler(HERE, cuda="13.0.2").path
    built = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "cuda.h").write_text(DRIVER_HEADER)
        stub = folder / "libcuda.so"
        build_stub(folder, stub, compiler=compiler, environment=HERE)
        built.append(stub.read_bytes())
        assert sorted(path.name for path in folder.iterdir()) == ["cuda.h", "libcuda.so"]
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", stub], check=True, capture_output=True, text=True
    ).stdout
    assert {line.split()[-1] for line in symbols.splitlines()} == DRIVER_NAMES
    dynamic = subprocess.run(["readelf", "-d", stub], check=True, capture_output=True, text=True)
    assert "soname: [libcuda.so.1]" in dynamic.stdout
    assert "NEEDED" not in dynamic.stdout
    assert built[0] == built[1]


def test_stub_source_is_in_a_fixed_order_whatever_order_a_set_has() -> None:
    names = [f"cuCall{number:03}" for number in range(300)]
    assert stub_source(frozenset(names)) == "".join(
        f"int {name}(void) {{ return 34; }}\n" for name in names
    )


def test_the_stable_lock_is_of_one_release() -> None:
    versions = locked_versions(LOCK)
    assert versions["cuda-toolkit"] == "13.0.2"
    assert versions["nvidia-cuda-nvcc"] == versions["nvidia-nvvm"] == "13.0.88"


def test_every_stable_lock_is_hashed_and_names_no_address() -> None:
    locks = sorted(LOCK.parent.glob("*.txt"))
    assert len(locks) >= 7
    for path in locks:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# Regenerate: nox -s lock"), path
        assert "://" not in text, path
        pins = [block for block in text.split("\n") if block and block[0].isalnum()]
        assert all(pin.endswith("\\") for pin in pins), path
        assert text.count("--hash=sha256:") >= len(pins), path


def test_a_lock_that_would_name_an_index_is_refused() -> None:
    with pytest.raises(BlackwheelError) as refused:
        lock_text("--index-url https://example.org/simple\na==1 \\\n", source="constraints/x.toml")
    assert str(refused.value) == (
        "error: lock-names-index\n"
        "  the lock would name a package index: --index-url\n"
        "  where: constraints/x.toml\n"
        "  fix:   remove emit-index-url and emit-find-links from your uv configuration"
    )


def test_cccl_counts_its_own_releases(tmp_path: Path) -> None:
    here = re.search(r"nvidia-cuda-cccl==\S+", LOCK.read_text(encoding="utf-8"))
    assert here
    lock = changed_lock(tmp_path, here[0], "nvidia-cuda-cccl==3.3.0")
    assert locked_versions(lock)["nvidia-cuda-cccl"] == "3.3.0"


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("nvidia-nvvm 13.5.37", "nvidia-nvvm==13.0.88", "nvidia-nvvm==13.5.37"),
        ("nvidia-cuda-crt 13.0.48", "nvidia-cuda-crt==13.0.88", "nvidia-cuda-crt==13.0.48"),
        ("nvidia-nvjitlink 13.5.1", "nvidia-nvjitlink==13.0.88", "nvidia-nvjitlink==13.5.1"),
        ("nvidia-cuda-crt (missing)", "nvidia-cuda-crt==", "another=="),
    ],
)
def test_a_part_of_another_release_is_refused(
    tmp_path: Path, part: str, old: str, new: str
) -> None:
    lock = changed_lock(tmp_path, old, new)
    with pytest.raises(BlackwheelError) as refused:
        locked_versions(lock)
    assert str(refused.value) == (
        "error: mixed-release\n"
        f"  not of one release with cuda-toolkit 13.0.2: {part}\n"
        f"  where: {lock}\n"
        "  fix:   name every part as an extra of cuda-toolkit in the stack, then: nox -s lock\n"
        "         nvidia-nvjitlink floats even so: name its version as well (nvidia-nvjitlink==)"
    )


def test_a_missing_lock_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(BlackwheelError) as refused:
        locked_versions(tmp_path / "toolchain.txt")
    assert str(refused.value) == (
        "error: no-lock-file\n"
        "  there are no hashed pins of this environment\n"
        f"  where: constraints/{tmp_path.name}/toolchain.txt\n"
        "  fix:   nox -s lock"
    )


def test_a_lock_of_another_cuda_than_the_stack_wants_is_refused(tmp_path: Path) -> None:
    pin = ToolchainPin(source="registry", cuda="13.1.0", nvcc="13.1.80")
    with pytest.raises(BlackwheelError) as refused:
        toolchain_for(pin, lock=LOCK, store=tmp_path, uv=tmp_path / "uv", environment=HERE)
    assert str(refused.value) == (
        "error: stale-lock\n"
        "  the lock holds CUDA 13.0.2 with nvcc 13.0.88, "
        "the stack wants CUDA 13.1.0 with nvcc 13.1.80\n"
        f"  where: {LOCK}\n"
        "  fix:   nox -s lock"
    )
    assert list(tmp_path.iterdir()) == []


def test_digest_of_a_lock_ignores_comments_and_sees_hashes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    commented = changed_lock(tmp_path / "a", "# Regenerate", "\n# Made, otherwise")
    assert lock_digest(commented) == lock_digest(LOCK)
    (tmp_path / "b").mkdir()
    assert lock_digest(changed_lock(tmp_path / "b", "sha256:b", "sha256:c")) != lock_digest(LOCK)


def test_variables_name_one_toolchain_everywhere_and_put_it_first_on_path() -> None:
    toolchain = Toolchain(
        source="registry",
        root=Path("/store/cuda"),
        cuda_version="13.0.2",
        nvcc_version="13.0.88",
        digest="0",
    )
    assert toolchain_variables(toolchain, path="/usr/bin:/bin") == {
        "CUDA_HOME": "/store/cuda",
        "CUDA_PATH": "/store/cuda",
        "CUDAToolkit_ROOT": "/store/cuda",
        "CUDACXX": "/store/cuda/bin/nvcc",
        "LIBRARY_PATH": "/store/cuda/lib64/stubs",
        "PATH": "/store/cuda/bin:/usr/bin:/bin",
    }
    mounted = dataclasses.replace(toolchain, root=Path("/build/cuda"))
    assert toolchain_variables(mounted, path="/bin")["CUDACXX"] == "/build/cuda/bin/nvcc"


def test_host_toolkit_of_the_wanted_release_is_taken_and_path_is_not_asked(tmp_path: Path) -> None:
    right = toolkit(tmp_path / "local" / "cuda-12.8", "12.8.93")
    on_path = toolkit(tmp_path / "elsewhere", "13.0.88")
    wrong = toolkit(tmp_path / "named", "12.9.41")
    environment = {"PATH": f"{on_path}/bin:{HERE['PATH']}", "CUDA_HOME": str(wrong)}
    candidates = host_candidates("12.8", environment, system=tmp_path / "local")
    assert candidates == (wrong, right)
    found = host_toolchain(candidates, cuda="12.8", environment=environment)
    assert (found.source, found.root) == ("host", right)
    assert (found.cuda_version, found.nvcc_version) == ("12.8", "12.8.93")


def test_digest_of_a_host_toolkit_sees_a_changed_program(tmp_path: Path) -> None:
    root = toolkit(tmp_path / "cuda", "12.8.93")
    first = host_toolchain((root,), cuda="12.8", environment=HERE).digest
    assert host_toolchain((root,), cuda="12.8", environment=HERE).digest == first
    (root / "bin" / "ptxas").write_text("another")
    assert host_toolchain((root,), cuda="12.8", environment=HERE).digest != first


def test_an_explicit_host_toolkit_is_the_only_candidate(tmp_path: Path) -> None:
    environment = {"BLACKWHEEL_CUDA_HOME": str(tmp_path), "CUDA_HOME": "/opt/other"}
    assert host_candidates("12.8", environment) == (tmp_path,)


@pytest.mark.parametrize(
    ("cuda", "nvcc", "wanted"), [("12.8", "", "12.8"), ("12.9", "12.9.99", "12.9.99")]
)
def test_host_nvcc_of_another_version_is_refused(
    tmp_path: Path, cuda: str, nvcc: str, wanted: str
) -> None:
    root = toolkit(tmp_path / "cuda", "12.9.41")
    with pytest.raises(BlackwheelError) as refused:
        host_toolchain((root,), cuda=cuda, nvcc=nvcc, environment=HERE)
    assert str(refused.value) == (
        "error: wrong-nvcc\n"
        f"  the stack wants nvcc {wanted}\n"
        f"  {root} has nvcc 12.9.41\n"
        f"  where: {root}\n"
        f"  fix:   install CUDA toolkit {cuda}, and name it: "
        f"export BLACKWHEEL_CUDA_HOME=/usr/local/cuda-{cuda}"
    )


def test_no_host_toolkit_says_where_it_was_looked_for(tmp_path: Path) -> None:
    pin = ToolchainPin(source="host", cuda="12.8")
    environment = HERE | {"BLACKWHEEL_CUDA_HOME": str(tmp_path)}
    with pytest.raises(BlackwheelError) as refused:
        toolchain_for(pin, lock=LOCK, store=tmp_path, uv=tmp_path / "uv", environment=environment)
    assert str(refused.value) == (
        "error: no-host-toolkit\n"
        "  the stack wants nvcc 12.8 of this machine, and there is none\n"
        f"  where: {tmp_path}\n"
        "  fix:   install CUDA toolkit 12.8, and name it: "
        "export BLACKWHEEL_CUDA_HOME=/usr/local/cuda-12.8"
    )


def test_host_compiler_is_found_with_its_version() -> None:
    found = host_compiler(HERE, cuda="13.0.2")
    assert found.path == Path(shutil.which("g++") or "")
    stated = subprocess.run(
        [found.path, "-dumpversion"], check=True, capture_output=True, text=True
    )
    assert found.version.split(".")[0] == stated.stdout.strip().split(".")[0]


def test_no_compiler_names_the_package_that_has_it(tmp_path: Path) -> None:
    with pytest.raises(BlackwheelError) as refused:
        host_compiler({"PATH": str(tmp_path)}, cuda="13.0.2")
    assert str(refused.value) == (
        "error: no-compiler\n"
        "  there is no C++ compiler 'g++' on PATH\n"
        "  where: PATH\n"
        "  fix:   apt-get install g++ (Debian, Ubuntu) or dnf install gcc-c++ (Fedora, RHEL)"
    )


@pytest.mark.parametrize(
    ("macros", "seen", "takes", "name"),
    [
        ("#define __GNUC__ 16\\n#define __GNUC_MINOR__ 1\\n", "gcc 16.1", "gcc 9 to 15", "g++-15"),
        ("#define __GNUC__ 8\\n#define __GNUC_MINOR__ 5\\n", "gcc 8.5", "gcc 9 to 15", "g++-15"),
        (
            "#define __GNUC__ 4\\n#define __clang_major__ 21\\n#define __clang_minor__ 0\\n",
            "clang 21.0",
            "clang 9 to 20",
            "clang++-20",
        ),
    ],
)
def test_a_compiler_that_nvcc_refuses_is_refused_before_the_build(
    tmp_path: Path, macros: str, seen: str, takes: str, name: str
) -> None:
    compiler = tmp_path / "c++-other"
    compiler.write_text(f"#!/bin/sh\nprintf '{macros}'\n")
    compiler.chmod(0o755)
    with pytest.raises(BlackwheelError) as refused:
        host_compiler(HERE | {"CXX": str(compiler)}, cuda="13.0.2")
    assert str(refused.value) == (
        "error: wrong-compiler\n"
        f"  {compiler} is {seen}; nvcc 13.0.2 takes {takes}\n"
        "  where: CXX\n"
        f"  fix:   install one of those, and name it: export CXX={name}"
    )


@pytest.mark.parametrize("cuda", ["13.2.2", "13.4.1", "13.5.0"])
def test_compiler_of_this_machine_is_judged_for_every_release_of_the_stacks(cuda: str) -> None:
    assert host_compiler(HERE, cuda=cuda).version


def test_cuda_release_that_nobody_wrote_down_is_named() -> None:
    with pytest.raises(BlackwheelError) as refused:
        host_compiler(HERE, cuda="99.1.2")
    assert refused.value.name == "unknown-cuda-release"
    assert "CUDA 99.1.2" in refused.value.fact


def gcc(kind: Literal["gcc", "clang"], version: str) -> Compiler:
    return Compiler(path=Path("/usr/bin/c++"), kind=kind, version=version)


def test_project_that_wants_a_newer_gcc_says_so_and_how_to_get_it(tmp_path: Path) -> None:
    site = proved.new_checkout(tmp_path)
    toy = site.constraints / "toy.toml"
    toy.write_text(
        toy.read_text("utf-8").replace('modules = ["toy"]', 'modules = ["toy"]\ngcc = "11.3"'),
        encoding="utf-8",
    )
    stack = loader.load("toy", site.constraints)
    for kind, version in (("gcc", "11.3"), ("gcc", "12.2"), ("clang", "9.0")):
        require_gcc(gcc(kind, version), stack, stack.build)
    require_gcc(gcc("gcc", "11.2"), stack, ["other"])
    with pytest.raises(BlackwheelError) as refused:
        require_gcc(gcc("gcc", "11.2"), stack, stack.build)
    assert str(refused.value) == (
        "error: old-compiler\n"
        "  toy 1.0 wants gcc 11.3 or newer; /usr/bin/c++ is gcc 11.2\n"
        "  where: constraints/toy.toml, projects.toy.gcc\n"
        "  fix:   apt-get install g++-11, then: export CXX=g++-11\n"
        "         Debian 12 has none above 12: a container of a newer release"
    )


@pytest.mark.parametrize("stack", ["stable", "latest", "nightly", "newest"])
def test_toolchain_of_every_stack_is_of_one_release(stack: str) -> None:
    constraints = LOCK.parents[1]
    pin = loader.load(stack, constraints).toolchain
    versions = locked_versions(constraints / stack / "toolchain.txt")
    assert Version(versions["cuda-toolkit"]) == Version(pin.cuda)
    assert versions["nvidia-cuda-nvcc"] == pin.nvcc


def test_release_of_four_numbers_is_the_release_of_three(tmp_path: Path) -> None:
    lock = changed_lock(tmp_path, "cuda-toolkit==13.0.2", "cuda-toolkit==13.0.2.0")
    assert locked_versions(lock)["cuda-toolkit"] == "13.0.2.0"
    pin = ToolchainPin(source="registry", cuda="13.0.2", nvcc="13.0.88")
    with pytest.raises(BlackwheelError, match="toolchain-install"):  # so it was not stale
        toolchain_for(pin, lock=lock, store=tmp_path, uv=Path("/bin/false"), environment=HERE)
