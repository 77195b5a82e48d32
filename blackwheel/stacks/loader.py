"""Reads constraints/*.toml into a Stack; reports all faults of a file at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blackwheel.core import archs
from blackwheel.core.errors import BlackwheelError, Exit, nearest
from blackwheel.stacks.faults import FaultsError, record_of, refusal, table_of
from blackwheel.stacks.records import Stack


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
    """Return the table of a stack's own file, without the stack that it extends."""
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
    try:
        return table_of(path)
    except FaultsError as error:
        raise _bad_stack(name, error.faults) from None


def _merged(name: str, constraints: Path, seen: tuple[str, ...]) -> dict[str, Any]:
    """Read a stack over the one it extends: tables merge, everything else replaces."""
    if name in seen:
        raise _bad_stack(seen[0], [f"extends: {' → '.join((*seen, name))} is a circle"])
    table = own_table(name, constraints)
    parent = table.get("extends", "")
    if not isinstance(parent, str) or not parent:
        return table
    base = _merged(parent, constraints, (*seen, name))
    base.pop("extends", None)
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
        if pin.source.only_sdist and not pin.sdist:
            faults.append(f"projects.{name}.sdist: missing: source.commit is no whole one")
        for number, contract in enumerate(pin.contract):
            if (contract.older or not contract.native) and not contract.why:
                faults.append(f"projects.{name}.contract.{number}.why: missing: say why")
    if stack.torch.source == "index" and not stack.torch.index:
        faults.append("torch.index: missing: torch.source is 'index'")
    return faults


def _bad_stack(name: str, faults: Sequence[str]) -> BlackwheelError:
    return refusal("bad-stack", faults, where=f"constraints/{name}.toml")
