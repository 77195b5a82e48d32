"""A small torch, repacked as a nightly by benchmarks/repack_torch.py: streamed, and whole."""

from __future__ import annotations

import os
import runpy
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from wheel.wheelfile import WheelFile

ROOT = Path(__file__).parents[2]
REPACKED: Callable[..., Path] = runpy.run_path(str(ROOT / "benchmarks" / "repack_torch.py"))[
    "repacked"
]
GIT = "7" * 40
VERSION = "2.16.0.dev20261007+cu132"
HEADER = "torch/include/c10/core/Device.h"
OTHER = "torch/include/ATen/core/TensorBody.h"
LIBRARY = os.urandom(12 << 20)
METADATA = """\
Metadata-Version: 2.4
Name: torch
Version: 2.15.0
Requires-Dist: setuptools>=77.0.3
Requires-Dist: triton~=3.9.0; platform_system == "Linux"

Version: 2.15.0 stands in the text, too.
"""


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A wheel as the registry has it, with a library of 12 MB that no packer makes smaller."""
    path = tmp_path / "torch-2.15.0-cp312-cp312-manylinux_2_28_x86_64.whl"
    with WheelFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        said = f"__version__ = '2.15.0+cu132'\ngit_version: str = '{'a' * 40}'\ncuda = '13.2'\n"
        wheel.writestr("torch/version.py", said)
        wheel.writestr("torch/lib/libtorch_cpu.so", LIBRARY)
        wheel.writestr(HEADER, "#pragma once\n")
        wheel.writestr(OTHER, "#pragma once\n")
        wheel.writestr("torch-2.15.0.dist-info/METADATA", METADATA)
        wheel.writestr("torch-2.15.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    return path


def texts(wheel: Path) -> dict[str, str]:
    """All small members; reading checks each against RECORD."""
    with WheelFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith((".so", "RECORD"))]
        return {name: archive.read(name).decode() for name in names}


def test_nightly_differs_in_version_commit_requirement_and_headers(
    registry: Path, tmp_path: Path
) -> None:
    made = REPACKED(registry, tmp_path / "out", version=VERSION, git=GIT, triton="3.9.0+git1")
    assert made.name == f"torch-{VERSION}-cp312-cp312-manylinux_2_28_x86_64.whl"
    found = texts(made)
    info = f"torch-{VERSION}.dist-info"
    said = f"__version__ = '{VERSION}'\ngit_version = '{GIT}'\ncuda = '13.2'\n"
    assert found["torch/version.py"] == said
    assert found[f"{info}/METADATA"] == (
        METADATA.replace("\nVersion: 2.15.0\nReq", f"\nVersion: {VERSION}\nReq").replace(
            "triton~=3.9.0;", "triton==3.9.0+git1;"
        )
    )
    for header in (HEADER, OTHER):
        assert found[header] == f'#pragma once\nstatic_assert(true, "{VERSION}");\n'
    with zipfile.ZipFile(made) as archive:
        assert archive.testzip() is None
        assert archive.read("torch/lib/libtorch_cpu.so") == LIBRARY
        assert not [name for name in archive.namelist() if "2.15.0" in name]


def test_large_members_pass_through_without_being_held(registry: Path, tmp_path: Path) -> None:
    tracemalloc.start()
    REPACKED(registry, tmp_path / "out", version=VERSION, git=GIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 << 20


def test_other_wheel_gets_another_version_alone(tmp_path: Path) -> None:
    path = tmp_path / "triton-3.9.0-cp312-abi3-manylinux_2_28_x86_64.whl"
    with WheelFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("triton/__init__.py", "")
        head = "Metadata-Version: 2.4\nName: triton\nVersion: 3.9.0\n"
        wheel.writestr("triton-3.9.0.dist-info/METADATA", head)
    made = REPACKED(path, tmp_path / "out", version="3.9.0+git1")
    assert made.name == "triton-3.9.0+git1-cp312-abi3-manylinux_2_28_x86_64.whl"
    assert texts(made)["triton-3.9.0+git1.dist-info/METADATA"].endswith("Version: 3.9.0+git1\n")


def test_wheel_that_is_not_as_expected_is_left_alone(registry: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for what, how in {
        "lacks torch/include/lost.h": {"git": GIT, "headers": ("torch/include/lost.h",)},
        "--git: the 40 digits": {"git": "7777777"},
    }.items():
        with pytest.raises(SystemExit, match=what):
            REPACKED(registry, out, version=VERSION, **how)
    other = tmp_path / "other" / registry.name
    other.parent.mkdir()
    with WheelFile(registry) as whole, WheelFile(other, "w") as wheel:
        for name in whole.namelist():
            text = whole.read(name)
            lost = text.replace(b"git_version", b"git_of") if name.endswith("version.py") else text
            if not name.endswith(("RECORD", ".so")):
                wheel.writestr(name, lost)
    with pytest.raises(SystemExit, match="git_version stands 0 times"):
        REPACKED(other, out, version=VERSION, git=GIT)
    assert not out.exists() or not list(out.iterdir())
