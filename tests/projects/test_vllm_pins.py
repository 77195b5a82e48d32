"""vLLM's pins: held to what its own CMake files name, and to the stack's torch."""

from __future__ import annotations

import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import site_with
from packaging.requirements import Requirement

from blackwheel.audit.metadata import companion_findings, torch_findings
from blackwheel.builder.inside import launcher
from blackwheel.builder.requirements import set_requirements
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import here
from blackwheel.sources import sdist, series
from blackwheel.stacks import ask, key, loader
from blackwheel.stacks.records import LockedWheel, ProjectPin, Stack, TorchWheel
from blackwheel.stacks.request import Request, build_variables, filled

ROOT = Path(__file__).parents[2]
STABLE, NIGHTLY = (
    loader.load(name, ROOT / "constraints") for name in ("torch211", "report-2025-10")
)
VLLM = STABLE.projects["vllm"]
OLDER = NIGHTLY.projects["vllm"]
CMAKE = "cmake/external_projects"
PLACES = {
    "third_party/cutlass": ("CMakeLists.txt", r'set\(CUTLASS_REVISION "(\S+)"'),
    "third_party/vllm-flash-attn": (f"{CMAKE}/vllm_flash_attn.cmake", r"GIT_TAG (\S+)"),
    "third_party/qutlass": (f"{CMAKE}/qutlass.cmake", r'UPSTREAM_TAG "(\S+)"'),
    "third_party/deepgemm": (f"{CMAKE}/deepgemm.cmake", r'UPSTREAM_TAG "(\S+)"'),
    "third_party/triton_kernels": (f"{CMAKE}/triton_kernels.cmake", r'KERNELS_TAG "(\S+)"'),
}
"""Nested source: the file that names its commit or tag, and how."""
TAGS = {
    "v4.0.0": "b995f933179c22d3fe0d871c3a53d11e4681950f",
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


def texts(pin: ProjectPin, store: Path) -> dict[str, str]:
    """What the sdist of a release holds: CMake's files, the requirements, and its version."""
    assert pin.sdist
    archive = sdist.obtain(site_with(store), pin.sdist, project="vllm")
    ends = (".cmake", "CMakeLists.txt", "requirements/common.txt", "requirements/cuda.txt")
    with tarfile.open(archive) as tar:
        return {
            m.name.partition("/")[2]: tar.extractfile(m).read().decode()  # type: ignore[union-attr]
            for m in tar
            if m.name.endswith((*ends, "/vllm/_version.py", f"{pin.version}/setup.py"))
        }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def cmake(store: Path) -> dict[str, str]:
    return texts(VLLM, store)


@pytest.fixture(scope="module")
def older(store: Path) -> dict[str, str]:
    return texts(OLDER, store)


@pytest.mark.network
def test_every_nested_pin_is_what_upstreams_cmake_files_name(
    cmake: dict[str, str], older: dict[str, str]
) -> None:
    assert differing(VLLM, cmake) == []
    assert differing(OLDER, older) == []


@pytest.mark.network
def test_the_commit_of_the_older_release_is_what_its_sdist_says(older: dict[str, str]) -> None:
    assert f"commit_id = 'g{OLDER.source.commit}'" in older["vllm/_version.py"]
    assert OLDER.source.only_sdist
    assert not VLLM.source.only_sdist


@pytest.mark.network
def test_every_source_that_the_older_release_fetches_is_pinned_or_left_out(
    older: dict[str, str],
) -> None:
    """Those of the CPU apart: a build for CUDA does not read their file."""
    fetched = [
        project
        for file, text in older.items()
        if file != "cmake/cpu_extension.cmake"
        for project in re.findall(r"FetchContent_MakeAvailable\(([\w-]+)\)", text)
    ]
    assert sorted(fetched) == ["cutlass", "flashmla", "vllm-flash-attn"]
    pinned = {nested.path for nested in OLDER.nested}
    assert {"third_party/cutlass", "third_party/vllm-flash-attn"} < pinned
    assert "flashmla" in OLDER.variables["VLLM_WITHOUT"]


@pytest.mark.network
def test_rust_is_in_no_release_that_does_not_choose_it(
    cmake: dict[str, str], older: dict[str, str]
) -> None:
    assert "rust" in cmake["setup.py"]
    assert VLLM.variables["VLLM_REQUIRE_RUST_FRONTEND"] == "0"
    assert "rust" not in older["setup.py"].lower()


TORCH = TorchWheel(
    name="torch-2.10.0.dev20251016+cu128-cp311-cp311-manylinux_2_28_x86_64.whl",
    sha256="0" * 64,
    size=1,
    family=tuple(
        LockedWheel(name=f"{name}-cp311-cp311-manylinux_2_28_x86_64.whl", sha256="0" * 64, size=1)
        for name in (
            "torchaudio-2.10.0.dev20251016+cu128",
            "torchvision-0.25.0.dev20251016+cu128",
        )
    ),
)
"""As `invoke pin torch` would lock it; names alone matter here, and nobody has seen the bytes."""
LOCKED = replace(NIGHTLY, torch=replace(NIGHTLY.torch, wheels={"cp311": TORCH}))


def required(stack: Stack, texts: dict[str, str], folder: Path) -> list[Requirement]:
    """What the metadata of a release would hold after the recorded step, as setup.py reads it."""
    (folder / "requirements").mkdir()
    files = [folder / "requirements" / name for name in ("common.txt", "cuda.txt")]
    for file in files:
        text = texts[f"requirements/{file.name}"]
        file.write_text(text, encoding="utf-8")
    set_requirements(folder, stack, "vllm", "3.11")
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    kept = (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines)
    return [Requirement(line) for line in kept if line and not line.startswith("-")]


@pytest.mark.network
def test_the_older_release_requires_the_locked_family_and_nothing_that_would_swap_it(
    older: dict[str, str], tmp_path: Path
) -> None:
    found = required(LOCKED, older, tmp_path)
    family = {one.name: str(one) for one in found if one.name.startswith(("torch", "xformers"))}
    assert family == {
        "torch": "torch==2.10.0.dev20251016+cu128",
        "torchaudio": "torchaudio==2.10.0.dev20251016+cu128",
        "torchvision": "torchvision==0.25.0.dev20251016+cu128",
    }
    runtime = [filled(line, LOCKED, OLDER, "3.11") for line in OLDER.runtime]
    assert torch_findings(found, LOCKED.torch.requirement) == ()
    assert list(companion_findings(found, runtime)) == []
    stacks_own = [Requirement(line) for line in (*runtime, LOCKED.torch.requirement)]
    here, there = (
        {one.name for one in lines if one.marker is None or one.marker.evaluate()}
        for lines in (found, stacks_own)
    )
    assert here == there


@pytest.mark.network
def test_a_requirement_that_would_swap_torch_and_slipped_in_is_refused(
    older: dict[str, str], tmp_path: Path
) -> None:
    slipped = {**older}
    slipped["requirements/common.txt"] += "torchao >= 0.14 # quantization\ntorch>=2.8\n"
    found = required(LOCKED, slipped, tmp_path)
    runtime = [filled(line, LOCKED, OLDER, "3.11") for line in OLDER.runtime]
    assert [str(one) for one in companion_findings(found, runtime)] == [
        "may-swap-torch: it requires torchao>=0.14: only one exact release keeps the torch"
    ]
    assert [one.name for one in torch_findings(found, LOCKED.torch.requirement)] == [
        "torch-not-pinned"
    ]


def test_the_locked_family_is_in_the_key_of_what_requires_it(tmp_path: Path) -> None:
    (tmp_path / "report-2025-10").mkdir()
    (tmp_path / "report-2025-10" / "build-vllm-py311.txt").write_text("", encoding="utf-8")
    other = replace(TORCH, family=(TORCH.family[0], replace(TORCH.family[1], name=LATER)))
    found = [
        key.key(
            Request(
                stack=replace(NIGHTLY, torch=replace(NIGHTLY.torch, wheels={"cp311": wheel})),
                project="vllm",
                python="3.11",
                archs=NIGHTLY.archs,
            ),
            patches=series.patch_digests(
                series.load_series(ROOT / "patches" / "vllm" / OLDER.version)
            ),
            constraints=tmp_path,
            isolation="namespaces",
        )
        for wheel in (TORCH, other)
    ]
    assert found[1].changes(dict(found[0].parts)) == ("requires.set changed",)


LATER = "torchvision-0.25.0.dev20251017+cu128-cp311-cp311-manylinux_2_28_x86_64.whl"


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


def test_only_a_project_with_an_sdist_may_be_pinned_by_nine_digits(tmp_path: Path) -> None:
    text = (ROOT / "constraints" / "torch211.toml").read_text(encoding="utf-8")
    short = text.replace(VLLM.source.commit, VLLM.source.commit[:9])
    short = short.replace(VLLM.nested[0].commit, VLLM.nested[0].commit[:9])
    (tmp_path / "mine.toml").write_text(short, encoding="utf-8")
    with pytest.raises(BlackwheelError) as raised:
        loader.load("mine", tmp_path)
    assert raised.value.fact.splitlines()[1:] == [
        "projects.vllm.nested.0.commit: 'da5e086da' does not match ^([0-9a-f]{40})?$"
    ]
    head, _, rest = short.partition("[projects.vllm.sdist]")
    rest = rest[rest.index("[[projects.vllm.nested]]") :].replace("da5e086da", "0" * 40, 1)
    (tmp_path / "mine.toml").write_text(head + rest, encoding="utf-8")
    with pytest.raises(BlackwheelError) as raised:
        loader.load("mine", tmp_path)
    assert raised.value.fact.splitlines()[1:] == [
        "projects.vllm.sdist: missing: source.commit is no whole one"
    ]


def test_what_is_left_out_changes_key_label_build_tree_and_variables() -> None:
    folder = ROOT / "patches" / "vllm" / VLLM.version
    whole, less = (
        key.key(
            asked,
            patches=series.patch_digests(series.load_series(folder)),
            constraints=ROOT / "constraints",
            isolation="namespaces",
        )
        for asked in (request(), request("triton_kernels"))
    )
    assert less.part("without") == '["triton_kernels"]'
    assert "without" not in dict(whole.parts)
    assert "nested.third_party/triton_kernels is gone" in less.changes(dict(whole.parts))
    label = f"cu130torch2.11.0.sm120a.lesstritonkernels.{VLLM.revision}"
    assert request("triton_kernels").version == f"0.26.0+{label}"
    assert request("triton_kernels").slug == "torch211-less-triton_kernels/vllm/cp311"
    filled = build_variables(request("triton_kernels"), jobs=1)
    assert filled["VLLM_WITHOUT"] == "fa3,flashmla,fmha_sm100,tml_fa4,triton_kernels"
    assert build_variables(request(), jobs=1)["VLLM_WITHOUT"] == ("fa3,flashmla,fmha_sm100,tml_fa4")


def test_each_project_leaves_out_only_what_is_its_own() -> None:
    asked, _ = ask.requests(here(), "torch211", without=["triton_kernels"])
    assert {one.project: one.without for one in asked} == {
        "flash-attn": (),
        "vllm": ("triton_kernels",),
    }


def test_only_an_optional_nested_source_can_be_left_out() -> None:
    with pytest.raises(BlackwheelError) as raised:
        ask.requests(here(), "torch211", without=["cutlass"])
    assert str(raised.value) == (
        "error: not-optional\n"
        "  'cutlass' is no nested source that flash-attn, vllm can be built without\n"
        "  where: --without\n"
        "  fix:   of stack 'torch211': triton_kernels"
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
    # Its own files too: such a one waited 11 minutes behind 82 objects of another build.
    trial = ["g++", "-o", "CMakeFiles/cmTC_d3112.dir/CMakeCXXCompilerABI.cpp.o", "-c", "/m/ABI.cpp"]
    assert launcher.compiled_object(trial) is None
    assert launcher.compiled_object(["nvcc", "-c", "/s/a.cu", "-o", "CMakeFiles/x.dir/a.cu.o"]) == (
        "/s/a.cu",
        "CMakeFiles/x.dir/a.cu.o",
    )
