"""Writes every stack's hashed pins again, and those of development."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from blackwheel import archive, locks, stacks
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
        if stack.torch.source == "index" and not stack.torch.wheels:
            site.console.say(f"{name}: its torch is not locked: invoke pin torch")
            continue
        for file, requirements, python in _wanted(stack):
            out = site.constraints / name / f"{file}.txt"
            with _wheels(site, stack, python) as wheels:
                changed = locks.compile_lock(
                    requirements,
                    python=python,
                    out=out,
                    source=f"constraints/{name}.toml",
                    uv=site.uv,
                    environment=site.environment,
                    upgrade=upgrade,
                    wheels=wheels,
                    without=("torch",) if stack.torch.source == "installed" else (),
                    platform=_platform(stack) if file.startswith("run-") else locks.PLATFORM,
                )
            if wheels and file != "toolchain":
                torch = archive.locked_torch(stack, f"cp{python.replace('.', '')}")
                archive.require_in_lock(torch, out, stack=name)
            site.console.say(f"{name}: {file}.txt {'written' if changed else 'unchanged'}")
    if not names:
        _lock_development(site, upgrade=upgrade)


@contextmanager
def _wheels(site: Site, stack: Stack, python: str) -> Iterator[Path | None]:
    """Yield a folder with what a stack locks beside the package registry; None if nothing."""
    if stack.torch.source != "index":
        yield None
        return
    kept = archive.archive(site.store, site.environment, site.console)
    with archive.links(stack, f"cp{python.replace('.', '')}", kept) as folder:
        yield folder


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


def _platform(stack: Stack) -> str:
    """What a stack's wheels may need is what runs beside them: llguidance has no 2_28 wheel."""
    return f"x86_64-manylinux_{stack.glibc.replace('.', '_')}"


def _wanted(stack: Stack) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield file name, requirements and Python of each environment of a stack."""
    if stack.toolchain.requirements and stack.toolchain.source == "registry":
        yield "toolchain", stack.toolchain.requirements, stack.python[0]
    torch = () if stack.torch.source == "installed" else (stack.torch.requirement,)
    for project in stack.build:
        pin = stack.projects[project]
        for python in stack.python:
            tag = f"{project}-py{python.replace('.', '')}"
            yield f"build-{tag}", (*torch, *pin.requirements), python
            yield f"run-{tag}", (*torch, *pin.runtime), python
