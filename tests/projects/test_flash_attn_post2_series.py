"""The series for flash-attention 2.8.3.post2: C++20, and kernels that read nothing of torch."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import uv
from checkout import site_with

from blackwheel.core.process import capture
from blackwheel.sources import sdist
from blackwheel.sources.series import load_series
from blackwheel.sources.tree import is_selected, write_entries
from blackwheel.stacks import loader
from blackwheel.stacks.records import SdistPin
from blackwheel.toolchain.toolkit import Toolchain, assemble

pytestmark = [pytest.mark.network, pytest.mark.toolchain, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "constraints" / "stable"
UV = uv.find_uv_bin()
HERE = dict(os.environ)
SDIST: Final = SdistPin(
    name="flash_attn-2.8.3.post2.tar.gz",
    sha256="d0f9f0b08a986cdeadbffcf5ec8b3a8f514366c68ad1853d3ab061bc83cc340b",
    size=8453127,
    tree="c73991f7c78ed2a7f5d2ea887478c5aa7779b59b",
)
CSRC = "csrc/flash_attn"
INCLUDE = (CSRC, f"{CSRC}/src", "csrc/cutlass/include")
LEFT_OUT = tuple(f"-DFLASHATTENTION_DISABLE_{one}" for one in ("FORWARD", "SPLIT", "BACKWARD"))


def patched(folder: Path, archive: Path, upto: str = "9999") -> Path:
    """Unpack the sdist's sources and apply the patches whose numbers are not above `upto`."""
    root = folder / "tree"
    pin = loader.load("stable", ROOT / "constraints").project("flash-attn")
    inner = {nested.path: nested.sparse for nested in pin.nested}
    chosen = sdist.entries(archive, lambda path: is_selected(path, pin.source.sparse, inner))
    write_entries(chosen, root, where=SDIST.name)
    series = load_series(ROOT / "patches" / "flash-attn" / "2.8.3.post2")
    for patch in series.patches:
        if patch.name <= upto:
            (folder / patch.name).write_bytes(patch.content)
            argv = ["git", "apply", str(folder / patch.name)]
            capture(argv, environment={**HERE, "GIT_CEILING_DIRECTORIES": str(folder)}, cwd=root)
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("store")
    yield folder
    capture(["rm", "-rf", str(folder)], environment=HERE, cwd=Path("/"))


@pytest.fixture(scope="module")
def archive(store: Path) -> Path:
    return sdist.obtain(site_with(store, HERE), SDIST, project="flash-attn")


@pytest.fixture(scope="module")
def tree(store: Path, archive: Path) -> Path:
    (store / "whole").mkdir()
    return patched(store / "whole", archive)


@pytest.fixture(scope="module")
def toolchain(store: Path) -> Toolchain:
    return assemble(LOCKS / "toolchain.txt", store=store, uv=Path(UV), environment=HERE)


@pytest.fixture(scope="module")
def python(store: Path) -> Path:
    """The Python of an environment with the torch of `stable`."""
    lock = LOCKS / f"build-flash-attn-py3{sys.version_info.minor}.txt"
    python = store / "env" / "bin" / "python"
    for argv in (
        [UV, "venv", "--quiet", "--python", sys.executable, str(store / "env")],
        [UV, "pip", "sync", "--quiet", "--python", str(python), "--require-hashes", str(lock)],
    ):
        capture(argv, environment=HERE, cwd=store)
    return python


def kernels(tree: Path) -> dict[Path, int]:
    """One kernel file of each preamble, and how many have it: the rest is what they instantiate."""
    alike: dict[str, list[Path]] = {}
    for path in sorted((tree / CSRC / "src").glob("*.cu")):
        alike.setdefault(path.read_text().partition("\ntemplate")[0], []).append(path)
    return {paths[0]: len(paths) for paths in alike.values()}


def faults_of(kernel: Path, tree: Path, toolchain: Toolchain) -> dict[str, str]:
    """Return what is wrong with the device and the host input where no folder of torch is given."""
    flags = [*(f"-I{tree / folder}" for folder in INCLUDE), "-std=c++20", "--expt-extended-lambda"]
    argv = [str(toolchain.nvcc), *flags, "--expt-relaxed-constexpr", "-arch=sm_120a", "--dryrun"]
    told = capture([*argv, "-c", str(kernel)], environment=HERE, cwd=tree).stderr
    faults = {}
    for line in told.splitlines():
        words = shlex.split(line.removeprefix("#$ "))
        if "-E" not in words:
            continue
        words[words.index("-o") + 1] = "/dev/null"
        done = capture(words, environment=HERE, cwd=tree, check=False)
        faults["device" if "-D__CUDA_ARCH__=1200" in words else "host"] = done.stderr
    return faults


def test_both_compilers_get_one_standard_whatever_the_torch(tree: Path) -> None:
    cuda, _, _ = (tree / "setup.py").read_text().partition("elif not SKIP_CUDA_BUILD and IS_ROCM:")
    assert re.findall(r'"(-std=[^"]+)"', cuda) == ["-std=c++20"] * 2


def test_no_kernel_reads_a_header_of_torch(tree: Path, toolchain: Toolchain) -> None:
    found = kernels(tree)
    assert sum(found.values()) == 72
    for kernel in found:
        assert faults_of(kernel, tree, toolchain) == {"device": "", "host": ""}, kernel.name


def test_kernel_that_names_torch_again_is_seen(
    store: Path, archive: Path, toolchain: Toolchain
) -> None:
    (store / "part").mkdir()
    tree = patched(store / "part", archive, upto="0007")
    header = "fatal error: c10/cuda/CUDAException.h: No such file or directory"
    for kernel in kernels(tree):
        faults = faults_of(kernel, tree, toolchain)
        assert sorted(faults) == ["device", "host"]
        assert all(header in fault for fault in faults.values())


# What flash_api.cpp hands the kernels, and a kernel's file that checks a call.
CALLS: Final = """
#include "flash_api.cpp"
#include <ATen/cuda/detail/UnpackRaw.cuh>
namespace flash { void launch(); }
extern "C" bool same_state() {
    int64_t seed = 3, offset = 5;
    for (const auto &torchs : {at::PhiloxCudaState(3, 5), at::PhiloxCudaState(&seed, &offset, 7)}) {
        auto ours = flash::unpack(flash::philox_state(torchs));
        if (ours != at::cuda::philox::unpack(torchs)) { return false; }
        if (ours != std::make_tuple(3, torchs.captured_ ? 12 : 5)) { return false; }
    }
    return true;
}
template <typename Call> const char *raised(Call call) {
    static std::string said;
    said = "nothing was raised";
    try { call(); } catch (const c10::Error &error) { said = error.what_without_backtrace(); }
    return said.c_str();
}
extern "C" const char *our_check() { return raised([] { flash::launch(); }); }
extern "C" const char *torchs_check() {
    return raised([] { C10_CUDA_CHECK(cudaErrorInvalidValue); });
}
"""
KERNEL: Final = """
#include "flash_fwd_launch_template.h"
namespace flash { void launch() { C10_CUDA_CHECK(cudaErrorInvalidValue); } }
"""
RUN: Final = """
import ctypes, json, sys
import torch
library = ctypes.CDLL(sys.argv[1])
library.same_state.restype = ctypes.c_bool
library.our_check.restype = library.torchs_check.restype = ctypes.c_char_p
said = [library.our_check().decode(), library.torchs_check().decode()]
print(json.dumps([library.same_state(), *said]))
"""


@pytest.mark.torch
def test_kernels_get_torchs_random_state_and_its_check(
    store: Path, python: Path, tree: Path, toolchain: Toolchain
) -> None:
    where = "import sysconfig; print(*map(sysconfig.get_path, ('include', 'platlib')))"
    told = capture([str(python), "-c", where], environment=HERE, cwd=store).stdout
    include, packages = told.split()
    torch = f"{packages}/torch/include"
    folder = store / "calls"
    folder.mkdir()
    (folder / "calls.cpp").write_text(CALLS)
    (folder / "launch.cu").write_text(KERNEL)
    flags = [
        f"-I{path}" for path in (*(tree / path for path in INCLUDE), toolchain.root / "include")
    ]
    flags += ["-std=c++20", *LEFT_OUT]
    theirs = [f"-I{path}" for path in (torch, f"{torch}/torch/csrc/api/include", include)]
    named = ["-DTORCH_EXTENSION_NAME=calls", "-DFLASH_ATTN_PASSES=none", "-w", "-fPIC"]
    libraries = ("torch", "torch_cpu", "torch_cuda", "torch_python", "c10", "c10_cuda", "cudart")
    nvcc = ["-arch=sm_120a", "--expt-relaxed-constexpr", "--expt-extended-lambda"]
    for argv in (
        ["g++", *flags, *theirs, *named, "-c", "calls.cpp", "-o", "calls.o"],
        [str(toolchain.nvcc), *flags, *nvcc, "-Xcompiler", "-fPIC", "-c", "launch.cu"],
        [
            *("g++", "-shared", "-o", "calls.so", "calls.o", "launch.o", f"-L{packages}/torch/lib"),
            *(f"-L{toolchain.root / 'lib64'}", *(f"-l{name}" for name in libraries)),
        ],
    ):
        capture(argv, environment=HERE, cwd=folder)
    undefined = capture(["nm", "-C", "-u", "launch.o"], environment=HERE, cwd=folder).stdout
    assert "flash::cuda_check" in undefined
    assert not re.search(r"\b(c10|at|torch)::", undefined)
    argv = [str(python), "-c", RUN, str(folder / "calls.so")]
    same, ours, torchs = json.loads(capture(argv, environment=HERE, cwd=folder).stdout)
    assert same
    assert ours == torchs  # without a driver both say that it lacks
    assert ours.startswith("CUDA error: ")
