"""Finds the torch that an interpreter has installed, and links it into a build environment.

The environment gets `installed/`, links to torch and what torch requires, and a .pth file that puts
it behind the environment's own packages. Not site-packages itself: an installer that tidies up
there would follow the links and remove the interpreter's files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import capture
from blackwheel.core.site import Site
from blackwheel.pytorch import identity as torchpin
from blackwheel.pytorch.identity import INSTALLED, TorchIdentity
from blackwheel.stacks import pythons, records
from blackwheel.stacks.records import Stack

PATH_FILE: Final = "blackwheel-installed.pth"
_TELL: Final = (
    "import json, sys; "
    "print(json.dumps([[p for p in sys.path if p], '%d.%d.%d' % sys.version_info[:3]]))"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The folder of an installed torch, and the distributions that torch needs."""

    packages: Path
    """The folder that holds `torch/`."""
    distributions: tuple[Distribution, ...]
    """torch first."""
    python: str
    """The version of its interpreter: `3.12.3`."""

    def section(self) -> list[dict[str, Any]]:
        """Return the receipt's list of packages that no lock names: a digest of each RECORD."""
        return [
            {
                "name": f"{one.metadata['Name']}=={one.version}",
                "digest": {"sha256": _digest(one.read_text("RECORD") or "")},
            }
            for one in self.distributions
        ]


def find(python: Path, environment: Mapping[str, str]) -> Found:
    """Find the torch of an interpreter without importing it; raise `torch-not-installed`."""
    told = capture([str(python), "-I", "-c", _TELL], environment=environment, cwd=Path("/"))
    folders, version = json.loads(told.stdout)
    known: dict[str, Distribution] = {}
    for one in distributions(path=folders):
        if name := one.metadata["Name"]:  # half-removed packages have none
            known.setdefault(canonicalize_name(name), one)
    if "torch" not in known:
        raise BlackwheelError(
            "torch-not-installed",
            "this interpreter has no torch, and the stack takes the one that is installed",
            where=str(python),
            fix="name the interpreter that has it: --python PATH",
            code=Exit.TORCH,
        )
    packages = Path(str(known["torch"].locate_file(""))).resolve()
    return Found(packages=packages, distributions=tuple(_closure(known, version)), python=version)


def identity(found: Found, *, store: Path) -> TorchIdentity:
    """Read the identity of an installed torch, down to the digests of its libraries."""
    return torchpin.seen(found.packages, store=store)


def require(
    python: Path, stack: Stack, lock: Path, *, store: Path, environment: Mapping[str, str]
) -> None:
    """Raise where an interpreter's torch is not the locked one, or a lock brings another along.

    `torch-not-installed`, `other-torch`, `lock-brings-torch`.
    """
    if torchpin.locked_digests(lock):
        raise BlackwheelError(
            "lock-brings-torch",
            f"stack '{stack.name}' takes the torch that is installed, and these hashed pins"
            " install one",
            where=f"constraints/{lock.parent.name}/{lock.name}",
            fix=f'locks = "{stack.name}" in the stack file, then: nox -s lock -- {stack.name}',
            code=Exit.CONFIG,
        )
    found = find(python, environment)
    fix = "--python PATH of an interpreter that has it, or move the pin:"
    fix += f"\ninvoke pin torch {INSTALLED} --python '{python}' --stack {stack.name}"
    there = str(found.packages)
    torchpin.check(identity(found, store=store), stack.torch, where=there, fix=fix)


def require_fit(found: Found, environment: Path) -> None:
    """Raise `not-for-this-torch` where an environment holds packages that fit no such torch.

    Its own packages come first: one that its lock brings would hide the one that torch requires.
    """
    own = {
        canonicalize_name(name): one.version
        for one in distributions(path=[str(_site(environment))])
        if (name := one.metadata["Name"])
    }
    torch = found.distributions[0]
    faults = [
        f"{wanted.name} {own[name]} is there, torch {torch.version} requires {wanted.name}"
        f"{wanted.specifier}"
        for wanted in map(Requirement, torch.requires or ())
        if (name := canonicalize_name(wanted.name)) in own
        and (wanted.marker is None or wanted.marker.evaluate(_marks(found.python)))
        and not wanted.specifier.contains(own[name], prereleases=True)
    ]
    if faults:
        raise BlackwheelError(
            "not-for-this-torch",
            "\n".join(["the hashed pins bring packages that hide those of torch", *sorted(faults)]),
            where=str(environment),
            fix="name that version in the project's `runtime` or `requirements`, then: nox -s lock",
            code=Exit.TORCH,
        )


def lay(found: Found, environment: Path) -> None:
    """Link this torch and its requirements into an environment, and nothing else."""
    clear(environment)
    new = environment / f"{INSTALLED}.new"
    shutil.rmtree(new, ignore_errors=True)
    for one in found.distributions:
        origin = Path(str(one.locate_file(""))).resolve()
        for path in _linked(one.files or (), origin):
            target = new / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_symlink():
                target.symlink_to(origin / path)
    new.replace(environment / INSTALLED)
    (_site(environment) / PATH_FILE).write_text(f"../../../{INSTALLED}\n", encoding="utf-8")


def clear(environment: Path) -> None:
    """Remove the links again."""
    (_site(environment) / PATH_FILE).unlink(missing_ok=True)
    shutil.rmtree(environment / INSTALLED, ignore_errors=True)


def _site(environment: Path) -> Path:
    return next(iter(sorted(environment.glob("lib/python3*/site-packages"))), environment)


def _closure(known: Mapping[str, Distribution], version: str) -> Iterator[Distribution]:
    """Yield torch and what it requires, as far as it is there; markers as for that Python."""
    seen: set[tuple[str, str]] = set()
    given: set[str] = set()
    waiting = [("torch", "")]
    while waiting:
        name, extra = waiting.pop(0)
        if (name, extra) in seen or name not in known:
            continue
        seen.add((name, extra))
        if name not in given:
            given.add(name)
            yield known[name]
        for wanted in map(Requirement, known[name].requires or ()):
            if wanted.marker is None or wanted.marker.evaluate(_marks(version, extra)):
                named = canonicalize_name(wanted.name)
                waiting += [(named, one) for one in ("", *sorted(wanted.extras))]


def _marks(version: str, extra: str = "") -> dict[str, str]:
    """Return what markers are evaluated with: those of that Python, not of this one."""
    return {
        "python_version": version.rpartition(".")[0],
        "python_full_version": version,
        "extra": extra,
    }


def _linked(files: Iterable[PurePosixPath], origin: Path) -> set[str]:
    """Name what to link: packages whole, of a folder that others share only their own files."""
    links: set[str] = set()
    whole: dict[str, bool] = {}
    for file in files:
        parts = file.parts
        if ".." in parts or "__pycache__" in parts or file.suffix == ".pth":
            continue
        prefix = ""
        for part in parts:
            prefix = f"{prefix}/{part}" if prefix else part
            if prefix not in whole:
                package = (origin / prefix / "__init__.py").is_file()
                whole[prefix] = package or prefix.endswith((".dist-info", ".egg-info"))
            if whole[prefix]:
                break
        if (origin / prefix).exists():
            links.add(prefix)
    return links


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def show_torch(
    site: Site, stack: records.Stack, python: pythons.Python, environment: Path
) -> list[dict[str, Any]]:
    """Link the torch of an interpreter into an environment where the stack says so.

    Return what lies beside the environment's own packages then, for the receipt. Raises
    `torch-not-installed` and `not-for-this-torch`.
    """
    if stack.torch.source != "installed":
        clear(environment)
        return []
    where = pythons.located(python, uv=site.uv, environment=site.environment)
    found = find(where, site.environment)
    require_fit(found, environment)
    lay(found, environment)
    return found.section()
