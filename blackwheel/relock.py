"""Writes every stack's hashed pins again, and those of development."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from typing import Final

from blackwheel import locks, stacks
from blackwheel.site import Site
from blackwheel.stacks import Stack

DEVELOPED_WITH: Final = ("3.11", "3.12", "3.13", "3.14")
"""The Pythons that the sessions tests, lint and types run with."""


def lock_all(site: Site, *, names: Sequence[str] = (), upgrade: bool = False) -> None:
    """Write the hashed pins of every stack that has its own and whose torch can be resolved.

    Without names, also those of development.
    """
    for name in names or stacks.names(site.constraints):
        stack = stacks.load(name, site.constraints)
        if stack.locks != name:
            site.console.say(f"{name}: uses the pins of {stack.locks}")
            continue
        if stack.torch.source == "index":
            site.console.say(f"{name}: its torch is not from the registry: invoke pin torch")
            continue
        for file, requirements, python in _wanted(stack):
            changed = locks.compile_lock(
                requirements,
                python=python,
                out=site.constraints / name / f"{file}.txt",
                source=f"constraints/{name}.toml",
                uv=site.uv,
                environment=site.environment,
                upgrade=upgrade,
            )
            site.console.say(f"{name}: {file}.txt {'written' if changed else 'unchanged'}")
    if not names:
        _lock_development(site, upgrade=upgrade)


def _lock_development(site: Site, *, upgrade: bool) -> None:
    """Write the hashed pins of what this package requires and is developed with."""
    text = (site.checkout / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    wanted = (*project["dependencies"], *project["optional-dependencies"]["dev"])
    for python in DEVELOPED_WITH:
        file = f"dev-py{python.replace('.', '')}.txt"
        changed = locks.compile_lock(
            wanted,
            python=python,
            out=site.constraints / file,
            source="pyproject.toml",
            uv=site.uv,
            environment=site.environment,
            upgrade=upgrade,
        )
        site.console.say(f"development: {file} {'written' if changed else 'unchanged'}")


def _wanted(stack: Stack) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield file name, requirements and Python of each environment of a stack."""
    if stack.toolchain.requirements:
        yield "toolchain", stack.toolchain.requirements, stack.python[0]
    torch = stack.torch.requirement
    for project in stack.build:
        pin = stack.projects[project]
        for python in stack.python:
            tag = f"{project}-py{python.replace('.', '')}"
            yield f"build-{tag}", (torch, *pin.requirements), python
            yield f"run-{tag}", (torch, *pin.runtime), python
