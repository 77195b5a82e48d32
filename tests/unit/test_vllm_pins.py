"""vLLM's pins: held to what its own CMake files name, and to the stack's torch."""

from __future__ import annotations

import os
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from blackwheel import keys, launcher, sdist, series, stacks, work
from blackwheel.audit.metadata import companion_findings, torch_findings
from blackwheel.console import Console
from blackwheel.errors import BlackwheelError
from blackwheel.keys import Request
from blackwheel.site import here
from blackwheel.stacks import ProjectPin

ROOT = Path(__file__).parents[2]
STABLE = stacks.load("stable", ROOT / "constraints")
VLLM = STABLE.projects["vllm"]
CMAKE = "cmake/external_projects"
PLACES = {
    "third_party/cutlass": ("CMakeLists.txt", r'set\(CUTLASS_REVISION "(\S+)"\)'),
    "third_party/vllm-flash-attn": (f"{CMAKE}/vllm_flash_attn.cmake", r"GIT_TAG (\S+)"),
    "third_party/qutlass": (f"{CMAKE}/qutlass.cmake", r'UPSTREAM_TAG "(\S+)"'),
    "third_party/deepgemm": (f"{CMAKE}/deepgemm.cmake", r'UPSTREAM_TAG "(\S+)"'),
    "third_party/triton_kernels": (f"{CMAKE}/triton_kernels.cmake", r'KERNELS_TAG "(\S+)"'),
}
"""Nested source: the file that names its commit or tag, and how."""
TAGS = {
    "v4.4.2": "da5e086dab31d63815acafdac9a9c5893b1c69e2",
    "v3.5.1": "0add68262ab0a2e33b84524346cb27cbb2787356",
}
"""What upstream names by tag."""


def differing(pin: ProjectPin, cmake: dict[str, str]) -> list[str]:
    """Name each nested source whose pin is not what upstream's CMake files say."""
    found = []
    for nested in pin.nested:
        if nested.path not in PLACES:
            continue  # a submodule of another nested source: its commit is in that one's tree
        file, pattern = PLACES[nested.path]
        (named,) = re.findall(pattern, cmake[file])
        if TAGS.get(named, named) != nested.commit:
            found.append(f"{nested.path}: {file} names {named}, the stack {nested.commit}")
    return found


@pytest.fixture(scope="module")
def cmake(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    assert VLLM.sdist
    archive = sdist.obtain(
        VLLM.sdist,
        project="vllm",
        store=tmp_path_factory.mktemp("store"),
        environment=os.environ,
        console=Console(environment={}),
    )
    with tarfile.open(archive) as tar:
        wanted = {f"vllm-{VLLM.version}/{file}": file for file, _ in PLACES.values()}
        return {
            wanted[m.name]: (tar.extractfile(m) or tar).read().decode()  # type: ignore[union-attr]
            for m in tar
            if m.name in wanted
        }


@pytest.mark.network
def test_every_nested_pin_is_what_upstreams_cmake_files_name(cmake: dict[str, str]) -> None:
    assert differing(VLLM, cmake) == []


@pytest.mark.network
def test_a_nested_pin_that_differs_from_upstreams_is_named(cmake: dict[str, str]) -> None:
    nested = tuple(
        replace(one, commit="0" * 40) if one.path == "third_party/qutlass" else one
        for one in VLLM.nested
    )
    assert differing(replace(VLLM, nested=nested), cmake) == [
        f"third_party/qutlass: {CMAKE}/qutlass.cmake names"
        f" 830d2c4537c7396e14a02a46fbddd18b5d107c65, the stack {'0' * 40}"
    ]


def request(*without: str) -> Request:
    return Request(stack=STABLE, project="vllm", python="3.11", archs=STABLE.archs, without=without)


def test_what_is_left_out_changes_key_label_build_tree_and_variables() -> None:
    folder = ROOT / "patches" / "vllm" / VLLM.version
    whole, less = (
        keys.key(
            asked,
            series=series.load_series(folder),
            constraints=ROOT / "constraints",
            isolation="namespaces",
        )
        for asked in (request(), request("triton_kernels"))
    )
    assert less.part("without") == '["triton_kernels"]'
    assert "without" not in dict(whole.parts)
    assert "nested.third_party/triton_kernels is gone" in less.changes(dict(whole.parts))
    assert request("triton_kernels").version == "0.26.0+cu130torch2.11.0.sm120a.lesstritonkernels.1"
    assert request("triton_kernels").slug == "stable-less-triton_kernels/vllm/cp311"
    filled = keys.build_variables(request("triton_kernels"), jobs=1)
    assert filled["VLLM_WITHOUT"] == "fa3,flashmla,fmha_sm100,tml_fa4,triton_kernels"
    assert keys.build_variables(request(), jobs=1)["VLLM_WITHOUT"] == (
        "fa3,flashmla,fmha_sm100,tml_fa4"
    )


def test_only_an_optional_nested_source_can_be_left_out() -> None:
    with pytest.raises(BlackwheelError) as raised:
        work.requests(here(), "stable", without=["cutlass"])
    assert str(raised.value) == (
        "error: not-optional\n"
        "  'cutlass' is no nested source that flash-attn, vllm can be built without\n"
        "  where: --without\n"
        "  fix:   of stack 'stable': triton_kernels"
    )


def test_the_set_keeps_the_stacks_torch_and_refuses_what_would_swap_it() -> None:
    family = [Requirement(line) for line in VLLM.runtime]
    assert list(companion_findings(family, VLLM.runtime)) == []
    slipped = [Requirement("xformers==0.0.32.post1"), Requirement("torchvision==0.25.0")]
    assert [str(one) for one in companion_findings(slipped, VLLM.runtime)] == [
        "may-swap-torch: it requires xformers==0.0.32.post1, the stack has none",
        "may-swap-torch: it requires torchvision==0.25.0, the stack has torchvision==0.26.0",
    ]
    loose = torch_findings([Requirement("torch==2.11.0")], STABLE.torch.requirement)
    assert [one.name for one in loose] == ["torch-not-pinned"]


def test_the_launcher_lets_only_named_sources_be_older() -> None:
    older = ",".join(name for one in VLLM.contract for name in one.older)
    assert launcher.missing_archs("a/scaled_mm_c2x.cu", ["sm_89"], "sm_120a", older) == []
    assert launcher.missing_archs("a/marlin.cu", ["sm_80"], "sm_120a", older) == ["sm_120a"]


def test_cmakes_trial_of_its_compilers_is_no_object() -> None:
    trial = ["nvcc", "-c", "/b/CMakeFiles/CMakeScratch/TryCompile-1/main.cu", "-o", "main.cu.o"]
    assert launcher.compiled_object(trial) is None
    assert launcher.compiled_object(["nvcc", "-c", "/s/a.cu", "-o", "CMakeFiles/x.dir/a.cu.o"]) == (
        "/s/a.cu",
        "CMakeFiles/x.dir/a.cu.o",
    )
