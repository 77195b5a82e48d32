"""What a server needs beside the wheels, on machines made of folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from blackwheel.core.machine import read_machine
from blackwheel.doctor import for_serving
from blackwheel.doctor.check import Check
from blackwheel.stacks import loader

ROOT = Path(__file__).parents[2]
PATCHES = ROOT / "patches"
STABLE = loader.load("torch211", ROOT / "constraints")


def tool(folder: Path, name: str, said: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{said}'\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def checks(environment: dict[str, str], name: str) -> list[Check]:
    seen = for_serving.examine(STABLE, PATCHES, environment, read_machine())
    return [check for check in seen if check.name == name]


def environment(tmp_path: Path, **variables: str) -> dict[str, str]:
    (tmp_path / "bin").mkdir(exist_ok=True)
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path), **variables}


def test_without_driver_and_gpu_nothing_runs(tmp_path: Path) -> None:
    if read_machine().driver:
        pytest.skip("this machine has a driver")
    seen = environment(tmp_path)
    assert checks(seen, "driver") == [
        Check(
            name="driver",
            ok=False,
            fact="no NVIDIA driver",
            cure="to run the wheels: driver 580 or newer",
        )
    ]
    assert checks(seen, "gpu") == [
        Check(
            name="gpu",
            ok=False,
            fact="none is seen",
            cure="a card of 12.0a, visible to this machine",
        )
    ]


def test_old_driver_is_a_lack_and_a_right_card_is_none(tmp_path: Path) -> None:
    tool(tmp_path / "bin", "nvidia-smi", "NVIDIA GeForce RTX 5090, 575.64.05, 12.0")
    seen = environment(tmp_path)
    (driver,) = checks(seen, "driver")
    assert (driver.ok, driver.fact) == (
        False,
        "driver 575.64.05 does not run what stack 'torch211' builds",
    )
    (gpu,) = checks(seen, "gpu")
    assert (gpu.ok, gpu.fact) == (True, "NVIDIA GeForce RTX 5090 is 12.0: the wheels run there")


@pytest.mark.parametrize(
    ("release", "ok", "ending"),
    [
        ("13.0", True, ""),
        ("12.8", None, ": FlashInfer's fp8 kernels compiled by it crash on 12.0"),
    ],
)
def test_the_nvcc_that_flashinfer_takes_is_that_of_cuda_home_before_paths(
    tmp_path: Path, release: str, ok: bool | None, ending: str
) -> None:
    tool(tmp_path / "bin", "nvcc", "Cuda compilation tools, release 11.8, V11.8.89")
    told = f"Cuda compilation tools, release {release}, V{release}.93"
    nvcc = tool(tmp_path / "cuda" / "bin", "nvcc", told)
    (seen,) = checks(environment(tmp_path, CUDA_HOME=str(tmp_path / "cuda")), "nvcc")
    assert (seen.ok, seen.fact) == (ok, f"nvcc {release} by CUDA_HOME ({nvcc}){ending}")


def test_without_nvcc_flashinfer_cannot_compile_and_that_is_a_note(tmp_path: Path) -> None:
    (seen,) = checks(environment(tmp_path, CUDA_HOME=str(tmp_path)), "nvcc")
    assert seen.ok is None
    assert seen.fact == (
        f"no nvcc by CUDA_HOME ({tmp_path}/bin/nvcc): FlashInfer cannot compile at run time"
    )


def test_without_a_compiler_triton_cannot_start(tmp_path: Path) -> None:
    (seen,) = checks(environment(tmp_path), "compiler")
    assert (seen.ok, seen.cure) == (
        False,
        "apt-get install gcc (Debian, Ubuntu); in an image, keep it there",
    )


def test_caches_are_looked_for_where_the_variables_say(tmp_path: Path) -> None:
    (seen,) = checks(environment(tmp_path, HF_HOME=f"{tmp_path}/models/hf"), "HF_HOME")
    assert seen.fact.startswith(f"{tmp_path}/models/hf: ")
