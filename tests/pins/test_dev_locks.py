"""The hashed pins of development and of .ci/run hold what is asked for today."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from blackwheel.pins.lock_all import DEVELOPED_WITH

ROOT = Path(__file__).parents[2]
LOCK = "nox -s lock"


def hold(lock: Path, wanted: list[str], *, fix: str) -> None:
    held = dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", lock.read_text(encoding="utf-8")))
    for requirement in map(Requirement, wanted):
        version = held.get(canonicalize_name(requirement.name))
        assert version, f"{requirement}: missing; {fix}"
        assert version in requirement.specifier, f"{requirement}: {version}; {fix}"


@pytest.mark.parametrize("python", DEVELOPED_WITH)
def test_lock_of_development_holds_every_requirement_of_pyproject(python: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = ROOT / "constraints" / f"dev-py{python.replace('.', '')}.txt"
    hold(lock, [*project["dependencies"], *project["optional-dependencies"]["dev"]], fix=LOCK)


@pytest.mark.parametrize("name", ["programs", "docs"])
def test_lock_of_ci_holds_the_programs_it_is_made_for(name: str) -> None:
    wanted = (ROOT / ".ci" / f"{name}.in").read_text(encoding="utf-8").splitlines()
    lock = ROOT / ".ci" / f"{name}.txt"
    hold(lock, [line for line in wanted if not line.startswith("#")], fix="its first line")
