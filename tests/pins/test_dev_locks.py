"""The hashed pins of development hold what pyproject.toml asks for today."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from blackwheel.pins.lock_all import DEVELOPED_WITH

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("python", DEVELOPED_WITH)
def test_lock_of_development_holds_every_requirement_of_pyproject(python: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = ROOT / "constraints" / f"dev-py{python.replace('.', '')}.txt"
    held = dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", lock.read_text(encoding="utf-8")))
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, wanted):
        version = held.get(canonicalize_name(requirement.name))
        assert version, f"{requirement}: missing; nox -s lock"
        assert version in requirement.specifier, f"{requirement}: {version}; nox -s lock"
