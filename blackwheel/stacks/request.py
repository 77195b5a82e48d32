"""Defines one build request (stack, project, Python, archs), its label and its variables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from packaging.utils import parse_wheel_filename

from blackwheel.core import archs as arch_names
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.isolation import Paths
from blackwheel.stacks.records import ProjectPin, Stack, python_tag

BUILD: Final = (
    *("{python}", "-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check"),
    *("--outdir", "{wheels}", "{folder}"),
)
"""The command that makes a wheel, unless the stack names another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One project of one stack for one Python: a wheel that is wanted."""

    stack: Stack
    project: str
    python: str
    """`3.12`."""
    archs: tuple[str, ...]
    without: tuple[str, ...] = ()
    """Optional nested sources that are left out, sorted."""

    @property
    def pin(self) -> ProjectPin:
        """Pin of the project, without the nested sources that are left out."""
        pin = self.stack.project(self.project)
        kept = tuple(n for n in pin.nested if n.path.rpartition("/")[2] not in self.without)
        return pin if len(kept) == len(pin.nested) else replace(pin, nested=kept)

    @property
    def version(self) -> str:
        """Version of the wheel: `2.8.3+cu130torch2.11.0.sm120a.1`."""
        return f"{self.pin.version}+{label(self.stack, self.pin, self.archs, self.without)}"

    @property
    def tag(self) -> str:
        """Python tag of the wheel: `cp312`."""
        return python_tag(self.python)

    @property
    def slug(self) -> str:
        """Path of its build tree in the store: `quickstart/PROJECT/cp312`."""
        return self._slug(self.stack.name)

    @property
    def slugs(self) -> tuple[str, ...]:
        """Slugs that a receipt of its wheel may name: today's, and that of the stack's old name."""
        return tuple(self._slug(name) for name in (self.stack.name, self.stack.formerly) if name)

    def _slug(self, stack: str) -> str:
        suffix = "" if self.archs == self.stack.archs else f"-{'-'.join(self.archs)}"
        suffix += "".join(f"-less-{name}" for name in self.without)
        return f"{stack}{suffix}/{self.project}/{self.tag}"

    def lock(self, kind: str, constraints: Path) -> Path:
        """Return the hashed pins of its `build` or `run` environment."""
        return self.stack.lock(constraints, kind, self.project, self.python)


def label(
    stack: Stack, pin: ProjectPin, archs: tuple[str, ...], without: tuple[str, ...] = ()
) -> str:
    """Return the local version: `cu130torch2.11.0.sm120a.1`, or `….lesstritonkernels.1`.

    Of a wheel that links no torch: `cu130.sm120a.1`; of one that serves later torches, too:
    `cu130torch2.13.sm120a.1`.
    """
    shorts = (arch_names.parse(arch).label for arch in archs)
    less = (f"less{re.sub('[^a-z0-9]', '', name)}" for name in without)
    installed = "installed" if stack.torch.source == "installed" and pin.links_torch else ""
    made_for = stack.torch.label if pin.links_torch else stack.toolchain.label
    if pin.torch == "abi":
        made_for = re.sub(r"(torch\d+\.\d+)\..*", r"\1", made_for)
    parts = [made_for, *shorts, pin.variant, *less, installed, str(pin.revision)]
    return ".".join(part for part in parts if part)


def build_variables(request: Request, *, jobs: int, paths: Paths | None = None) -> dict[str, str]:
    """Fill in the project's build variables; raise `bad-variable` for an unknown name."""
    known = _known(request, jobs, paths)
    return {
        name: _filled_in(request, f"variables.{name}", text, known)
        for name, text in request.pin.variables.items()
    }


def build_command(request: Request, *, jobs: int, paths: Paths) -> tuple[str, ...]:
    """Return the command that makes the wheel at the fixed paths; raise `bad-variable`."""
    known = _known(request, jobs, paths) | {
        "python": f"{paths.env}/bin/python",
        "wheels": f"{paths.work}/wheel",
        "folder": str(paths.src / (request.pin.subfolder or "")),
    }
    words = request.pin.command or BUILD
    return tuple(_filled_in(request, "command", word, known) for word in words)


def _known(request: Request, jobs: int, paths: Paths | None) -> dict[str, str]:
    return {
        "archs": ";".join(request.archs),
        "label": label(request.stack, request.pin, request.archs, request.without),
        "torch": request.stack.torch_requirement(request.pin),
        "version": request.pin.version,
        "source": str(paths.src) if paths else "",
        # A list of CMake's, which has its own name for the compiler.
        "launcher": f"{paths.env}/bin/python;-I;-S;{paths.work}/bin/launcher.py" if paths else "",
        "without": "".join(f",{name}" for name in request.without),
        "jobs": str(jobs),
    }


def _filled_in(request: Request, key: str, text: str, known: Mapping[str, str]) -> str:
    try:
        return text.format_map(known)
    except (AttributeError, LookupError, ValueError) as error:
        raise BlackwheelError(
            "bad-variable",
            f"projects.{request.project}.{key}: cannot fill in '{text}': {error}",
            where=f"constraints/{request.stack.name}.toml",
            fix=f"known are: {', '.join('{' + word + '}' for word in known)}",
            code=Exit.CONFIG,
        ) from None


def left_out(parts: Mapping[str, str]) -> tuple[str, ...]:
    """Return the parts that the wheel of this key was built without."""
    return tuple(json.loads(parts.get("without", "[]")))


def oldest_torch(parts: Mapping[str, str]) -> str:
    """Return the oldest torch that the wheel of this key serves beside all later ones.

    Empty for a wheel of one torch alone.
    """
    return parts["torch.runtime"].partition("+")[0] if parts.get("torch") == "abi" else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


COMPANIONS: Final = ("torchaudio", "torchvision")
"""What a stack names in braces, where it is locked with a nightly torch."""


_FILLED: Final = frozenset({"{torch}", *(f"{{{name}}}" for name in COMPANIONS)})
_BRACES: Final = re.compile(r"\{[^{}]*\}|[{}]")


class CompanionNotLockedError(BlackwheelError):
    """The torch that is locked has no such companion: `companion-not-locked`."""


def filled(line: str, stack: Stack, pin: ProjectPin, python: str) -> str:
    """Fill in `{torch}`, `{torchaudio}` and `{torchvision}`; raise `companion-not-locked`.

    Which builds of those two belong to a nightly torch, only the lock tells: it read METADATA.
    """
    strange = [word for word in _BRACES.findall(line) if word not in _FILLED]
    if strange:
        raise BlackwheelError(
            "bad-variable",
            f"'{line}': cannot fill in {', '.join(strange)}",
            where=f"constraints/{stack.name}.toml",
            fix=f"known are: {', '.join(sorted(_FILLED))}",
            code=Exit.CONFIG,
        )
    known: dict[str, str] = {"torch": stack.torch_requirement(pin)}
    wheel = stack.torch.wheels.get(python_tag(python))
    for one in wheel.family if wheel else ():
        project, version, _, _ = parse_wheel_filename(one.name)
        known[project] = f"{project}=={version}"
    for name in COMPANIONS:
        if f"{{{name}}}" in line and name not in known:
            raise CompanionNotLockedError(
                "companion-not-locked",
                f"'{line}' wants the {name} of torch {stack.torch.version} for Python {python},"
                " and none is locked",
                where=f"constraints/{stack.name}.toml",
                fix=f"invoke pin torch latest --stack {stack.name}: a day that has one,"
                f"\nor name another release: {name}==VERSION",
                code=Exit.CONFIG,
            )
    return line.format_map(known)
