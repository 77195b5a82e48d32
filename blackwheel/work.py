"""What is asked for, and what the shelf already holds of it: decided before anything is started."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blackwheel import archs, fa3, index, isolation, keys, pythons, series, stacks
from blackwheel.errors import BlackwheelError, Exit
from blackwheel.keys import Key, Request
from blackwheel.site import Site


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One request with its key, and what the shelf already holds for it."""

    request: Request
    python: pythons.Python
    key: Key
    shelved: index.ShelvedWheel | None
    """The wheel of this key on the shelf, if there is one."""
    reasons: tuple[str, ...]
    """Why it must be built; empty when nothing changed."""


def requests(
    site: Site,
    stack_name: str,
    *,
    only: Sequence[str] = (),
    arch: str = "",
    python: str = "",
    without: Sequence[str] = (),
) -> tuple[tuple[Request, ...], pythons.Python]:
    """Resolve what a command line asks for; raises what `stacks`, `archs` and `pythons` raise."""
    stack = stacks.load(stack_name, site.constraints)
    wanted = tuple(str(a) for a in archs.parse_list(arch)) if arch else stack.archs
    for name in only:
        fa3.refuse_project(name, wanted)
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
    for request in asked:
        fa3.refuse(request)
    return asked, chosen


def for_pythons(
    site: Site, stack: str, python: str, **options: Any
) -> list[tuple[Request, pythons.Python]]:
    """Return each project for each Python: `3.12`, `3.11,3.12`, a path, or `all` of the stack."""
    words = [word.strip() for word in python.split(",") if word.strip()] or [""]
    if words == ["all"]:
        words = list(stacks.load(stack, site.constraints).python)
    found: dict[str, tuple[Request, pythons.Python]] = {}
    for word in words:
        asked, chosen = requests(site, stack, python=word, **options)
        for request in asked:
            found.setdefault(request.slug, (request, chosen))
    return list(found.values())


def _not_optional(
    name: str, stack: stacks.Stack, optional: dict[str, tuple[str, ...]]
) -> BlackwheelError:
    known = [part for parts in optional.values() for part in parts]
    return BlackwheelError(
        "not-optional",
        f"'{name}' is no nested source that {', '.join(optional)} can be built without",
        where="--without",
        fix=f"of stack '{stack.name}': {', '.join(known) or 'none'}",
        code=Exit.USAGE,
    )


def isolation_mode(site: Site) -> isolation.Isolation:
    """Return the isolation that this machine allows, or BLACKWHEEL_ISOLATION asks for."""
    try:
        return isolation.available_isolation(site.environment.get("BLACKWHEEL_ISOLATION", ""))
    except isolation.IsolationError as error:
        raise BlackwheelError(
            "bad-isolation",
            str(error),
            where="BLACKWHEEL_ISOLATION",
            fix=f"{isolation.NAMESPACES} or {isolation.PROCESSES}, or unset it",
            code=Exit.USAGE,
        ) from None


def work(site: Site, asked: Request, python: pythons.Python, *, again: bool = False) -> Work:
    """Compare a request's key with the shelf; touches no tree, network or environment."""
    chosen = series_of(site, asked)
    keys.build_variables(asked, jobs=1)  # for its errors: not after an environment was made
    mode = isolation_mode(site).mode
    key = keys.key(asked, series=chosen, constraints=site.constraints, isolation=mode)
    found, before = None, None
    for wheel in index.shelved(site.wheels / asked.stack.name):
        made = key_section(wheel.receipt)
        if made.get("slug") == asked.slug:
            before = made["parts"]
            found = wheel if made["digest"] == key.digest else found
    reasons: tuple[str, ...] = ()
    if again:
        reasons = ("--again was given",)
    elif not found:
        reasons = key.changes(before) if before else ("no wheel of it is on the shelf",)
    return Work(request=asked, python=python, key=key, shelved=found, reasons=reasons)


def series_of(site: Site, asked: Request) -> series.Series:
    """Return the series of a request's project at its version."""
    return series.load_series(site.patches / asked.project / asked.pin.version)


def taken_labels(
    site: Site, pending: Sequence[Work]
) -> list[tuple[Work, index.ShelvedWheel, dict[str, str]]]:
    """Find the wheels on the shelf that bear the label of these builds and another key."""
    found = []
    for item in pending:
        request = item.request
        version = request.version
        for wheel in index.shelved(site.wheels / request.stack.name):
            made = key_section(wheel.receipt)
            same = wheel.version == version and made.get("slug") == request.slug
            if same and made["digest"] != item.key.digest:
                found.append((item, wheel, made["parts"]))
    return found


def key_section(path: Path) -> dict[str, Any]:
    """Return `digest`, `slug` and `parts` of the key of a wheel; empty without a receipt.

    Read for every no-op run, so nothing is verified here.
    """
    try:
        document = json.loads(path.read_bytes())
        section = document["predicate"]["buildDefinition"]["externalParameters"]["stack"]["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(section)
