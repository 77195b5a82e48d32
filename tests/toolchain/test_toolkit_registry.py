"""The toolchain from the package registry: needs no CUDA toolkit, no GPU and no driver."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.process import capture
from blackwheel.toolchain.host_compiler import host_compiler
from blackwheel.toolchain.layout import NEEDED
from blackwheel.toolchain.releases import release
from blackwheel.toolchain.toolkit import Toolchain, assemble, toolchain_variables

pytestmark = [pytest.mark.toolchain, pytest.mark.network]

LOCK = Path(__file__).parents[2] / "constraints" / "torch211" / "toolchain.txt"
UV = Path(uv.find_uv_bin())
NO_UV = Path("/nonexistent/uv")
HERE = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA", "CXX"))}

PROGRAM = """
#include <cuda.h>
#include <cuda_fp16.h>
#if WITH_CCCL
#include <cub/block/block_reduce.cuh>
#endif
__global__ void twice(__half* x) { x[threadIdx.x] = x[threadIdx.x] * __half(2.0f); }
int main() {
    CUdeviceptr pointer;
    twice<<<1, 32>>>(nullptr);
    return int(cuMemAlloc(&pointer, 32)) + cudaDeviceSynchronize() == cudaSuccess;
}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("store")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def toolchain(store: Path) -> Toolchain:
    return assemble(LOCK, store=store, uv=UV, environment=HERE)


@pytest.fixture
def fake_nvcc(tmp_path: Path) -> Path:
    """A folder with an nvcc that must not be called: calling it leaves a file."""
    folder = tmp_path / "first-on-path"
    folder.mkdir()
    nvcc = folder / "nvcc"
    nvcc.write_text(f"#!/bin/sh\ntouch {folder}/called\nexit 1\n")
    nvcc.chmod(0o755)
    return folder


def compile_program(toolchain: Toolchain, folder: Path, *, path: str, cccl: int = 0) -> Path:
    """Compile and link for sm_120a with whatever `nvcc` the variables lead to."""
    (folder / "program.cu").write_text(PROGRAM)
    variables = toolchain_variables(toolchain, path=path)
    argv = ["nvcc", "-gencode=arch=compute_120a,code=sm_120a", f"-DWITH_CCCL={cccl}"]
    argv += ["-o", "program", "program.cu", "-lcuda"]
    capture(argv, environment=variables, cwd=folder)
    return folder / "program"


def archs_in(program: Path) -> set[str]:
    files = importlib.metadata.files("nvidia-cuda-cuobjdump") or []
    cuobjdump = next(Path(str(path.locate())) for path in files if path.name == "cuobjdump")
    listed = capture([str(cuobjdump), "--list-elf", str(program)], environment={}, cwd=Path("/"))
    return set(re.findall(r"\bsm_\w+", listed.stdout))


def without(folder: Path, *packages: str) -> Path:
    """The lock of stack `torch211` less some packages."""
    text = LOCK.read_text(encoding="utf-8")
    for name in packages:
        text, count = re.subn(rf"^{name}==.*\n(?: .*\n)*", "", text, flags=re.MULTILINE)
        assert count == 1
    path = folder / "toolchain.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_assembled_toolchain_compiles_and_links_native_sm_120a(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    assert all((toolchain.root / name).exists() for name in NEEDED)
    program = compile_program(toolchain, tmp_path, path="/usr/bin:/bin", cccl=1)
    assert archs_in(program) == {"sm_120a"}
    dynamic = capture(["readelf", "-d", str(program)], environment=HERE, cwd=tmp_path).stdout
    assert "[libcuda.so.1]" in dynamic


def test_another_nvcc_first_on_path_is_not_called(
    toolchain: Toolchain, tmp_path: Path, fake_nvcc: Path
) -> None:
    program = compile_program(toolchain, tmp_path, path=f"{fake_nvcc}:/usr/bin:/bin")
    assert archs_in(program) == {"sm_120a"}
    assert not (fake_nvcc / "called").exists()
    decoy = dataclasses.replace(toolchain, root=tmp_path / "no-toolchain")
    with pytest.raises(BlackwheelError, match="command-failed"):
        compile_program(decoy, tmp_path, path=f"{fake_nvcc}:/usr/bin:/bin")
    assert (fake_nvcc / "called").exists(), "the decoy would have been found"


def test_moved_toolchain_compiles_without_the_place_it_was_made_in(
    toolchain: Toolchain, store: Path, tmp_path: Path
) -> None:
    home = toolchain.root.parent
    links = [path for path in home.rglob("*") if path.is_symlink()]
    assert len(links) > 10
    for link in links:
        assert not link.readlink().is_absolute(), link
        assert link.resolve(strict=True).is_relative_to(home.resolve()), link
    moved = home.rename(store / "moved")
    try:
        elsewhere = dataclasses.replace(toolchain, root=moved / "cuda")
        program = compile_program(elsewhere, tmp_path, path="/usr/bin:/bin")
    finally:
        moved.rename(home)
    assert archs_in(program) == {"sm_120a"}


def test_cmake_finds_the_assembled_toolchain_and_every_library(
    toolchain: Toolchain, tmp_path: Path, fake_nvcc: Path
) -> None:
    targets = "cudart cudart_static cublas cublasLt cusparse cusolver cufft curand nvrtc nvJitLink"
    wanted = "".join(
        f"if(NOT TARGET CUDA::{name})\nmessage(FATAL_ERROR no-{name})\nendif()\n"
        for name in (*targets.split(), "cuda_driver")
    )
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.26)\nproject(probe LANGUAGES CXX CUDA)\n"
        f"find_package(CUDAToolkit REQUIRED)\n{wanted}"
        'message(STATUS "seen ${CUDAToolkit_VERSION} ${CMAKE_CUDA_COMPILER} '
        '${CUDAToolkit_LIBRARY_ROOT} ${CUDA_cuda_driver_LIBRARY}")\n'
    )
    path = f"{fake_nvcc}:{HERE['PATH']}"
    environment = HERE | toolchain_variables(toolchain, path=path)
    cmake = [str(UV), "tool", "run", "--from", "cmake==4.1.2", "cmake"]
    argv = [*cmake, "-S", ".", "-B", "out", "-DCMAKE_CUDA_ARCHITECTURES=120a-real"]
    seen = capture(argv, environment=environment, cwd=tmp_path).stdout
    root = toolchain.root
    assert f"seen 13.0.88 {root}/bin/nvcc {root} {root}/lib64/stubs/libcuda.so" in seen
    assert not (fake_nvcc / "called").exists()


def test_driver_stub_defines_every_function_that_the_preprocessor_sees_in_cuda_h(
    toolchain: Toolchain,
) -> None:
    header = toolchain.root / "include" / "cuda.h"
    wanted: set[str] = set()
    for mode in ("", "CUDA_API_PER_THREAD_DEFAULT_STREAM", "__CUDA_API_VERSION_INTERNAL"):
        define = [f"-D{mode}"] if mode else []
        argv = ["g++", "-E", "-P", *define, "-x", "c++", str(header)]
        text = capture(argv, environment=HERE, cwd=Path("/")).stdout
        wanted |= set(re.findall(r"\b(cu[A-Z]\w*)\s*\(", text))
    stub = toolchain.root / "lib64" / "stubs" / "libcuda.so"
    symbols = capture(["nm", "-D", "--defined-only", str(stub)], environment=HERE, cwd=Path("/"))
    defined = {line.split()[-1] for line in symbols.stdout.splitlines()}
    assert len(wanted) > 600
    assert wanted <= defined


def test_compiler_limits_are_those_of_nvccs_own_header(toolchain: Toolchain) -> None:
    text = (toolchain.root / "include" / "crt" / "host_config.h").read_text(encoding="utf-8")
    known = release("13.0")
    assert f"gcc versions later than {known.gcc} are not supported" in text
    assert f"clang version must be less than {known.clang + 1} and greater" in text


def test_second_assembly_calls_nothing_and_a_damaged_toolchain_is_made_again(
    toolchain: Toolchain, store: Path
) -> None:
    nothing = {"PATH": "/nonexistent"}
    assert assemble(LOCK, store=store, uv=NO_UV, environment=nothing) == toolchain
    home = toolchain.root.parent
    leftover = home.with_suffix(".new") / "half"
    for victim in ("cuda/nvvm/bin/cicc", "cuda/lib64/libcudart.so", "toolchain.json"):
        (home / victim).unlink()
        leftover.mkdir(parents=True)
        assert assemble(LOCK, store=store, uv=UV, environment=HERE) == toolchain
        assert (home / victim).exists()
        assert not leftover.exists()


def test_two_runs_at_once_assemble_once(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; "
        "from blackwheel.core.console import Console; "
        "from blackwheel.toolchain.toolkit import assemble; "
        "lock, store, uv = map(Path, sys.argv[1:]); "
        "made = assemble(lock, store=store, uv=uv, environment=os.environ, "
        "console=Console(environment=os.environ)); "
        "print('root', made.root)"
    )
    argv = [sys.executable, "-c", code, str(LOCK), str(tmp_path), str(UV)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    runs = [subprocess.Popen(argv, env=HERE, text=True, **pipes) for _ in range(2)]
    outputs = [run.communicate(timeout=600) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sum("toolchain: waiting for toolchain in process " in err for _, err in outputs) == 1
    assert len({out.splitlines()[-1] for out, _ in outputs}) == 1


@pytest.mark.parametrize("name", ["bin/ptxas", "lib64/libcudart_static.a"])
def test_a_flipped_bit_of_what_is_run_or_linked_is_named_and_installed_anew(
    toolchain: Toolchain, store: Path, name: str
) -> None:
    victim = toolchain.root / name
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    mode, times = victim.stat().st_mode, victim.stat().st_mtime_ns
    victim.unlink()  # uv's cache may have the same file
    victim.write_bytes(data)
    victim.chmod(mode)
    os.utime(victim, ns=(times, times))
    console = Quiet()
    assert assemble(LOCK, store=store, uv=UV, environment=HERE, console=console) == toolchain
    assert victim.read_bytes() != data
    (said,) = console.lines
    assert said.endswith(f"/{name.replace('lib64', 'lib')}: it is installed anew")


def test_a_package_with_another_hash_is_refused(tmp_path: Path) -> None:
    text = LOCK.read_text(encoding="utf-8")
    lock = tmp_path / "toolchain.txt"
    lock.write_text(re.sub(r"(cuda-toolkit==.*\n.*sha256:)\w{4}", r"\g<1>0000", text))
    with pytest.raises(BlackwheelError) as refused:
        assemble(lock, store=tmp_path, uv=UV, environment=HERE)
    assert refused.value.name == "toolchain-install"
    assert "Hash mismatch for `cuda-toolkit==13.0.2`" in refused.value.fact


def test_a_package_without_a_hash_is_refused(tmp_path: Path) -> None:
    lock = without(tmp_path, "cuda-toolkit")
    lock.write_text("cuda-toolkit==13.0.2\n" + lock.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(BlackwheelError) as refused:
        assemble(lock, store=tmp_path, uv=UV, environment=HERE)
    assert refused.value.name == "toolchain-install"
    assert "must have a hash" in refused.value.fact


def test_a_failing_install_shows_what_uv_said(tmp_path: Path) -> None:
    offline = tmp_path / "uv"
    offline.write_text("#!/bin/sh\necho 'error: no route to the registry' >&2\nexit 2\n")
    offline.chmod(0o755)
    with pytest.raises(BlackwheelError) as refused:
        assemble(LOCK, store=tmp_path, uv=offline, environment=HERE)
    assert str(refused.value) == (
        "error: toolchain-install\n"
        "  the toolchain's packages could not be installed\n"
        "  error: no route to the registry\n"
        f"  where: {LOCK}\n"
        "  fix:   check the network and the package index that uv is configured for: invoke doctor"
    )


def test_a_lock_that_lacks_parts_says_which_files_are_missing(tmp_path: Path) -> None:
    lock = without(tmp_path, "nvidia-cusparse", "nvidia-nvtx")
    with pytest.raises(BlackwheelError) as refused:
        assemble(lock, store=tmp_path, uv=UV, environment=HERE)
    home = Path(refused.value.where)
    assert home.parent == tmp_path / "toolchains"
    assert str(refused.value) == (
        "error: toolchain-incomplete\n"
        "  the locked packages lack include/cusparse.h, include/nvtx3/nvToolsExt.h, "
        "lib64/libcusparse.so\n"
        f"  where: {home}\n"
        "  fix:   name the missing parts as extras of cuda-toolkit, then: nox -s lock"
    )


def test_no_compiler_is_said_before_anything_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(BlackwheelError, match="no-compiler"):
        assemble(LOCK, store=tmp_path, uv=NO_UV, environment={"PATH": str(tmp_path)})
    assert not (tmp_path / "toolchains").exists()


def test_the_installed_compiler_is_one_that_nvcc_takes() -> None:
    assert host_compiler(HERE, cuda="13.0.2").path.name == "g++"
