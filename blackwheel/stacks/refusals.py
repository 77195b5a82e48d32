"""Refuses kernels that cannot run on the archs, as project files say, before any fetch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from blackwheel.core import archs
from blackwheel.core.errors import BlackwheelError, Exit, nearest
from blackwheel.stacks import projects
from blackwheel.stacks.projects import Part, Refusal
from blackwheel.stacks.request import Request


def refuse(request: Request, patches: Path) -> None:
    """Raise `cannot-run-on-arch` where a build variable leaves in kernels that cannot run.

    Raises `unknown-part` where one that takes known words alone names another, or none.
    """
    known = projects.load(patches, request.project)
    for part in known.holds:
        if part.closed:
            _require_known(part, request)
    for one in known.refuse:
        if one.variable and _selected(one, request.pin.variables.get(one.variable)):
            key = f"projects.{request.project}.variables.{one.variable}"
            where = f"constraints/{request.stack.name}.toml, {key}"
            what = f"{request.project} {request.pin.version} {one.what}"
            _refuse(one, what, request.archs, where=where, code=Exit.CONFIG)


def _selected(one: Refusal, named: str | None) -> bool:
    """Tell whether the build variable, unset or not, leaves the kernels of a refusal in."""
    if one.has:
        return named is None or one.has in re.split(r"[\s,;]+", named)
    return one.lacks not in re.findall(r"\w+", named or "")


def _require_known(part: Part, request: Request) -> None:
    named = request.pin.variables.get(part.variable)
    words = [word.strip() for word in named.split(",")] if named is not None else list(part.words)
    others = [word for word in words if word not in part.words]
    if not others:
        return
    shown = ", ".join(f"'{word}'" for word in others)
    raise BlackwheelError(
        "unknown-part",
        f"{request.project} {request.pin.version}: {part.variable} names {shown}, which is none of"
        f" its {part.title}{nearest(others[0], list(part.words))}",
        where=f"constraints/{request.stack.name}.toml,"
        f" projects.{request.project}.variables.{part.variable}",
        fix=f"one or more of, with commas: {', '.join(part.words)}",
        code=Exit.CONFIG,
    )


def refuse_project(name: str, wanted: Iterable[str], patches: Path) -> None:
    """Raise `cannot-run-on-arch` where a name is asked for that some project's file refuses."""
    for one in (one for each in projects.known(patches).values() for one in each.refuse):
        if _plain(name) in map(_plain, one.names):
            _refuse(one, f"'{name}' {one.what}", wanted, where="--only", code=Exit.USAGE)


def _plain(name: str) -> str:
    """Return a name as people mean it: without case and hyphens."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _refuse(one: Refusal, what: str, wanted: Iterable[str], *, where: str, code: Exit) -> None:
    asked = list(map(archs.parse, wanted))
    if one.newer_than:
        last = archs.parse(one.newer_than)
        cannot = [arch for arch in asked if (arch.major, arch.minor) > (last.major, last.minor)]
    else:
        cannot = [arch for arch in asked if arch.major != one.other_than]
    if not cannot:
        return
    majors = {arch.major for arch in cannot}
    reasons = [each.text for each in one.why if each.major is None or each.major in majors]
    raise BlackwheelError(
        "cannot-run-on-arch",
        f"{what}, which cannot run on {', '.join(map(str, cannot))}:\n" + "\n".join(reasons),
        where=where,
        fix=one.fix,
        code=code,
    )
