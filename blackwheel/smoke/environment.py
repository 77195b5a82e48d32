"""Checks an environment that holds a stack's wheels together: torch, requirements, commands."""

from __future__ import annotations

import configparser
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from blackwheel.core import process
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.stacks.projects import Project

SECONDS: Final = 900
"""A command may import a server first: 10 s of CPU, and minutes on a machine that is starved."""
ASKED: Final = ("--version",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Together:
    """Findings about an environment that holds a stack's wheels together."""

    requirements: str
    """`fit together`, or why it was not asked."""
    scripts: tuple[tuple[str, str], ...]
    """What each wheel's own command was asked, and its answer: its version, or `runs`."""
    neighbours: tuple[str, ...]
    """What lies beside the wheels, and how it works there: what their projects' files ask for."""

    def section(self) -> dict[str, Any]:
        """Return the receipt's section about it."""
        return {
            "requirements": self.requirements,
            "scripts": dict(self.scripts),
            "neighbours": list(self.neighbours),
        }

    def __str__(self) -> str:
        """Tell it in one line."""
        parts = [f"requirements {self.requirements}"]
        parts += [f"{asked}: {answer}" for asked, answer in self.scripts]
        return "; ".join([*parts, *self.neighbours])


def examine(
    wheels: Mapping[Path, Project],
    *,
    environment: Path,
    uv: Path,
    variables: Mapping[str, str],
    own_torch: bool,
    gpu: bool,
) -> Together:
    """Check an environment with these wheels; `own_torch` tells that torch is a wheel there too.

    Each with what is known of its project. `gpu` tells that one was found.

    Raises `requirements-unmet` and `script-failed`.
    """
    if own_torch:
        _require_fit(environment, uv, variables)
    packages = next(iter(sorted(environment.glob("lib/python3*/site-packages"))))
    scripts = []
    for wheel, known in wheels.items():
        name = _script(wheel)
        asked = ASKED if gpu else known.smoke.without_gpu
        if name:
            answer = _answer(environment / "bin" / name, asked, wheel, variables)
            scripts.append((" ".join((name, *asked)), answer))
    return Together(
        requirements="fit together" if own_torch else "not asked: torch lies elsewhere",
        scripts=tuple(scripts),
        neighbours=tuple(neighbours(_installed(packages), wheels)),
    )


def _require_fit(environment: Path, uv: Path, variables: Mapping[str, str]) -> None:
    """Raise `requirements-unmet` with what uv finds: of everything installed, whoever wants it."""
    argv = [str(uv), "pip", "check", "--no-config", "--python", str(environment / "bin/python")]
    done = process.capture(argv, environment=variables, cwd=environment, check=False)
    if done.code == 0:
        return
    said = [line for line in done.stderr.splitlines() if line.startswith("The package ")]
    raise BlackwheelError(
        "requirements-unmet",
        "\n".join(["what is installed together does not fit", *(said or [done.stderr.strip()])]),
        where=str(environment),
        fix="correct `runtime` in the stack file, then: nox -s lock",
        code=Exit.SMOKE,
    )


def _script(wheel: Path) -> str:
    """The command that bears the wheel's own name; empty where it has none."""
    name = parse_wheel_filename(wheel.name)[0]
    with zipfile.ZipFile(wheel) as archive:
        found = [one for one in archive.namelist() if one.endswith(".dist-info/entry_points.txt")]
        text = archive.read(found[0]).decode("utf-8") if found else ""
    table = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    table.read_string(text)
    return str(name) if table.has_option("console_scripts", str(name)) else ""


def _answer(script: Path, asked: tuple[str, ...], wheel: Path, variables: Mapping[str, str]) -> str:
    """Run a wheel's command; where it was asked for its version, hold that to the wheel's."""
    argv = [str(script), *asked]
    done = process.capture_within(SECONDS, argv, environment=variables, cwd=script.parent)
    if done.code != 0:
        raise _script_failed(script, asked, wheel, done.end)
    if asked != ASKED:
        return "runs"
    version = str(parse_wheel_filename(wheel.name)[1])
    told = (done.stdout.split() or ["nothing"])[-1]
    if told != version:
        raise _script_failed(script, asked, wheel, f"said {told} instead of {version}")
    return told


def _script_failed(
    script: Path, asked: tuple[str, ...], wheel: Path, words: str
) -> BlackwheelError:
    return BlackwheelError(
        "script-failed",
        f"{' '.join((script.name, *asked))} of {wheel.name} {words}",
        where=str(script),
        fix="the wheel stays off the shelf; run the command above in that environment",
        code=Exit.SMOKE,
    )


def _installed(packages: Path) -> dict[str, str]:
    """Name and version of every distribution, from the folders' names; nothing is imported."""
    names = (path.name.removesuffix(".dist-info") for path in packages.glob("*.dist-info"))
    pairs = (name.rpartition("-") for name in names)
    return {canonicalize_name(name): version for name, _, version in pairs}


def neighbours(installed: Mapping[str, str], wheels: Mapping[Path, Project]) -> Iterator[str]:
    """Return which neighbours are installed, which wheels require them, and how they work."""
    told = {one.distribution: one for known in wheels.values() for one in known.smoke.neighbours}
    for name, one in told.items():
        if name not in installed:
            continue
        asked = [
            f"{parse_wheel_filename(wheel.name)[0]} asks for {wanted.specifier or 'any'}"
            for wheel in wheels
            for wanted in _requirements(wheel)
            if canonicalize_name(wanted.name) == name and wanted.marker is None
        ]
        how = [
            state.how.replace("{version}", installed[state.beside] if state.beside else "")
            for state in one.states
            if not state.beside or state.beside in installed
        ]
        yield ", ".join([f"{one.title} {installed[name]}", *asked, *how[:1]])


def _requirements(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode("utf-8")
    lines = message_from_string(text).get_all("Requires-Dist", [])
    return [Requirement(str(line)) for line in lines]
