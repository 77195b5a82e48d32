"""What a wheel may say about itself, and which torch it may accept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from wheelwright import BARE, LABEL, NAME, SO, TORCH, make_wheel, native

from blackwheel.audit.audit import Expected, inspect
from blackwheel.audit.metadata import accepts_one, companion_findings, torch_findings


def findings(wheel: Path, expected: Expected = BARE) -> list[str]:
    report = inspect(wheel, archs=BARE.archs, expected=expected)
    return [str(finding) for finding in report.findings]


@pytest.mark.parametrize(
    ("requirement", "exact"),
    [
        ("torch===2.11.0", True),
        ("torch==2.10.0.dev20251016+cu128", True),
        ("torch==2.11.0", False),  # 2.11.0+cu128 and 2.11.0+cu130 alike
        ("torch", False),
        ("torch>=2.11.0", False),
        ("torch==2.11.*", False),
        ("torch===2.11.0,>=2", False),
        ("torch===2.11.0; python_version < '3.12'", False),
        ("torch @ https://example.org/torch.whl", False),
    ],
)
def test_only_an_exact_requirement_accepts_one_torch(requirement: str, exact: bool) -> None:
    assert accepts_one(Requirement(requirement)) is exact


def test_bare_torch_is_refused() -> None:
    (found,) = torch_findings([Requirement("torch")], TORCH)
    fact = "it requires torch, which does not accept exactly one torch: torch===2.11.0 does"
    assert (found.name, found.fact, found.fatal) == ("torch-not-pinned", fact, True)


def test_no_torch_is_refused() -> None:
    (found,) = torch_findings([Requirement("einops")], None)
    fact = "it requires no torch at all, which does not accept exactly one torch"
    assert (found.name, found.fact) == ("torch-not-pinned", fact)


def test_two_torch_requirements_are_refused() -> None:
    both = [Requirement("torch===2.11.0"), Requirement("torch===2.12.0")]
    assert [found.name for found in torch_findings(both, TORCH)] == ["torch-not-pinned"]


def test_exact_requirement_on_another_torch_is_refused() -> None:
    (found,) = torch_findings([Requirement("torch===2.12.0")], TORCH)
    fact = "it requires torch===2.12.0, the stack has torch===2.11.0"
    assert (found.name, found.fact) == ("other-torch", fact)


@pytest.mark.parametrize("loose", ["torchvision", "torchcodec>=0.14", "xformers==0.0.*", "vllm"])
def test_loose_requirement_on_what_is_bound_to_torch_is_refused(loose: str) -> None:
    (found,) = companion_findings([Requirement(loose)], None)
    fact = f"it requires {loose}: only one exact release keeps the torch"
    assert (found.name, found.fact) == ("may-swap-torch", fact)


def test_exact_requirement_on_what_is_bound_to_torch_passes() -> None:
    both = [Requirement("torchvision==0.26.0"), Requirement("torchaudio===2.11.0")]
    assert list(companion_findings(both, None)) == []


@pytest.mark.parametrize(
    ("requirement", "label", "named"),
    [
        ("torch===2.13.0", LABEL, True),
        ("torch>=2.12", LABEL, True),
        ("torch===2.11.0", LABEL, False),
        ("torch>=2", LABEL, False),
        ("torch==2.11.0+cu130", LABEL, False),
        ("torch==2.16.0.dev20261006+cu134", "cu134torch2.16.0.dev20261006.sm120a.1", False),
        ("torch==2.16.0.dev20261007+cu134", "cu134torch2.16.0.dev20261006.sm120a.1", True),
        ("torch===2.13.0", "cu130.sm120a.1", False),
    ],
)
def test_torch_that_is_not_the_labels_is_told_of_a_foreign_wheel(
    tmp_path: Path, requirement: str, label: str, named: bool
) -> None:
    wheel = make_wheel(tmp_path, name=NAME.replace(LABEL, label), requires=[requirement])
    found = [one for one in inspect(wheel, archs=BARE.archs).findings if one.name == "other-torch"]
    assert [one.fatal for one in found] == [False] * named
    assert all(requirement in one.fact and "its label names torch 2.1" in one.fact for one in found)


def test_other_label_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, name=NAME.replace("sm120a.1", "sm120a.2"))
    label = LABEL.replace("sm120a.1", "sm120a.2")
    fact = f"other-label: it is version 1.0+{label}, the stack makes 1.0+{LABEL}"
    assert findings(wheel) == [fact]


def test_other_version_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, name=NAME.replace("toy-1.0+", "toy-1.1+"))
    fact = f"other-label: it is version 1.1+{LABEL}, the stack makes 1.0+{LABEL}"
    assert findings(wheel) == [fact]


def test_wheel_of_another_format_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, wheel_version="2.0")
    assert findings(wheel) == ["bad-wheel-file: Wheel-Version is 2.0, not 1.x"]


def test_library_in_a_wheel_for_any_platform_is_refused(tmp_path: Path) -> None:
    name = NAME.replace("linux_x86_64", "any")
    wheel = make_wheel(tmp_path, {SO: native()}, name=name)
    fact = "tag-mismatch: it holds libraries but says that it fits any platform"
    assert fact in findings(wheel)
    assert findings(make_wheel(tmp_path / "pure", name=name)) == []


def test_requirement_by_address_is_refused(tmp_path: Path) -> None:
    address = "einops @ https://example.org/einops.whl"
    wheel = make_wheel(tmp_path, requires=[TORCH, address])
    fact = f"url-requirement: it requires {address}: an address can bring any torch along"
    assert findings(wheel) == [fact]


def test_torchvision_must_be_the_one_of_the_stack(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, requires=[TORCH, "torchvision==0.26.0", "torchaudio==2.11.0"])
    both = ("torchvision==0.26.0", "torchaudio==2.11.0")
    assert findings(wheel, replace(BARE, runtime=both)) == []
    fact = "may-swap-torch: it requires torchvision==0.26.0, the stack has torchvision==0.25.0"
    assert findings(wheel, replace(BARE, runtime=("torchvision==0.25.0", both[1]))) == [fact]
    fact = "may-swap-torch: it requires torchaudio==2.11.0, the stack has none"
    assert findings(wheel, replace(BARE, runtime=both[:1])) == [fact]


def test_label_that_is_missing_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, name="toy-1.0-cp312-cp312-linux_x86_64.whl")
    assert findings(wheel) == [f"other-label: it is version 1.0, the stack makes 1.0+{LABEL}"]


def test_wheel_for_another_python_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    fact = "other-python: it is for cp312, not cp311"
    assert findings(wheel, replace(BARE, python="cp311")) == [fact]


def test_abi3_wheel_serves_other_pythons(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, name=NAME.replace("cp312-cp312", "cp38-abi3"))
    assert findings(wheel, replace(BARE, python="cp311")) == []


def test_tags_unlike_the_file_name_are_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, tag="cp312-cp312-manylinux_2_28_x86_64")
    fact = (
        "tag-mismatch: WHEEL says cp312-cp312-manylinux_2_28_x86_64,"
        " the file name cp312-cp312-linux_x86_64"
    )
    assert findings(wheel) == [fact]


def test_metadata_that_breaks_its_standard_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, requires=["torch=2.11.0"])
    assert findings(wheel)[0].startswith(
        "bad-metadata: METADATA: 'torch=2.11.0' is invalid for 'requires-dist'"
    )


def test_wheel_that_links_no_torch_requires_none_and_is_not_asked_for_one(tmp_path: Path) -> None:
    free = replace(BARE, torch="")
    assert findings(make_wheel(tmp_path, requires=["einops"]), free) == []
    assert findings(make_wheel(tmp_path, requires=["einops", TORCH]), free) == [
        f"other-torch: it requires {TORCH}, and its stack says that it links no torch"
    ]
