"""Requirement lines that a stack sets before the build."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from blackwheel import stacks
from blackwheel.errors import BlackwheelError, Exit
from blackwheel.requires import set_requirements
from blackwheel.stacks import RequirementFile, Stack

STABLE = stacks.load("stable", Path(__file__).parents[2] / "constraints")
TEXT = """-r common.txt
# Dependencies for NVIDIA GPUs
torch==2.11.0
--extra-index-url https://example.org/
torchvision >= 0.20 # Required for one processor
xformers==0.0.32.post1
numpy
"""


def stack(**changes: tuple[str, ...]) -> Stack:
    edit = RequirementFile(file="cuda.txt", **changes)
    projects = {"vllm": replace(STABLE.projects["vllm"], requires=(edit,))}
    return replace(STABLE, projects=projects)


def test_the_stack_sets_and_drops_lines_and_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "cuda.txt"
    file.write_text(TEXT, encoding="utf-8")
    asked = stack(set=("{torch}", "torchvision==0.26.0"), drop=("xformers",))
    assert set_requirements(tmp_path, asked, "vllm") == (
        "cuda.txt: torch==2.11.0 → torch===2.11.0",
        "cuda.txt: torchvision >= 0.20 # Required for one processor → torchvision==0.26.0",
        "cuda.txt: xformers==0.0.32.post1 → dropped",
    )
    assert file.read_text(encoding="utf-8") == (
        "-r common.txt\n# Dependencies for NVIDIA GPUs\ntorch===2.11.0\n"
        "--extra-index-url https://example.org/\ntorchvision==0.26.0\nnumpy\n"
    )


def test_a_requirement_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "cuda.txt").write_text("torch==2.11.0\n", encoding="utf-8")
    with pytest.raises(BlackwheelError) as raised:
        set_requirements(tmp_path, stack(drop=("xformers",)), "vllm")
    assert raised.value.code == Exit.CONFIG
    assert str(raised.value) == (
        "error: requirement-missing\n"
        "  cuda.txt requires no xformers\n"
        "  where: constraints/stable.toml, projects.vllm.requires.0\n"
        "  fix:   correct the table: this release names its requirements otherwise"
    )
