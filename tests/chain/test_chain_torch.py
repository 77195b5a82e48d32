"""A small extension of the real torch walks the whole chain, through torch's own build rules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from checkout import new_checkout

from blackwheel.receipts import document as receipts

pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]

CP = f"cp3{sys.version_info.minor}"


def test_extension_is_built_by_torchs_own_rules_for_sm_120a_and_imports_beside_that_torch(
    tmp_path: Path, shared: Path
) -> None:
    checkout = new_checkout(tmp_path / "torch", shared, "toy_torch")
    done = checkout.build()
    assert done.code == 0, done.said
    (wheel,) = checkout.wheels
    assert wheel.name == (f"toy_torch-1.0+cu130torch2.11.0.sm120a.1-{CP}-{CP}-linux_x86_64.whl")
    document = receipts.load(checkout.shelf / f"{wheel.name}.receipt.json")
    assert receipts.verify(document, wheel) == ()
    held = receipts.sections(document)
    (library,) = held["audit"]["libraries"]
    assert library["kernels_by_arch"] == [["sm_120a", 1]]
    assert list(held["smoke"]["imports"]) == ["toy_torch"]
    # By PYTORCH_NVCC and CXX, which torch asks for, both objects went through the launcher.
    assert [each["source"] for each in held["objects"]["each"]] == ["bindings.cpp", "double.cu"]
