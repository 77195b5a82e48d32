"""Draws the pages of shelves for people: over all, one a shelf, and three of each wheel.

All of it comes from the receipts beside the wheels, and `verify_pages` draws it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from packaging.version import Version

from blackwheel.audit.receipt_page import recorded_page
from blackwheel.builder import timeline_page
from blackwheel.pages.render import render, stamp, without_stamp
from blackwheel.shelf.simple_api import ShelvedWheel
from blackwheel.shelf.wheel_facts import UNREADABLE, Facts, facts

TITLE = "Wheels by stack"
Crumbs = tuple[tuple[str, str], ...]
_ALL: Crumbs = ((TITLE, "../index.html"),)


def pages(shelf: Path, wheels: Sequence[ShelvedWheel]) -> Iterator[tuple[Path, str]]:
    """Yield path and text of all pages of a shelf, its own last.

    The text is empty where a receipt has nothing of which that page can be drawn.
    """
    projects = _projects(wheels)
    for group in (group for versions in projects for group in versions):
        for one in group:
            audit, build = _audit_page(shelf.name, one), _build_page(shelf.name, one)
            yield one.wheel.audit, audit
            yield one.wheel.build, build
            drawn = {"audit": bool(audit), "build": bool(build)}
            others = [other for other in group if other is not one]
            yield one.wheel.page, _wheel_page(shelf.name, one, others, drawn)
    yield shelf / "index.html", _shelf_page(shelf.name, projects)


def is_current(page: Path) -> bool:
    """Tell whether this version of blackwheel drew a page."""
    return page.is_file() and without_stamp(page.read_bytes())[0] == stamp()


def is_ours(page: Path) -> bool:
    """Tell whether the page over all stacks may be written: there is none, or blackwheel's own."""
    if not page.exists():
        return True
    by, text = without_stamp(page.read_bytes())
    return bool(by) or f"<title>{TITLE}</title>".encode() in text


def root_page(shelves: Sequence[tuple[str, Sequence[ShelvedWheel]]]) -> str:
    """Draw the page over all stacks."""
    stacks = [(name, _projects(wheels)) for name, wheels in shelves]
    return render("stacks", title=TITLE, crumbs=(), stacks=stacks)


def _projects(wheels: Sequence[ShelvedWheel]) -> list[list[list[Facts]]]:
    """Each project's versions, the newest first, each with its wheels by Python."""

    def version(one: Facts) -> Version:
        return Version(one.wheel.version)

    seen = sorted(map(facts, wheels), key=lambda one: (len(one.python), one.python))
    seen = sorted(sorted(seen, key=version, reverse=True), key=lambda one: one.wheel.project)
    return [
        [list(members) for _, members in groupby(group, version)]
        for _, group in groupby(seen, lambda one: one.wheel.project)
    ]


def _shelf_page(name: str, projects: list[list[list[Facts]]]) -> str:
    title = f"Wheels of {name}"
    return render("stack", title=title, crumbs=_ALL, here=name, projects=projects)


def _wheel_page(name: str, one: Facts, others: Sequence[Facts], drawn: dict[str, bool]) -> str:
    return render(
        "wheel",
        title=_title(one),
        crumbs=(*_ALL, (name, "index.html")),
        here=_title(one),
        one=one,
        others=others,
        drawn=drawn,
    )


def _title(one: Facts) -> str:
    return f"{one.wheel.project} {one.release} for Python {one.python}"


def _crumbs(name: str, one: Facts) -> Crumbs:
    return (*_ALL, (name, "index.html"), (_title(one), quote(one.wheel.page.name)))


def _audit_page(name: str, one: Facts) -> str:
    wheel, crumbs = one.wheel, _crumbs(name, one)
    try:
        metadata = wheel.metadata.read_bytes()
        return recorded_page(
            wheel.path, wheel.sha256, wheel.size, metadata, one.held, crumbs=crumbs
        )
    except UNREADABLE:
        return ""


def _build_page(name: str, one: Facts) -> str:
    try:
        objects = one.held["objects"]["each"]
        return timeline_page.recorded_page(_title(one), objects, _crumbs(name, one))
    except UNREADABLE:
        return ""
