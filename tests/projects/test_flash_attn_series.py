"""The series for flash-attention 2.8.3: on the real sources, with real torch and compilers."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import uv
from checkout import site_with

from blackwheel.core.process import capture
from blackwheel.sources import fetch, patch
from blackwheel.sources.series import load_series
from blackwheel.stacks import loader
from blackwheel.stacks.request import Request, build_variables
from blackwheel.toolchain.toolkit import Toolchain, assemble, toolchain_variables

pytestmark = [pytest.mark.network, pytest.mark.torch, pytest.mark.toolchain, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints"
UV = uv.find_uv_bin()
HERE = dict(os.environ)
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

BASE: Final = {
    "FLASH_ATTENTION_FORCE_BUILD": "TRUE",
    "FLASH_ATTN_TORCH_REQUIREMENT": "torch===2.11.0",
    "MAX_JOBS": "1",
}

# Runs setup.py up to the point where distutils would build, once per setting, with one import of
# torch; says what would be compiled, and how.
ASK = """
import json, os, sys
import setuptools
from distutils.core import run_setup
from sysconfig import get_path
import torch  # noqa: F401  its libraries are what the extension links against
from torch.utils.cpp_extension import _get_cuda_arch_flags

answers = {}
environment = dict(os.environ)
for name, setting in json.load(open(sys.argv[1])).items():
    os.environ.clear()
    os.environ.update(environment, **setting)
    try:
        found = run_setup("setup.py", script_args=["-q", "build"], stop_after="commandline")
    except RuntimeError as error:
        answers[name] = {"error": str(error)}
        continue
    extension = found.ext_modules[0]
    nvcc = extension.extra_compile_args["nvcc"]
    answers[name] = {
        "sources": extension.sources,
        "cxx": extension.extra_compile_args["cxx"],
        "nvcc": nvcc,
        "torch_adds": _get_cuda_arch_flags(nvcc),
        "include": [*map(str, extension.include_dirs), get_path("include")],
        "link": [
            *(f"-L{path}" for path in extension.library_dirs),
            *(f"-l{name}" for name in extension.libraries),
        ],
        "packages": found.packages,
        "requires": found.install_requires,
        "version": found.get_version(),
    }
json.dump(answers, open(sys.argv[2], "w"))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Upstream:
    """The patched sources and what setup.py runs in."""

    tree: Path
    python: Path
    toolchain: Toolchain
    scratch: Path

    def ask(self, settings: dict[str, dict[str, str]], *, cuda_home: Path) -> dict[str, Any]:
        """Return by name what setup.py makes of each setting, or its error."""
        (self.scratch / "ask.py").write_text(ASK)
        wanted, answers = self.scratch / "settings.json", self.scratch / "answers.json"
        wanted.write_text(json.dumps({name: {**BASE, **one} for name, one in settings.items()}))
        environment = toolchain_variables(self.toolchain, path="/usr/bin:/bin")
        environment |= {"CUDA_HOME": str(cuda_home), "HOME": str(self.scratch)}
        argv = [str(self.python), str(self.scratch / "ask.py"), str(wanted), str(answers)]
        capture(argv, environment=environment, cwd=self.tree)
        found: dict[str, Any] = json.loads(answers.read_text())
        return found


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    store = tmp_path_factory.mktemp("store")
    pin = loader.load("torch211", CONSTRAINTS).project("flash-attn")
    site = site_with(store, HERE)
    source = fetch.fetch(site, "flash-attn", pin)
    series = load_series(ROOT / "patches" / "flash-attn" / pin.version)
    tree = patch.apply(site, source, series)
    lock = CONSTRAINTS / "torch211" / f"build-flash-attn-py{PYTHON.replace('.', '')}.txt"
    python = store / "env" / "bin" / "python"
    for argv in (
        [UV, "venv", "--quiet", "--python", sys.executable, str(store / "env")],
        [UV, "pip", "sync", "--quiet", "--python", str(python), "--require-hashes", str(lock)],
    ):
        capture(argv, environment=HERE, cwd=store)
    lock = CONSTRAINTS / "torch211" / "toolchain.txt"
    toolchain = assemble(lock, store=store, uv=Path(UV), environment=HERE)
    yield Upstream(tree=tree.root, python=python, toolchain=toolchain, scratch=store)
    capture(["rm", "-rf", str(store)], environment=HERE, cwd=Path("/"))


def stack_setting(name: str) -> dict[str, str]:
    """The build variables of a stack that ships."""
    stack = loader.load(name, CONSTRAINTS)
    request = Request(stack=stack, project="flash-attn", python=PYTHON, archs=stack.archs)
    return build_variables(request, jobs=1)


SPELLINGS: Final = {
    "8.0": ["80"],
    "90": ["90"],
    "10.0": ["100"],
    "120": ["120"],
    "12.0": ["120"],
    "120a": ["120a"],
    "12.0a;9.0": ["90", "120a"],
    "12.0;120": ["120"],
    " 12.0a": ["120a"],
}
ARCHS: Final = "8.0, 80, 9.0, 90, 10.0, 100, 12.0, 120, 12.0a, 120a, separated by ';'"
PASSES: Final = "fwd, split, bwd, separated by ','"
DIMS: Final = "32, 64, 96, 128, 192, 256, separated by ','"
ONE_TORCH: Final = "does not name exactly one torch: set it to torch===VERSION or torch==VERSION"
REFUSED: Final = (
    ("FLASH_ATTN_CUDA_ARCHS", "12.0x", f"holds '12.0x'; accepted are {ARCHS}"),
    ("FLASH_ATTN_CUDA_ARCHS", "80,12.0a", f"holds '80,12.0a'; accepted are {ARCHS}"),
    ("FLASH_ATTN_CUDA_ARCHS", "9.0a;80;121", f"holds '9.0a', '121'; accepted are {ARCHS}"),
    ("FLASH_ATTN_CUDA_ARCHS", "", f"holds ''; accepted are {ARCHS}"),
    ("FLASH_ATTN_PASSES", "fwd,spilt", f"holds 'spilt'; accepted are {PASSES}"),
    ("FLASH_ATTN_PASSES", "", f"holds ''; accepted are {PASSES}"),
    ("FLASH_ATTN_HEAD_DIMS", "64;128", f"holds '64;128'; accepted are {DIMS}"),
    ("FLASH_ATTN_DTYPES", "bf16,fp8", "holds 'fp8'; accepted are bf16, fp16, separated by ','"),
    ("FLASH_ATTN_TORCH_REQUIREMENT", "", ONE_TORCH),
    ("FLASH_ATTN_TORCH_REQUIREMENT", "torch", ONE_TORCH),
    ("FLASH_ATTN_TORCH_REQUIREMENT", "torch>=2.11.0", ONE_TORCH),
    ("FLASH_ATTN_TORCH_REQUIREMENT", "torch==2.*", ONE_TORCH),
    ("FLASH_ATTN_TORCH_REQUIREMENT", "torchvision==0.26.0", ONE_TORCH),
)


@pytest.fixture(scope="module")
def answers(upstream: Upstream) -> dict[str, Any]:
    """What setup.py makes of every setting below: one import of torch for all."""
    asked = {"FLASH_ATTN_CUDA_ARCHS": "12.0a"}
    settings = {
        name: stack_setting(name) for name in ("torch211", "torch211-quick", "report-2025-10")
    }
    settings |= {"unset": {}, "torch's list": {**asked, "TORCH_CUDA_ARCH_LIST": "8.0;9.0+PTX"}}
    settings |= {spelling: {"FLASH_ATTN_CUDA_ARCHS": spelling} for spelling in SPELLINGS}
    settings |= {f"{variable}={value}": {variable: value} for variable, value, _ in REFUSED}
    hopper = upstream.tree / "hopper" / "__init__.py"
    hopper.parent.mkdir(exist_ok=True)  # the pin leaves it out of the tree
    hopper.touch()
    return upstream.ask(settings, cuda_home=upstream.toolchain.root)


def gencodes(answer: dict[str, Any]) -> list[str]:
    flags = answer["nvcc"]
    return [flags[at + 1] for at, flag in enumerate(flags) if flag == "-gencode"]


def macros(flags: list[str]) -> list[str]:
    return [flag for flag in flags if flag.startswith("-D")]


def units(answer: dict[str, Any]) -> list[str]:
    return sorted(Path(source).name for source in answer["sources"])


QUICKSTART_UNITS = [
    "flash_api.cpp",
    "flash_fwd_hdim128_bf16_causal_sm80.cu",
    "flash_fwd_hdim128_bf16_sm80.cu",
    "flash_fwd_hdim64_bf16_causal_sm80.cu",
    "flash_fwd_hdim64_bf16_sm80.cu",
]


def test_stacks_compile_the_objects_they_name_for_sm_120a_alone(answers: dict[str, Any]) -> None:
    for name in ("torch211", "torch211-quick", "report-2025-10"):
        stack = loader.load(name, CONSTRAINTS)
        assert len(answers[name]["sources"]) == stack.project("flash-attn").objects, name
        assert gencodes(answers[name]) == ["arch=compute_120a,code=sm_120a"], name
        assert answers[name]["requires"] == [stack.torch.requirement, "einops"], name
    assert units(answers["torch211-quick"]) == QUICKSTART_UNITS


def test_inference_leaves_out_the_backward_units_alone(answers: dict[str, Any]) -> None:
    everything, inference = answers["torch211"], answers["report-2025-10"]
    assert (len(units(everything)), len(units(inference))) == (73, 49)
    assert units(inference) == [name for name in units(everything) if "_bwd_" not in name]
    assert macros(inference["nvcc"]) == ["-DFLASHATTENTION_DISABLE_BACKWARD"]


def test_full_build_defines_no_macro(answers: dict[str, Any]) -> None:
    for name in ("torch211", "unset"):
        assert macros(answers[name]["cxx"] + answers[name]["nvcc"]) == [], name


def test_wheel_holds_flash_attn_alone_under_the_label(answers: dict[str, Any]) -> None:
    packages = {package.partition(".")[0] for package in answers["torch211"]["packages"]}
    assert packages == {"flash_attn"}, "hopper/ lies in the tree and stays there"
    revision = loader.load("torch211", CONSTRAINTS).project("flash-attn").revision
    assert answers["torch211"]["version"] == f"2.8.3+cu130torch2.11.0.sm120a.{revision}"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_its_own_gencode_and_nothing_else(
    spelling: str, answers: dict[str, Any]
) -> None:
    expected = [f"arch=compute_{arch},code=sm_{arch}" for arch in SPELLINGS[spelling]]
    assert gencodes(answers[spelling]) == expected


@pytest.mark.parametrize("name", ["120a", "torch's list"])
def test_torch_adds_no_archs_of_its_own(name: str, answers: dict[str, Any]) -> None:
    assert answers[name]["torch_adds"] == []
    assert gencodes(answers[name]) == ["arch=compute_120a,code=sm_120a"]


def test_unset_archs_are_the_four_of_upstream(answers: dict[str, Any]) -> None:
    archs = ("80", "90", "100", "120")
    expected = [f"arch=compute_{arch},code=sm_{arch}" for arch in archs]
    assert gencodes(answers["unset"]) == expected


@pytest.mark.parametrize(("variable", "value", "fault"), REFUSED)
def test_what_setup_does_not_know_stops_it_before_anything_compiles(
    variable: str, value: str, fault: str, answers: dict[str, Any]
) -> None:
    assert answers[f"{variable}={value}"] == {"error": f"{variable}={value!r} {fault}"}


def test_arch_that_nvcc_is_too_old_for_stops_setup(upstream: Upstream, tmp_path: Path) -> None:
    # No package ships an nvcc this old: the script answers the one question that setup.py asks.
    (tmp_path / "bin").mkdir()
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.131'\n")
    nvcc.chmod(0o755)
    settings: dict[str, dict[str, str]] = {"asked": {"FLASH_ATTN_CUDA_ARCHS": "12.0a"}, "unset": {}}
    found = upstream.ask(settings, cuda_home=tmp_path)
    assert found["asked"] == {
        "error": "FLASH_ATTN_CUDA_ARCHS asks for sm_120a, which needs CUDA 12.8; "
        f"nvcc in {tmp_path} is 12.4"
    }
    assert gencodes(found["unset"]) == ["arch=compute_80,code=sm_80", "arch=compute_90,code=sm_90"]


# The dispatch alone: kernels that name themselves, and calls that need no GPU to get there.
CALLS = """
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <cutlass/numeric_types.h>
#include "flash.h"
#include <cstring>
#include <sstream>
using cutlass::bfloat16_t;
namespace flash {
void run_mha_fwd(Flash_fwd_params &, cudaStream_t, bool);
void run_mha_bwd(Flash_bwd_params &, cudaStream_t);
std::tuple<at::Tensor, at::Tensor> set_params_splitkv(Flash_fwd_params &, const int, const int,
    const int, const int, const int, const int, const float, const int, const int,
    c10::TensorOptions);
static std::ostringstream ran;
#define KERNEL(DIM, CAUSAL) template<> void run_mha_fwd_<bfloat16_t, DIM, CAUSAL>( \\
    Flash_fwd_params &, cudaStream_t) { ran << "bf16 " #DIM " causal=" #CAUSAL; }
KERNELS
static char answer[1000];
template <typename F> const char *said(F call) {
    ran.str("");
    try { call(); } catch (const c10::Error &error) { ran << error.what_without_backtrace(); }
    return std::strncpy(answer, ran.str().c_str(), sizeof answer - 1);
}
extern "C" const char *fwd(int bf16, int dim, int causal, int splits, int force) {
    Flash_fwd_params params = {};
    params.is_bf16 = bf16; params.d = dim; params.is_causal = causal; params.num_splits = splits;
    return said([&] { run_mha_fwd(params, nullptr, force); });
}
extern "C" const char *bwd() {
    Flash_bwd_params params = {};
    params.is_bf16 = true; params.d = 64;
    return said([&] { run_mha_bwd(params, nullptr); });
}
extern "C" int splits(int asked) {  // one query against 8192 keys: upstream's heuristic splits it
    Flash_fwd_params params = {};
    set_params_splitkv(params, 1, 8, 128, 8192, 1, 128, 0.f, asked, 170, at::TensorOptions());
    return params.num_splits;
}
}
"""
RUN = """
import ctypes, json, sys
import torch  # noqa: F401  its libraries are what the extension links against
library = ctypes.CDLL(sys.argv[1])
library.fwd.restype = library.bwd.restype = ctypes.c_char_p
answers = [library.fwd(*call).decode() for call in json.loads(sys.argv[2])]
print(json.dumps([answers, library.bwd().decode(), library.splits(0), library.splits(1)]))
"""
WITHOUT = "flash_attn: this wheel was built without"
SPLIT = (
    f"{WITHOUT} split-KV kernels, which num_splits > 1, a paged KV cache, cache_batch_idx and "
    "appending to a KV cache need (FLASH_ATTN_PASSES=fwd)"
)


def no_dim(dim: int, asked: int) -> str:
    what = f"the kernels of head dim {dim}, which a call with head dim {asked} needs"
    return f"{WITHOUT} {what} (FLASH_ATTN_HEAD_DIMS=64,128)"


FWD = {
    # bf16, head dim, causal, num_splits, split kernel forced
    (1, 64, 0, 0, 0): "bf16 64 causal=false",
    (1, 40, 1, 1, 0): "bf16 64 causal=true",
    (1, 128, 1, 1, 0): "bf16 128 causal=true",
    (1, 104, 0, 1, 0): "bf16 128 causal=false",
    (1, 8, 0, 1, 0): no_dim(32, 8),
    (1, 32, 0, 1, 0): no_dim(32, 32),
    (1, 72, 0, 1, 0): no_dim(96, 72),
    (1, 136, 0, 1, 0): no_dim(192, 136),
    (1, 256, 0, 1, 0): no_dim(256, 256),
    (0, 64, 0, 1, 0): f"{WITHOUT} fp16 kernels (FLASH_ATTN_DTYPES=bf16)",
    (1, 64, 0, 2, 0): SPLIT,
    (1, 64, 0, 1, 1): SPLIT,
}


def kernels_in(tree: Path, answer: dict[str, Any]) -> set[tuple[str, str]]:
    """Head dim and causality of every forward kernel that the selected units define."""
    text = "".join((tree / name).read_text() for name in answer["sources"] if name.endswith(".cu"))
    return set(re.findall(r"void run_mha_fwd_<cutlass::bfloat16_t, (\d+), (\w+)>", text))


def test_quickstart_calls_find_their_kernel_or_say_what_was_not_built(
    upstream: Upstream, answers: dict[str, Any]
) -> None:
    answer = answers["torch211-quick"]
    built = kernels_in(upstream.tree, answer)
    assert built == {(dim, causal) for dim in ("64", "128") for causal in ("false", "true")}
    folder = upstream.scratch / "dispatch"
    folder.mkdir()
    kernels = "".join(f"KERNEL({dim}, {causal})\n" for dim, causal in sorted(built))
    (folder / "calls.cpp").write_text(CALLS.replace("KERNELS", kernels))
    flags = [flag for flag in answer["cxx"] if flag != "-O3"]
    flags += ["-w", "-fPIC", "-DTORCH_EXTENSION_NAME=flash_attn_2_cuda"]
    flags += [f"-I{path}" for path in (*answer["include"], upstream.toolchain.root / "include")]
    api = upstream.tree / "csrc" / "flash_attn" / "flash_api.cpp"
    for path in (api, folder / "calls.cpp"):
        argv = ["g++", *flags, "-c", str(path), "-o", f"{path.stem}.o"]
        capture(argv, environment=HERE, cwd=folder)

    listed = capture(["nm", "-C", "-u", "flash_api.o"], environment=HERE, cwd=folder).stdout
    wanted = re.findall(r"U .*run_mha_\w+<cutlass::bfloat16_t, (\d+), (\w+)>", listed)
    assert len(re.findall(r"run_mha_", listed)) == 4
    assert set(wanted) == built, "what is named is what the selected units define, and no more"

    argv = ["g++", "-shared", "-o", "dispatch.so", "flash_api.o", "calls.o", *answer["link"]]
    capture(argv, environment=HERE, cwd=folder)
    argv = [str(upstream.python), "-c", RUN, str(folder / "dispatch.so"), json.dumps(list(FWD))]
    forward, backward, chosen, asked = json.loads(
        capture(argv, environment=HERE, cwd=folder).stdout
    )
    assert dict(zip(FWD, forward, strict=True)) == FWD
    assert backward == f"{WITHOUT} backward kernels (FLASH_ATTN_PASSES=fwd)"
    assert (chosen, asked) == (1, 1)
