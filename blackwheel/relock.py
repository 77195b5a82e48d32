"""Writes every stack's hashed pins again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blackwheel import locks, stacks
from blackwheel.site import Site
from blackwheel.stacks import Stack


def lock_all(site: Site, *, names: Sequence[str] = (), upgrade: bool = False) -> None:
    """Write the hashed pins of every stack that has its own and whose torch can be resolved."""
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
