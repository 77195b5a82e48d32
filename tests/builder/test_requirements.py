"""Requirement lines that a stack sets before the build."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from blackwheel.builder import build
from blackwheel.builder.requirements import set_requirements, shorten_readme
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.sources import series
from blackwheel.stacks import key, loader, request
from blackwheel.stacks.projects import Project
from blackwheel.stacks.records import GitPin, RequirementFile, SdistPin, Stack
from blackwheel.stacks.request import filled
from blackwheel.toolchain.host_compiler import Compiler

STABLE = loader.load("torch211", Path(__file__).parents[2] / "constraints")
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
    assert set_requirements(tmp_path, asked, "vllm", "3.11") == (
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
        set_requirements(tmp_path, stack(drop=("xformers",)), "vllm", "3.11")
    assert raised.value.code == Exit.CONFIG
    assert str(raised.value) == (
        "error: requirement-missing\n"
        "  cuda.txt requires no xformers\n"
        "  where: constraints/torch211.toml, projects.vllm.requires.0\n"
        "  fix:   correct the table: this release names its requirements otherwise"
    )


def test_the_companion_of_a_nightly_torch_that_nobody_locked_is_named() -> None:
    nightly = loader.load("report-2025-10", Path(__file__).parents[2] / "constraints")
    with pytest.raises(BlackwheelError) as raised:
        filled("{torchvision}", nightly, nightly.projects["vllm"], "3.11")
    assert raised.value.code == Exit.CONFIG
    assert str(raised.value) == (
        "error: companion-not-locked\n"
        "  '{torchvision}' wants the torchvision of torch 2.10.0.dev20251016+cu128 for Python"
        " 3.11, and none is locked\n"
        "  where: constraints/report-2025-10.toml\n"
        "  fix:   invoke pin torch latest --stack report-2025-10: a day that has one,\n"
        "         or name another release: torchvision==VERSION"
    )


# The long description

FLASH = STABLE.projects["flash-attn"]
LONG = replace(STABLE, projects={"flash-attn": replace(FLASH, readme=None)})
SETUP = """from setuptools import setup
setup(name="toy", version="1.0", long_description=open("README.md").read())
"""


def test_a_readme_that_the_stack_names_is_one_line_in_metadata(tmp_path: Path) -> None:
    """Through the step before every build: the second one finds what the first one left."""
    tree, shop = tmp_path / "tree", build.Workshop(root=tmp_path / "shop")
    tree.mkdir()
    (tree / "setup.py").write_text(SETUP, encoding="utf-8")
    (tree / "README.md").write_text("Long words.\n" * 2000, encoding="utf-8")
    asked = SimpleNamespace(stack=STABLE, project="flash-attn", python="3.11")
    known = {"known": Project(), "folder": "."}
    plan = cast(Any, SimpleNamespace(tree=SimpleNamespace(root=tree), request=asked, **known))
    compiler = Compiler(path=Path("/usr/bin/g++"), kind="gcc", version="12.2")
    for _ in range(2):
        build.prepare(plan, shop, compiler)
    argv = [sys.executable, "setup.py", "-q", "egg_info"]
    subprocess.run(argv, cwd=shop.src, check=True, capture_output=True)
    metadata = (shop.src / "toy.egg-info" / "PKG-INFO").read_text(encoding="utf-8")
    assert metadata.endswith(f"\n\n{FLASH.source.url} at {FLASH.source.commit}\n")
    assert len(metadata) < 300


def test_a_short_readme_names_the_sdist_where_nobody_knows_the_commit(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Long words.\n", encoding="utf-8")
    archive = SdistPin(name="flash_attn-9.tar.gz", sha256="5" * 64, size=1, tree="7" * 40)
    pin = replace(FLASH, source=GitPin(url="https://upstream.invalid/x"), sdist=archive)
    stack = replace(STABLE, projects={**STABLE.projects, "flash-attn": pin})
    shorten_readme(tmp_path, stack, "flash-attn")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text == "https://upstream.invalid/x, sdist flash_attn-9.tar.gz\n"


def test_a_readme_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BlackwheelError) as raised:
        shorten_readme(tmp_path, STABLE, "flash-attn")
    assert raised.value.code == Exit.CONFIG
    assert str(raised.value) == (
        "error: readme-missing\n"
        "  flash-attn has no README.md\n"
        "  where: constraints/torch211.toml, projects.flash-attn.readme\n"
        "  fix:   name the file that its setup.py or pyproject.toml reads, or leave the key out"
    )


def test_a_short_readme_changes_the_key_and_none_leaves_it_as_it_was() -> None:
    root = Path(__file__).parents[2]
    held, short = (
        key.key(
            request.Request(stack=stack, project="flash-attn", python="3.11", archs=stack.archs),
            patches=series.patch_digests(
                series.load_series(root / "patches" / "flash-attn" / FLASH.version)
            ),
            constraints=root / "constraints",
            isolation="namespaces",
        )
        for stack in (LONG, STABLE)
    )
    assert short.changes(dict(held.parts)) == ("readme is new",)
    assert held.digest != short.digest
