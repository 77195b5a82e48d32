"""Finds the Python of a build, by version or path, on this machine; never downloads one."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from blackwheel.core import machine
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import capture
from blackwheel.stacks.records import Stack


class PythonMissingError(BlackwheelError):
    """This machine has no such interpreter: `python-missing`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Python:
    """A requested interpreter: its version (`3.12`) and how nox finds it."""

    version: str
    where: str
    """A path, or the version where nobody had to look for it yet."""


def choose(stack: Stack, asked: str, *, environment: Mapping[str, str]) -> Python:
    """Return the Python to build for: `asked`, else the running one, else the stack's first.

    Raises `python-missing` for a path without an interpreter and `python-not-served`.
    """
    if "/" in asked:
        path = Path(asked).absolute()
        version = _version_of(path, environment, wanted=stack.python[0])
        python = Python(version=version, where=str(path))
    elif asked:
        python = Python(version=asked, where=asked)
    else:
        running = f"{sys.version_info.major}.{sys.version_info.minor}"
        if running in stack.python:
            return Python(version=running, where=sys.executable)
        return Python(version=stack.python[0], where=stack.python[0])
    if python.version not in stack.python:
        raise BlackwheelError(
            "python-not-served",
            f"stack '{stack.name}' serves Python {', '.join(stack.python)}, not {python.version}",
            where="--python",
            fix=f"--python {stack.python[0]}",
            code=Exit.USAGE,
        )
    return python


def located(python: Python, *, uv: Path, environment: Mapping[str, str]) -> Path:
    """Return the interpreter's path; raise `python-missing` where this machine has none."""
    if "/" in python.where:
        return Path(python.where)
    for known in machine.interpreters([python.version], environment):
        return known.path
    argv = [str(uv), "python", "find", "--no-python-downloads", "--no-project", python.where]
    found = capture(argv, environment=environment, cwd=Path("/"), check=False)
    if found.code != 0:
        raise _missing(f"Python {python.version} is not installed", python.version)
    return Path(found.stdout.strip())


def _version_of(path: Path, environment: Mapping[str, str], *, wanted: str) -> str:
    try:
        done = capture(
            [str(path), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            environment=environment,
            cwd=Path("/"),
            check=False,
        )
    except BlackwheelError:
        raise _missing(f"there is no program {path}", wanted) from None
    if done.code != 0 or not re.fullmatch(r"3\.\d+\s*", done.stdout):
        raise _missing(f"{path} is no Python interpreter", wanted)
    return done.stdout.strip()


def _missing(fact: str, version: str) -> PythonMissingError:
    return PythonMissingError(
        "python-missing",
        fact,
        where="--python",
        fix=f"apt-get install python{version}-dev python{version}-venv (Debian, Ubuntu), or name"
        " another: --python PATH",
        code=Exit.MACHINE,
    )
