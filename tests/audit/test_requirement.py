"""What `Requires-Dist` really makes pip and uv choose, beside a torch of another CUDA variant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
import uv
from packaging.requirements import Requirement
from wheelwright import make_wheel

from blackwheel.audit.metadata import accepts_one

PLAIN = "2.11.0"
OTHER_CUDA = "2.11.0+cu128"
NIGHTLY = "2.10.0.dev20251016+cu128"
OTHER_NIGHTLY = "2.10.0.dev20251016+cu130"

Resolve = Callable[[str, tuple[str, ...]], str]


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pip")
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


@pytest.fixture(params=["pip", "uv"])
def resolve(request: pytest.FixtureRequest, tmp_path: Path, pip: Path) -> Resolve:
    """The torch that an installer picks for a requirement among some; empty when it refuses."""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    clean = {**quiet, "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}

    def with_pip(folder: Path) -> str:
        report = tmp_path / "report.json"
        argv = [pip, "-m", "pip", "install", "--dry-run", "--no-index", "--quiet"]
        argv += ["--find-links", folder, "--report", report, "toy"]
        if subprocess.run(argv, env=clean, check=False, capture_output=True).returncode:
            return ""
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
        versions = {one["metadata"]["name"]: one["metadata"]["version"] for one in found}
        return str(versions["torch"])

    def with_uv(folder: Path) -> str:
        argv = [uv.find_uv_bin(), "pip", "compile", "--no-index", "--no-header", "--no-annotate"]
        argv += ["--python", sys.executable, "--find-links", str(folder), "-"]
        done = subprocess.run(
            argv, env=clean, check=False, capture_output=True, input="toy", text=True
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("torch==")]
        return lines[0].removeprefix("torch==") if done.returncode == 0 else ""

    def choose(requirement: str, offered: tuple[str, ...]) -> str:
        folder = tmp_path / "links"
        for version in offered:
            make_wheel(folder, name=f"torch-{version}-py3-none-any.whl", requires=())
        make_wheel(folder, name="toy-1.0-py3-none-any.whl", requires=[requirement])
        return with_pip(folder) if request.param == "pip" else with_uv(folder)

    return choose


@pytest.mark.parametrize(
    ("requirement", "offered", "chosen"),
    [
        # The registry's torch names itself 2.11.0: only `===` keeps the other variant out.
        (f"torch==={PLAIN}", (PLAIN, OTHER_CUDA), PLAIN),
        (f"torch==={PLAIN}", (OTHER_CUDA,), ""),
        # A nightly carries its variant in its own version.
        (f"torch=={NIGHTLY}", (NIGHTLY, OTHER_NIGHTLY), NIGHTLY),
        (f"torch=={NIGHTLY}", (OTHER_NIGHTLY,), ""),
    ],
)
def test_exact_requirement_takes_one_torch_only(
    resolve: Resolve, requirement: str, offered: tuple[str, ...], chosen: str
) -> None:
    assert accepts_one(Requirement(requirement))
    assert resolve(requirement, offered) == chosen


@pytest.mark.parametrize("requirement", [f"torch=={PLAIN}", "torch"])
def test_looser_requirement_takes_the_other_cuda_variant(
    resolve: Resolve, requirement: str
) -> None:
    assert not accepts_one(Requirement(requirement))
    assert resolve(requirement, (PLAIN, OTHER_CUDA)) == OTHER_CUDA
