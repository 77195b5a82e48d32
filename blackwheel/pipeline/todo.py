"""Compares requests with the shelf, and finds those that must be built and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site, isolation_mode
from blackwheel.receipts.beside import key_section
from blackwheel.shelf import index
from blackwheel.sources.series import Series, patch_digests, series_of
from blackwheel.stacks import key as keys
from blackwheel.stacks import pythons
from blackwheel.stacks.key import Key
from blackwheel.stacks.request import Request, build_variables


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One request with its key, its wheel on the shelf if any, and the reasons to build it."""

    request: Request
    python: pythons.Python
    key: Key
    shelved: index.ShelvedWheel | None
    """The wheel of this key on the shelf, if there is one."""
    reasons: tuple[str, ...]
    """Why it must be built; empty when nothing changed."""


def work(site: Site, asked: Request, python: pythons.Python, *, again: bool = False) -> Work:
    """Compare a request's key with the shelf; touches no tree, network or environment.

    Raises `cannot-run-on-arch` where kernels would have to be built that cannot run.
    A stack that was renamed also finds its wheels on the shelf of its old name, where those of
    another torch may lie beside them.
    """
    chosen = series_of(site, asked)
    build_variables(asked, jobs=1)  # for its errors: not after an environment was made
    mode = isolation_mode(site).mode
    key = keys.key(
        asked, patches=patch_digests(chosen), constraints=site.constraints, isolation=mode
    )
    made = Work(request=asked, python=python, key=key, shelved=None, reasons=())
    return _refused(site, looked_up(site, made, again=again))


def _refused(site: Site, item: Work) -> Work:
    """Return the item; raise `cannot-run-on-arch` where it is due and cannot run."""
    if item.reasons:
        from blackwheel.stacks import refusals  # noqa: PLC0415  13 ms that only a build pays

        refusals.refuse(item.request, site.patches)
    return item


def looked_up(site: Site, item: Work, *, again: bool = False) -> Work:
    """Compare a known key with the shelf again: another run may have added its wheel."""
    found, before = None, None
    asked = item.request
    for name in filter(None, (asked.stack.formerly, asked.stack.name)):
        for wheel in index.shelved(site.wheels / name):
            made = key_section(wheel.receipt)
            own = name == asked.stack.name or wheel.version == asked.version
            if own and made.get("slug") in asked.slugs:
                before = made["parts"]
                found = wheel if made["digest"] == item.key.digest else found
    reasons: tuple[str, ...] = ()
    if again:
        reasons = ("--again was given",)
    elif not found:
        reasons = item.key.changes(before) if before else ("no wheel of it is on the shelf",)
    return replace(item, shelved=found, reasons=reasons)


def read_series(site: Site, item: Work) -> Series:
    """Read the series of a request; raise `changed-meanwhile` unless its key was made from it."""
    read = series_of(site, item.request)
    parts = dict(item.key.parts)
    names = [name for name, _ in patch_digests(read)]
    changed = [n for n, sha256 in patch_digests(read) if parts.get(f"patches.{n}") != sha256]
    if json.loads(parts["patches"]) != names:
        changed.append("series")
    if changed:
        place = f"patches/{item.request.project}/{item.request.pin.version}"
        raise changed_meanwhile(item, [f"{place}/{name}" for name in changed])
    return read


def require_locks(site: Site, item: Work) -> None:
    """Raise `changed-meanwhile` unless the key was made from the hashed pins as they are now."""
    parts: Mapping[str, str] = dict(item.key.parts)
    now = keys.lock_digests(item.request, site.constraints)
    changed = [name for name, digest in now.items() if parts.get(name) != digest]
    if changed:
        files = keys.lock_files(item.request, Path("constraints"))
        raise changed_meanwhile(item, [str(files[name]) for name in changed])


def changed_meanwhile(item: Work, places: Sequence[str]) -> BlackwheelError:
    """Return the error of a build whose key was computed from other files than those there."""
    request = item.request
    return BlackwheelError(
        "changed-meanwhile",
        f"the build of {request.project} for Python {request.python} was resolved with other"
        " contents of these files",
        where="\n".join(places),
        fix="run the same command again",
        code=Exit.BUILD,
    )


def adopted(site: Site, item: Work) -> Work:
    """Put a wheel of the stack's old name on its own shelf; a damaged one is built anew."""
    wheel, shelf = item.shelved, site.wheels / item.request.stack.name
    if wheel is None or wheel.path.parent == shelf:
        return item
    from blackwheel.shelf import admission  # noqa: PLC0415  1 s that only such a move pays

    try:
        one = admission.admitted(site, wheel.path, item.request, key=item.key)
    except BlackwheelError as error:
        site.console.error(error)
        why = f"{wheel.path.name} on the shelf of {item.request.stack.formerly} is not proved"
        return _refused(site, replace(item, shelved=None, reasons=(why,)))
    moved = admission.shelved(site, one)
    index.show_all(site.wheels)
    return replace(item, shelved=moved)


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
            same = wheel.version == version and made.get("slug") in request.slugs
            if same and made["digest"] != item.key.digest:
                found.append((item, wheel, made["parts"]))
    return found
