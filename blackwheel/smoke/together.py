"""What an environment of hashed pins and a stack's wheels is, taken as a person would have it."""

from __future__ import annotations

import configparser
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from blackwheel import process
from blackwheel.errors import BlackwheelError, Exit

SECONDS: Final = 900
"""`vllm --version` imports the server first: 10 s of CPU."""
FLASHINFER: Final = "flashinfer-python"
CUBINS: Final = "flashinfer-cubin"
NATIVE: Final = "flashinfer-jit-cache"


@dataclass(frozen=True, kw_only=True, slots=True)
class Together:
    """An environment that holds wheels together, as it was found."""

    requirements: str
    """`fit together`, or why it was not asked."""
    scripts: tuple[tuple[str, str], ...]
    """What each wheel's own command said of its version."""
    flashinfer: str
    """Its version, and whether its kernels are native; empty where it is not installed."""

    def section(self) -> dict[str, Any]:
        """What the receipt says of it."""
        return {
            "requirements": self.requirements,
            "scripts": dict(self.scripts),
            "flashinfer": self.flashinfer,
        }

    def __str__(self) -> str:
        """Tell it in one line."""
        parts = [f"requirements {self.requirements}"]
        parts += [f"{name} says {version}" for name, version in self.scripts]
        return "; ".join([*parts, *([self.flashinfer] if self.flashinfer else [])])


def examine(
    wheels: Sequence[Path],
    *,
    environment: Path,
    uv: Path,
    variables: Mapping[str, str],
    own_torch: bool,
) -> Together:
    """Look at an environment in which these wheels lie; `own_torch` tells that torch does too.

    Raises `requirements-unmet` and `script-failed`.
    """
    if own_torch:
        _require_fit(environment, uv, variables)
    packages = next(iter(sorted(environment.glob("lib/python3*/site-packages"))))
    named = [(wheel, _script(wheel)) for wheel in wheels]
    scripts = [
        (f"{name} --version", _version_of(environment / "bin" / name, wheel, variables))
        for wheel, name in named
        if name
    ]
    return Together(
        requirements="fit together" if own_torch else "not asked: torch lies elsewhere",
        scripts=tuple(scripts),
        flashinfer=flashinfer_state(_installed(packages), wheels),
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


def _version_of(script: Path, wheel: Path, variables: Mapping[str, str]) -> str:
    """Run a wheel's command, and hold what it says to the wheel's version."""
    version = str(parse_wheel_filename(wheel.name)[1])
    try:
        done = process.capture(
            [str(script), "--version"],
            environment=variables,
            cwd=script.parent,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _script_failed(script, wheel, f"hung: {SECONDS} s went by") from None
    told = (done.stdout.split() or ["nothing"])[-1]
    if done.code != 0:
        tail = "\n".join(done.stderr.splitlines()[-12:])
        raise _script_failed(script, wheel, f"ended with code {done.code}\n{tail}")
    if told != version:
        raise _script_failed(script, wheel, f"said {told} instead of {version}")
    return told


def _script_failed(script: Path, wheel: Path, words: str) -> BlackwheelError:
    return BlackwheelError(
        "script-failed",
        f"{script.name} --version of {wheel.name} {words}",
        where=str(script),
        fix="the wheel stays off the shelf; run the command above in that environment",
        code=Exit.SMOKE,
    )


def _installed(packages: Path) -> dict[str, str]:
    """Name and version of every distribution, from the folders' names; nothing is imported."""
    names = (path.name.removesuffix(".dist-info") for path in packages.glob("*.dist-info"))
    pairs = (name.rpartition("-") for name in names)
    return {canonicalize_name(name): version for name, _, version in pairs}


def flashinfer_state(installed: Mapping[str, str], wheels: Sequence[Path]) -> str:
    """Say which FlashInfer lies beside the wheels, who asked for it, and where its code is from."""
    version = installed.get(FLASHINFER)
    if version is None:
        return ""
    asked = [
        f"{parse_wheel_filename(wheel.name)[0]} asks for {one.specifier or 'any'}"
        for wheel in wheels
        for one in _requirements(wheel)
        if canonicalize_name(one.name) == FLASHINFER and one.marker is None
    ]
    if NATIVE in installed:
        how = f"its kernels are native, from {NATIVE} {installed[NATIVE]}"
    elif CUBINS in installed:
        how = f"cubins from {CUBINS} {installed[CUBINS]}, all else is compiled at run time"
    else:
        how = f"its kernels are compiled at run time: no {CUBINS}, no {NATIVE} here"
    return ", ".join([f"FlashInfer {version}", *asked, how])


def _requirements(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode("utf-8")
    lines = message_from_string(text).get_all("Requires-Dist", [])
    return [Requirement(str(line)) for line in lines]
