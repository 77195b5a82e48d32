"""Resolves the words of a command line into requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

from blackwheel.core import archs
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.stacks import loader, pythons, records
from blackwheel.stacks.request import Request


class Words(TypedDict, total=False):
    """The options that choose requests, as they were typed."""

    only: Sequence[str]
    arch: str
    python: str
    without: Sequence[str]


def requests(
    site: Site, stack: str | records.Stack, **words: Unpack[Words]
) -> tuple[tuple[Request, ...], pythons.Python]:
    """Resolve a command line into requests that can run on their archs.

    Raises `cannot-run-on-arch`, and the errors of `loader`, `archs` and `pythons`.
    """
    from blackwheel.stacks import refusals  # noqa: PLC0415  13 ms that a run with no work saves

    asked, chosen = _resolved(site, stack, **words)
    for request in asked:
        refusals.refuse(request, site.patches)
    return asked, chosen


def _resolved(
    site: Site,
    stack: str | records.Stack,
    *,
    only: Sequence[str] = (),
    arch: str = "",
    python: str = "",
    without: Sequence[str] = (),
) -> tuple[tuple[Request, ...], pythons.Python]:
    stack = loader.load(stack, site.constraints) if isinstance(stack, str) else stack
    wanted = tuple(str(a) for a in archs.parse_list(arch)) if arch else stack.archs
    for name in only:
        if name not in stack.build:
            from blackwheel.stacks import refusals  # noqa: PLC0415  see requests

            refusals.refuse_project(name, wanted, site.patches)
        stack.project(name)
    chosen = pythons.choose(stack, python, environment=site.environment)
    names = [name for name in stack.build if not only or name in only]
    optional = {name: stack.projects[name].optional for name in names}
    if unknown := sorted(set(without) - {part for parts in optional.values() for part in parts}):
        raise _not_optional(unknown[0], stack, optional)
    asked = tuple(
        Request(
            stack=stack,
            project=name,
            python=chosen.version,
            archs=wanted,
            without=tuple(sorted(set(without) & set(optional[name]))),
        )
        for name in names
    )
    return asked, chosen


def for_pythons(
    site: Site, stack: str, python: str, **options: Any
) -> list[tuple[Request, pythons.Python]]:
    """Return each project for each Python: `3.12`, `3.11,3.12`, a path, or `all` of the stack.

    What cannot run on its archs is among them: `pipeline.todo.work` refuses it where it is due.
    """
    words = [word.strip() for word in python.split(",") if word.strip()] or [""]
    read = loader.load(stack, site.constraints)
    if words == ["all"]:
        words = list(read.python)
    found: dict[str, tuple[Request, pythons.Python]] = {}
    for word in words:
        asked, chosen = _resolved(site, read, python=word, **options)
        for request in asked:
            found.setdefault(request.slug, (request, chosen))
    return list(found.values())


def _not_optional(
    name: str, stack: records.Stack, optional: dict[str, tuple[str, ...]]
) -> BlackwheelError:
    known = [part for parts in optional.values() for part in parts]
    return BlackwheelError(
        "not-optional",
        f"'{name}' is no nested source that {', '.join(optional)} can be built without",
        where="--without",
        fix=f"of stack '{stack.name}': {', '.join(known) or 'none'}",
        code=Exit.USAGE,
    )
