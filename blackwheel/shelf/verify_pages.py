"""Recomputes the files beside a shelf's wheels from the wheels: metadata and pages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from email import message_from_bytes
from pathlib import Path
from typing import Any, Final

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from blackwheel.core import files
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.zips import UNREADABLE
from blackwheel.pages.render import stamp, without_stamp
from blackwheel.receipts import document
from blackwheel.receipts.beside import metadata_path
from blackwheel.shelf import index, landing_page
from blackwheel.shelf.wheel_file import read_metadata

_UNREADABLE: Final = (*UNREADABLE, BlackwheelError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One recomputed statement, with the found and the expected value."""

    what: str
    ok: bool | None
    """None for what cannot be computed again; `found` then says why."""
    found: str = ""
    expected: str = ""

    @property
    def state(self) -> str:
        """Word for tables and JSON."""
        return {True: "ok", False: "FAULT", None: "open"}[self.ok]


def compared(what: str, found: Any, expected: Any) -> Check:
    """Return the check that two values are equal."""
    same = bool(found == expected)
    return Check(what=what, ok=same, found=str(found), expected="" if same else str(expected))


def compared_all(what: str, found: Sequence[str], expected: Sequence[str]) -> Check:
    """Return the check that two lists are equal; where they are, it shows their length."""
    if list(found) == list(expected):
        return Check(what=what, ok=True, found=str(len(found)))
    shown = [", ".join(one) or "none" for one in (found, expected)]
    return Check(what=what, ok=False, found=shown[0], expected=shown[1])


def sha256(path: Path) -> str:
    """Return the digest of a file; `no such file` where there is none."""
    return files.sha256(path) if path.is_file() else "no such file"


def is_shelf(folder: Path) -> bool:
    """Tell whether a folder is a directory index."""
    return (folder / "simple").is_dir()


def metadata_checks(wheel: Path) -> Iterator[Check]:
    """Check that the `.metadata` file beside a wheel is the METADATA in it."""
    beside = metadata_path(wheel)
    try:
        expected = hashlib.sha256(read_metadata(wheel)).hexdigest()
    except _UNREADABLE as error:
        yield Check(what="METADATA", ok=False, found=str(error), expected="a readable wheel")
        return
    yield compared("metadata sha256", sha256(beside), expected)


def page_checks(shelf: Path) -> Iterator[Check]:
    """Check that the pages of a shelf list exactly the wheels on it."""
    try:
        listed = index.shelved(shelf)
    except BlackwheelError as error:
        yield Check(what=error.where, ok=False, found=error.fact, expected="a page of the index")
        return
    names = {wheel.path.name for wheel in listed}
    for file in sorted(shelf.glob("*.whl")):
        if file.name not in names:
            yield Check(what=file.name, ok=False, found="no page lists it", expected="a page")
    folders = sorted(page.parent for page in shelf.glob("simple/*/index.*"))
    projects = list(dict.fromkeys(folder.name for folder in folders))
    yield from _rendered(shelf / "simple", index.root_page(projects))
    for project in projects:
        entries = []
        for wheel in listed:
            if _project_of(wheel.path) == project:
                actual, checks = _described(wheel)
                entries.append(actual)
                yield from checks
        yield from _rendered(shelf / "simple" / project, index.simple_page(project, entries))
    yield from _for_people(shelf, listed)
    yield Check(what="upload-time", ok=None, found="nothing but the page records it")


def _project_of(wheel: Path) -> str:
    try:
        return str(parse_wheel_filename(wheel.name)[0])
    except InvalidWheelFilename:
        return ""


def _described(listed: index.ShelvedWheel) -> tuple[index.ShelvedWheel, list[Check]]:
    """What a page must say of a wheel, and how it differs from what it says."""
    try:
        metadata = read_metadata(listed.path)
    except _UNREADABLE:  # said where the wheel is verified
        metadata = b""
    actual = replace(
        listed,
        sha256=sha256(listed.path),
        size=listed.path.stat().st_size,
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        requires_python=str(message_from_bytes(metadata).get("Requires-Python", "")),
    )
    fields = ("sha256", "size", "metadata_sha256", "requires_python")
    checks = [
        compared(f"{listed.path.name} {field}", getattr(listed, field), getattr(actual, field))
        for field in fields
    ]
    return actual, [check for check in checks if not check.ok]


def _for_people(shelf: Path, listed: Sequence[index.ShelvedWheel]) -> Iterator[Check]:
    """The pages of the shelf and of its wheels say what the receipts say."""
    if not all(map(_holds, listed)):
        yield Check(what="index.html", ok=None, found="drawn from a receipt that does not hold")
        return
    drawn = list(landing_page.pages(shelf, listed))
    for path, text in drawn:
        by, found = without_stamp(path.read_bytes() if path.is_file() else b"")
        if not found or by == stamp() or found == without_stamp(text.encode())[1]:
            continue
        yield Check(
            what="pages for people",
            ok=False,
            found=f"drawn by {by or 'an earlier blackwheel'} or edited: nothing proves their words",
            expected=f"as {stamp()} draws them: invoke serve-index, or invoke publish, does",
        )
        return
    for path, text in drawn:
        if text or path.exists():
            yield _same(path, path.name, text)


def _holds(wheel: index.ShelvedWheel) -> bool:
    """Tell whether what a page is drawn from can be believed; its faults are said elsewhere."""
    try:
        faults = document.verify(document.load(wheel.receipt), wheel.path)
    except BlackwheelError:
        return False
    return not faults and sha256(wheel.metadata) == wheel.metadata_sha256


def _rendered(folder: Path, page: index.SimplePage) -> Iterator[Check]:
    """A page is byte for byte what blackwheel writes."""
    for name, text in (("index.html", page.html), ("index.json", page.json)):
        path = folder / name
        yield _same(path, f"{path.relative_to(folder.parent)}", text)


def _same(path: Path, what: str, text: str) -> Check:
    """A file is byte for byte a text, but for the line that names the code that drew it."""
    if not path.is_file():
        return Check(what=what, ok=False, found="no such file", expected="a page")
    pages = [without_stamp(page)[1] for page in (path.read_bytes(), text.encode())]
    if pages[0] == pages[1]:
        return Check(what=what, ok=True, found=f"{text.count(chr(10))} lines")
    number = document.first_change(*pages)
    lines = [[*page.split(b"\n"), b"no such line"][number - 1] for page in pages]
    there = [line.decode("utf-8", "replace").strip() for line in lines]
    return Check(what=f"{what} line {number}", ok=False, found=there[0], expected=there[1])
