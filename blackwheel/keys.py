"""The key: what would be built, and whether it was built before. Pure but for reading its files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from blackwheel import archs as arch_names
from blackwheel import requires
from blackwheel.errors import BlackwheelError, Exit
from blackwheel.isolation import Paths
from blackwheel.series import Series
from blackwheel.stacks import ProjectPin, Stack

RECIPE: Final = 2
"""Raised when the way of building changes a wheel's bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is to be built: one project of one stack for one Python."""

    stack: Stack
    project: str
    python: str
    """`3.12`."""
    archs: tuple[str, ...]
    without: tuple[str, ...] = ()
    """Optional nested sources that are left out, sorted."""

    @property
    def pin(self) -> ProjectPin:
        """The project's pin, less the nested sources that are left out."""
        pin = self.stack.project(self.project)
        kept = tuple(n for n in pin.nested if n.path.rpartition("/")[2] not in self.without)
        return pin if len(kept) == len(pin.nested) else replace(pin, nested=kept)

    @property
    def version(self) -> str:
        """`2.8.3+cu130torch2.11.0.sm120a.1`: what its wheel is called."""
        return f"{self.pin.version}+{label(self.stack, self.pin, self.archs, self.without)}"

    @property
    def tag(self) -> str:
        """`cp312`."""
        return f"cp{self.python.replace('.', '')}"

    @property
    def slug(self) -> str:
        """`quickstart/flash-attn/cp312`: the path of its build tree in the store."""
        suffix = "" if self.archs == self.stack.archs else f"-{'-'.join(self.archs)}"
        suffix += "".join(f"-less-{name}" for name in self.without)
        return f"{self.stack.name}{suffix}/{self.project}/{self.tag}"

    def lock(self, kind: str, constraints: Path) -> Path:
        """Return the hashed pins of its `build` or `run` environment."""
        name = f"{kind}-{self.project}-py{self.python.replace('.', '')}.txt"
        return constraints / self.stack.locks / name


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """sha256 over everything that can change the wheel's bytes, and what it was made of."""

    digest: str
    parts: tuple[tuple[str, str], ...]

    def part(self, name: str) -> str:
        """Return one of the parts."""
        return dict(self.parts)[name]

    def changes(self, before: Mapping[str, str]) -> tuple[str, ...]:
        """Name what differs from the parts of an earlier key: the reasons for a rebuild."""
        now = dict(self.parts)
        names = sorted(set(now) | set(before))
        pairs = ((name, before.get(name), now.get(name)) for name in names)
        return tuple(_change(name, was, is_) for name, was, is_ in pairs if was != is_)


def label(
    stack: Stack, pin: ProjectPin, archs: tuple[str, ...], without: tuple[str, ...] = ()
) -> str:
    """Return the local version: `cu130torch2.11.0.sm120a.1`, or `….lesstritonkernels.1`."""
    shorts = (arch_names.parse(arch).label for arch in archs)
    less = (f"less{re.sub('[^a-z0-9]', '', name)}" for name in without)
    installed = "installed" if stack.torch.source == "installed" else ""
    parts = [stack.torch.label, *shorts, pin.variant, *less, installed, str(pin.revision)]
    return ".".join(part for part in parts if part)


def build_variables(request: Request, *, jobs: int, paths: Paths | None = None) -> dict[str, str]:
    """Fill in the project's build variables; raise `bad-variable` for a name that is not known."""
    pin = request.pin
    known = {
        "archs": ";".join(request.archs),
        "label": label(request.stack, pin, request.archs, request.without),
        "torch": request.stack.torch.requirement,
        "version": pin.version,
        "source": str(paths.src) if paths else "",
        # A list of CMake's, which has its own name for the compiler.
        "launcher": f"{paths.env}/bin/python;-I;-S;{paths.work}/bin/launcher.py" if paths else "",
        "without": "".join(f",{name}" for name in request.without),
        "jobs": str(jobs),
    }
    filled = {}
    for name, text in pin.variables.items():
        try:
            filled[name] = text.format_map(known)
        except (KeyError, ValueError) as error:
            raise BlackwheelError(
                "bad-variable",
                f"projects.{request.project}.variables.{name}: cannot fill in '{text}': {error}",
                where=f"constraints/{request.stack.name}.toml",
                fix=f"known are: {', '.join('{' + word + '}' for word in known)}",
                code=Exit.CONFIG,
            ) from None
    return filled


def key(request: Request, *, series: Series, constraints: Path, isolation: str) -> Key:
    """Compute the key from the stack, the patch bytes and the lock files alone."""
    stack, pin = request.stack, request.pin
    torch = replace(stack.torch, wheels={})
    parts: dict[str, Any] = {
        "recipe": RECIPE,
        "isolation": isolation,
        "python": request.python,
        "archs": ";".join(request.archs),
        "label": label(stack, pin, request.archs, request.without),
        "source.commit": pin.source.commit,
        "source.tree": pin.source.tree,
        "source.sparse": pin.source.sparse,
        "sdist": asdict(pin.sdist) if pin.sdist else None,
        "locks.build": _digest_of(request.lock("build", constraints)),
    }
    wheel = stack.torch.wheels.get(request.tag)
    named = asdict(torch)
    if not torch.libraries:
        del named["libraries"]  # only a torch that is installed is locked by them
    parts |= {f"torch.{name}": value for name, value in named.items()}
    parts["torch.wheel"] = wheel.sha256 if wheel else None
    parts |= {f"toolchain.{n}": v for n, v in asdict(stack.toolchain).items()}
    if stack.toolchain.source == "registry":
        parts["locks.toolchain"] = _digest_of(constraints / stack.locks / "toolchain.txt")
    parts |= {f"nested.{nested.path}": asdict(nested) for nested in pin.nested}
    parts |= {f"patches.{patch.name}": patch.sha256 for patch in series.patches}
    parts["patches"] = [patch.name for patch in series.patches]
    if request.without:
        parts["without"] = list(request.without)
    if pin.requires:
        parts["requires"] = [asdict(one) for one in pin.requires]
        lines = [line for one in pin.requires for line in one.set]
        if any(f"{{{name}}}" in line for line in lines for name in requires.COMPANIONS):
            parts["requires.set"] = [requires.filled(line, stack, request.python) for line in lines]
    if pin.one_folder:
        parts["one_folder"] = True
    if pin.readme:
        parts["readme"] = pin.readme
    # The number of jobs changes no byte.
    parts |= {f"variables.{n}": v for n, v in pin.variables.items() if "{jobs}" not in v}
    texts = tuple(sorted((name, _text(value)) for name, value in parts.items()))
    canonical = json.dumps(texts, ensure_ascii=False, separators=(",", ":"))
    return Key(digest=hashlib.sha256(canonical.encode()).hexdigest(), parts=texts)


def left_out(parts: Mapping[str, str]) -> tuple[str, ...]:
    """Return what the wheel of these parts was built without."""
    return tuple(json.loads(parts.get("without", "[]")))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _change(name: str, before: str | None, now: str | None) -> str:
    if before is None:
        return f"{name} is new"
    if now is None:
        return f"{name} is gone"
    if re.fullmatch(r"[0-9a-f]{64}", now) or max(len(before), len(now)) > 60:
        return f"{name} changed"
    return f"{name}: {before or 'none'} → {now or 'none'}"


def _digest_of(path: Path) -> str:
    if not path.is_file():
        raise BlackwheelError(
            "no-lock-file",
            "there are no hashed pins of this environment",
            where=f"constraints/{path.parent.name}/{path.name}",
            fix="nox -s lock",
            code=Exit.CONFIG,
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()
