"""Checks of kernels find planted faults, and no crash of one ends the others."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import persons_environment
from uv import find_uv_bin

from blackwheel.smoke.checks import runner

pytestmark = [pytest.mark.torch, pytest.mark.network]
TOYS = Path(__file__).parents[1] / "toys"
FLASH_ATTN = runner.PATCHES / "flash-attn" / "checks.py"
PYTHON = f"3{sys.version_info.minor}"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> runner.Bench:
    """The torch of `torch211`, a CPU for a GPU, and a flash-attn that computes by the formula."""
    folder = tmp_path_factory.mktemp("kernels")
    lock = TOYS.parents[1] / "constraints" / "torch211" / f"run-flash-attn-py{PYTHON}.txt"
    variables = {**persons_environment(), "VIRTUAL_ENV": str(folder / "env")}
    uv = find_uv_bin()
    for words in (
        ["venv", "--quiet", "--python", sys.executable, str(folder / "env")],
        ["pip", "sync", "--quiet", "--require-hashes", str(lock)],
    ):
        subprocess.run([uv, *words], env=variables, check=True)
    extension = folder / f"layout{sysconfig.get_config_var('EXT_SUFFIX')}"
    headers = f"-I{sysconfig.get_path('include')}"
    source = TOYS / "planted" / "layout.c"
    gcc = ["gcc", "-shared", "-fPIC", "-O1", headers, str(source), "-o", str(extension)]
    subprocess.run(gcc, check=True)
    return runner.Bench(
        python=folder / "env" / "bin" / "python",
        variables={"PATH": "/usr/bin:/bin"},
        device="cpu",
        path=(str(TOYS / "cpu_flash_attn"), str(folder)),
        claims={"passes": ("fwd",), "head_dims": ("64", "128"), "dtypes": ("bf16",)},
        seed=runner.fresh_seed(),
    )


@pytest.mark.parametrize(
    ("planted", "check", "name"),
    [
        ("", "refusals", "right"),
        ("mask-at-the-top", "causal", "wrong-result"),
        ("last-row-unwritten", "forward", "unwritten-output"),
        ("writes-beyond", "given-output", "wrong-result"),
        ("answers-everything", "refusals", "no-refusal"),
    ],
)
def test_check_names_the_planted_fault(
    bench: runner.Bench, planted: str, check: str, name: str
) -> None:
    planting = replace(bench, variables={**bench.variables, "PLANTED": planted})
    result = runner.run_check(FLASH_ATTN, check, planting, modules=["flash_attn"])
    assert result.name == name, result
    assert (result.fact == "") == (name == "right")


def test_crash_hang_and_kill_get_their_names_and_the_table_goes_to_its_end(
    bench: runner.Bench,
) -> None:
    told: list[runner.CheckResult] = []
    crashing = TOYS / "planted" / "crashing.py"
    runner.run_checks(
        crashing, replace(bench, seconds=3), modules=["layout"], on_result=told.append
    )
    assert [(one.check, one.name) for one in told] == [
        ("struct-layout", "crashed"),
        ("hang", "hung"),
        ("killed", "crashed"),
        ("no-kernel-image", "no-kernel-image"),
    ]
    crash, hang, killed, image = told
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    assert "SIGSEGV in the interpreter; nearest extension frame: " in crash.fact
    assert f"layout{suffix}" in crash.fact
    assert crash.fact.endswith(", called at crashing.py:10 in struct_layout")
    assert "compiled against another struct layout than the one it met" in crash.cause
    assert hang.fact == "no end after 3 s, at crashing.py:14 in hang"
    assert killed.fact.startswith("SIGKILL")
    assert image.cause == "the wheel holds no code for this GPU's arch"


def test_check_of_a_pass_that_was_not_built_is_not_run(bench: runner.Bench) -> None:
    (result,) = runner.run_checks(FLASH_ATTN, bench, modules=[], only=["backward"])
    assert (result.name, result.fact) == (
        "not-claimed",
        "the wheel was built without 'bwd' of its passes",
    )
