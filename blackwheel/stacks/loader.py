"""Reads constraints/*.toml into a Stack; reports all faults of a file at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from packaging.version import Version

from blackwheel.core import archs
from blackwheel.core.errors import BlackwheelError, Exit, nearest
from blackwheel.stacks.faults import FaultsError, record_of, refusal, table_of
from blackwheel.stacks.records import GitPin, ProjectPin, Stack, python_tag


class UnknownStackError(BlackwheelError):
    """There is no stack file of that name: `unknown-stack`."""


def names(constraints: Path) -> list[str]:
    """Return the names of the stacks in this folder."""
    return sorted(path.stem for path in constraints.glob("*.toml"))


def load(name: str, constraints: Path) -> Stack:
    """Read one stack; raise `unknown-stack`, or `bad-stack` with every fault at once."""
    table = _merged(name, constraints, ())
    table["name"] = name
    table.setdefault("locks", name)
    try:
        stack = record_of(Stack, table)
    except FaultsError as error:
        raise _bad_stack(name, error.faults) from None
    faults = list(_inconsistencies(stack))
    if faults:
        raise _bad_stack(name, faults)
    return stack


def own_table(name: str, constraints: Path) -> dict[str, Any]:
    """Return the table of a stack's own files, without the stack that it extends.

    `constraints/NAME/torch.toml`, where it is there, is laid over `[torch]`: `invoke pin torch`
    writes it, and no hand does.
    """
    table = file_table(name, constraints)
    torch = torch_file(name, constraints)
    return _overlaid(table, {"torch": _table(torch, name)}) if torch.is_file() else table


def file_table(name: str, constraints: Path) -> dict[str, Any]:
    """Return the table of a stack's own file alone; raise `unknown-stack` or `bad-stack`."""
    path = constraints / f"{name}.toml"
    known = names(constraints)
    if name not in known:
        raise UnknownStackError(
            "unknown-stack",
            f"there is no stack '{name}'{nearest(name, known)}",
            where="constraints/",
            fix=f"one of: {', '.join(known)}",
            code=Exit.USAGE,
        )
    return _table(path, name)


def torch_file(name: str, constraints: Path) -> Path:
    """Return the file that holds the torch of a stack apart from the rest, there or not."""
    return constraints / name / "torch.toml"


def _table(path: Path, name: str) -> dict[str, Any]:
    try:
        return table_of(path)
    except FaultsError as error:
        where = "torch.toml: " if path.name == "torch.toml" else ""
        raise _bad_stack(name, [f"{where}{fault}" for fault in error.faults]) from None


def _merged(name: str, constraints: Path, seen: tuple[str, ...]) -> dict[str, Any]:
    """Read a stack over the one it extends: tables merge, everything else replaces.

    A torch with a version and a toolkit with a release are of the stack alone: nothing of the
    parent's is left in them, and the parent's hashed pins are of another torch.
    """
    if name in seen:
        raise _bad_stack(seen[0], [f"extends: {' → '.join((*seen, name))} is a circle"])
    table = own_table(name, constraints)
    parent = table.get("extends", "")
    if not isinstance(parent, str) or not parent:
        return table
    base = _merged(parent, constraints, (*seen, name))
    base.pop("extends", None)
    base.pop("formerly", None)  # the old name of a stack is not that of its children
    for own, marked in (("torch", "version"), ("toolchain", "cuda")):
        if isinstance(table.get(own), dict) and marked in table[own]:
            base.pop(own, None)
            base.pop("locks", None)
    return _overlaid(base, table)


def _overlaid(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        both = isinstance(value, dict) and isinstance(below, dict)
        merged[key] = _overlaid(below, value) if both and below is not None else value
    return merged


def _inconsistencies(stack: Stack) -> list[str]:
    """Find what no single key shows."""
    faults = []
    for number, arch in enumerate(stack.archs):
        try:
            archs.parse(arch)
        except BlackwheelError as error:
            faults.append(f"archs.{number}: {error.fact}")
    for number, name in enumerate(stack.build):
        if name not in stack.projects:
            known = nearest(name, list(stack.projects))
            faults.append(f"build.{number}: no [projects.{name}]{known}")
    made: dict[str, str] = {}
    for name in filter(stack.projects.get, stack.build):
        other = made.setdefault(stack.distribution(name), name)
        if other != name:
            faults.append(f"projects.{name}.distribution: {other} makes wheels of that name too")
    for name, pin in stack.projects.items():
        if pin.sdist and f"-{pin.version}." not in pin.sdist.name:
            faults.append(
                f"projects.{name}.sdist.name: '{pin.sdist.name}' is not version {pin.version}"
            )
        told = [key for key in ("sha256", "size", "tree") if getattr(pin.sdist, key, "")]
        if told and pin.sdist and not pin.sdist.measured:
            lacks = f"with {', '.join(told)} all of sha256, size and tree are wanted, or none"
            faults.append(f"projects.{name}.sdist: {lacks}")
        if not pin.sdist:
            faults += _source_faults(name, pin.source)
        faults += (f"projects.{name}.torch: 'abi': {why}" for why in _unbounded(stack, pin))
        for number, contract in enumerate(pin.contract):
            if (contract.older or not contract.native) and not contract.why:
                faults.append(f"projects.{name}.contract.{number}.why: missing: say why")
    return [*faults, *_torch_faults(stack)]


def _unbounded(stack: Stack, pin: ProjectPin) -> Iterator[str]:
    """Say why no wheel of a pin that wants it can serve later torches than the stack's."""
    if pin.torch != "abi":
        return
    if not pin.links_torch:
        yield "links_torch is false, so it serves every torch already"
    if stack.torch.source != "registry":
        yield "only a release of the package registry has later ones of the same interface"
    elif Version(stack.torch.floor).is_prerelease:
        yield f"{stack.torch.floor} is a pre-release: its interface may still move"


def _source_faults(name: str, source: GitPin) -> Iterator[str]:
    """Find why git alone cannot be a project's source: commit and tree must be known."""
    if source.only_sdist:
        yield f"projects.{name}.sdist: missing: source.commit is no whole one"
    elif not source.whole:
        how = f"git rev-parse {source.commit[:12]}^{{tree}}"
        yield f"projects.{name}.source.tree: missing, and no sdist is pinned instead: {how}"


def _torch_faults(stack: Stack) -> Iterator[str]:
    """Find what contradicts itself in a torch and its wheels."""
    torch = stack.torch
    if torch.source == "index" and not torch.index:
        yield "torch.index: missing: torch.source is 'index'"
    if torch.channel and torch.version.partition("+")[2] != torch.channel:
        yield f"torch.channel: torch {torch.version} is not of '{torch.channel}'"
    for tag, wheel in torch.wheels.items():
        for number, one in enumerate((wheel, *wheel.family)):
            key = f"torch.wheels.{tag}" + (f".family.{number - 1}" if number else "")
            if not one.size and not one.told_by:
                yield f"{key}.size: missing: only a wheel with told_by has none"
    lacking = [p for p in stack.python if python_tag(p) not in torch.wheels]
    if torch.source == "registry" and torch.wheels and lacking:  # of an index `pin` locks them
        yield f"python: {', '.join(lacking)}: torch.wheels has no wheel for it"


def _bad_stack(name: str, faults: Sequence[str]) -> BlackwheelError:
    return refusal("bad-stack", faults, where=f"constraints/{name}.toml")
