"""Compares requests with the shelf, and finds those that must be built and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from blackwheel.core.site import Site, isolation_mode
from blackwheel.receipts import document as receipts
from blackwheel.receipts.beside import key_section
from blackwheel.shelf import index
from blackwheel.sources.series import patch_digests, series_of
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

    A stack that was renamed also finds its wheels on the shelf of its old name, where those of
    another torch may lie beside them.
    """
    chosen = series_of(site, asked)
    build_variables(asked, jobs=1)  # for its errors: not after an environment was made
    mode = isolation_mode(site).mode
    key = keys.key(
        asked, patches=patch_digests(chosen), constraints=site.constraints, isolation=mode
    )
    found, before = None, None
    for name in filter(None, (asked.stack.formerly, asked.stack.name)):
        for wheel in index.shelved(site.wheels / name):
            made = key_section(wheel.receipt)
            own = name == asked.stack.name or wheel.version == asked.version
            if own and made.get("slug") in asked.slugs:
                before = made["parts"]
                found = wheel if made["digest"] == key.digest else found
    reasons: tuple[str, ...] = ()
    if again:
        reasons = ("--again was given",)
    elif not found:
        reasons = key.changes(before) if before else ("no wheel of it is on the shelf",)
    return Work(request=asked, python=python, key=key, shelved=found, reasons=reasons)


def adopted(site: Site, item: Work) -> Work:
    """Put a wheel of the stack's old name on its own shelf; a damaged one is built anew."""
    wheel, shelf = item.shelved, site.wheels / item.request.stack.name
    if wheel is None or wheel.path.parent == shelf:
        return item
    document = receipts.load(wheel.receipt)
    if receipts.verify(document, wheel.path):
        why = f"{wheel.path.name} on the shelf of {item.request.stack.formerly} is damaged"
        return replace(item, shelved=None, reasons=(why,))
    moved = index.shelve(wheel.path, document, shelf)
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
