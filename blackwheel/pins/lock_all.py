"""Rewrites the hashed pins of every stack, and those of development."""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from blackwheel.core.site import Site
from blackwheel.pins import lock
from blackwheel.pytorch import archive, identity
from blackwheel.stacks import loader, locks
from blackwheel.stacks.records import LockedWheel, Stack, python_tag
from blackwheel.stacks.request import filled

DEVELOPED_WITH: Final = ("3.11", "3.12", "3.13", "3.14")
"""The Pythons that the sessions tests, lint and types run with."""


def lock_all(
    site: Site, *, names: Sequence[str] = (), upgrade: bool = False, trial: bool = False
) -> None:
    """Write the hashed pins of every stack that has its own and whose torch can be resolved.

    Without names, also those of development. A `trial` is of a copy of the checkout, which is
    thrown away or written later.
    """
    for name in names or loader.names(site.constraints):
        stack = loader.load(name, site.constraints)
        if stack.locks != name:
            site.console.say(f"{name}: uses the pins of {stack.locks}")
            continue
        if stack.torch.source == "index" and not stack.torch.wheels:
            site.console.say(f"{name}: its torch is not locked: invoke pin torch")
            continue
        agreed = {python: _agreed(site, stack, python, upgrade=upgrade) for python in stack.python}
        for file, requirements, python in _wanted(stack):
            out = site.constraints / name / f"{file}.txt"
            held = agreed[python] if file.startswith("run-") else ()
            changed = _compile(
                site, stack, requirements, python=python, out=out, constraints=held, upgrade=upgrade
            )
            if stack.torch.wheels and file != "toolchain":
                torch = identity.locked_torch(stack, python_tag(python))
                identity.require_in_lock(torch, out, stack=name)
            does = f"would write {file}.txt" if trial else f"{file}.txt written"
            site.console.say(f"{name}: {does if changed else f'{file}.txt unchanged'}")
    if not names:
        _lock_development(site, upgrade=upgrade)


def _compile(
    site: Site,
    stack: Stack,
    requirements: Sequence[str],
    *,
    python: str,
    out: Path,
    constraints: Sequence[str] = (),
    upgrade: bool,
) -> bool:
    """Resolve one environment of a stack; return whether its lock changed.

    What the stack builds itself is no pin of a run environment, whoever requires it.
    """
    running = out.name.startswith("run-")
    own = tuple(stack.distribution(name) for name in stack.build) if running else ()
    installed = ("torch",) if stack.torch.source == "installed" else ()
    return lock.compile_lock(
        requirements,
        python=python,
        out=out,
        source=f"constraints/{stack.name}.toml",
        uv=site.uv,
        environment=site.environment,
        upgrade=upgrade,
        wheels=() if out.name == "toolchain.txt" else _wheels(site, stack, python),
        without=(*installed, *own),
        constraints=constraints,
        platform=_platform(stack) if running else lock.PLATFORM,
    )


def _agreed(site: Site, stack: Stack, python: str, *, upgrade: bool) -> tuple[str, ...]:
    """Resolve what all projects need at run time as one: their wheels share an environment.

    Locked one by one they would agree on a day, and on another not.
    """
    wanted = {
        line: None
        for file, requirements, version in _wanted(stack)
        if file.startswith("run-") and version == python
        for line in requirements
    }
    known = [stack.lock(site.constraints, "run", project, python) for project in stack.build]
    texts = [path.read_text(encoding="utf-8") for path in known if path.exists()]
    if len(known) == 1:
        return ()
    with tempfile.TemporaryDirectory(prefix=".agreed-") as place:
        out = Path(place) / "run-all.txt"
        if texts:  # versions that are there stay
            out.write_text(max(texts, key=len), encoding="utf-8")
        _compile(site, stack, tuple(wanted), python=python, out=out, upgrade=upgrade)
        return tuple(one.words for one in locks.pins(locks.lock_text(out)))


def _wheels(site: Site, stack: Stack, python: str) -> tuple[LockedWheel, ...]:
    """Return the wheels of a stack that no package registry has."""
    if stack.torch.source != "index":
        return ()
    kept = archive.archive(site.store, site.environment, site.console)
    return archive.described(stack, python_tag(python), kept)


def _lock_development(site: Site, *, upgrade: bool) -> None:
    """Write the hashed pins of what this package requires and is developed with."""
    text = (site.checkout / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    wanted = (*project["dependencies"], *project["optional-dependencies"]["dev"])
    for python in DEVELOPED_WITH:
        file = f"dev-py{python.replace('.', '')}.txt"
        changed = lock.compile_lock(
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
            runtime = (filled(line, stack, pin, python) for line in pin.runtime)
            yield f"run-{tag}", (*torch, *runtime), python
