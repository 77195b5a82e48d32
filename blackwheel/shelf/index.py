"""Writes a shelf: one stack's wheels as a directory index that pip and uv use as it is.

`wheels/<stack>/` holds the wheels, beside each `.metadata` (PEP 658), `.receipt.json` and three
pages; under `simple/` lie the pages of PEP 503 and 691, and `index.html` is for people.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from packaging.utils import InvalidWheelFilename, canonicalize_name

from blackwheel.core import files
from blackwheel.core import records as own
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.receipts import document as receipts
from blackwheel.receipts.beside import key_section
from blackwheel.shelf.simple_api import (
    Page,
    ShelvedWheel,
    SimplePage,
    from_entry,
    root_page,
    simple_page,
    yanked_names,
)
from blackwheel.shelf.wheel_file import bad_wheel, described
from blackwheel.stacks import records, request
from blackwheel.stacks.request import Request

__all__ = [
    "ShelvedWheel",
    "SimplePage",
    "root_page",
    "shelve",
    "shelve_all",
    "shelved",
    "show_all",
    "simple_page",
    "withdraw",
]

BUSY_SECONDS: Final = 600


def shelved(shelf: Path, *, absent: bool = False) -> tuple[ShelvedWheel, ...]:
    """Return the wheels on a shelf, by its JSON pages, without those whose file is gone.

    With `absent`, those alone: a person removed the files.
    """
    pages = sorted(shelf.glob("simple/*/index.json"))
    listed = (wheel for page in pages for wheel in _listed(page))
    return tuple(wheel for wheel in listed if wheel.path.is_file() is not absent)


def shelve(
    wheel: Path,
    receipt: receipts.Document,
    shelf: Path,
    *,
    sbom: bytes = b"",
    now: datetime | None = None,
) -> ShelvedWheel:
    """Put a wheel and its receipt on a shelf; the same bytes again change nothing but the receipt.

    The signature of another receipt goes.
    A reader, a second run and a kill at any moment find pages that list whole files only. Raises
    `bad-wheel`, `wrong-receipt`, `other-bytes`, `bad-shelf`, `shelf-busy` or `shelf-unwritable`.
    """
    return shelve_all([(wheel, receipt)], shelf, sboms={wheel.name: sbom}, now=now)[0]


def shelve_all(
    wheels: Sequence[tuple[Path, receipts.Document]],
    shelf: Path,
    *,
    signed: Mapping[str, bytes] | None = None,
    sboms: Mapping[str, bytes] | None = None,
    now: datetime | None = None,
) -> tuple[ShelvedWheel, ...]:
    """Put wheels with their receipts on a shelf together: no page lists one before all lie there.

    `signed` and `sboms` hold files by the wheel's name; those of other wheels go.
    Nothing is written where one of them is refused. Raises what `shelve` raises.
    """
    moment = now or datetime.now(UTC)
    seen = [(wheel, *described(wheel, shelf, moment), receipt) for wheel, receipt in wheels]
    for wheel, entry, _, receipt in seen:
        _check_subject(receipt, wheel.name, entry.sha256)
    try:
        files.make_folder(shelf)
        with _held(shelf):
            _sweep(shelf)
            for _, entry, _, _ in seen:
                if entry.path.exists():
                    _refuse_other_bytes(entry)
            try:
                for wheel, entry, metadata, receipt in seen:
                    files.replace_file(entry.metadata, metadata)
                    receipts.write(entry.receipt, receipt)
                    for path, held in ((entry.bundle, signed), (entry.sbom, sboms)):
                        if data := (held or {}).get(wheel.name):
                            files.replace_file(path, data)
                        else:
                            path.unlink(missing_ok=True)
                    _place(wheel, entry)  # last: no wheel lies there without its receipt
            except BaseException:
                _withdraw_half([entry for _, entry, _, _ in seen])
                raise
            return _list(shelf, [entry for _, entry, _, _ in seen])
    except OSError as error:
        raise BlackwheelError(
            "shelf-unwritable",
            f"{', '.join(wheel.name for wheel, _ in wheels)} cannot be put there: "
            f"{error.strerror or error}",
            where=str(shelf),
            fix="free space or correct the rights of the folder; nothing half-written is listed",
            code=Exit.INDEX,
        ) from error


def _withdraw_half(entries: Sequence[ShelvedWheel]) -> None:
    """Remove what lies beside wheels that were not put there."""
    for path in (path for one in entries if not one.path.exists() for path in one.beside):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def withdraw(wheel: ShelvedWheel, shelf: Path) -> None:
    """Take a wheel off a shelf: off the pages first, so that no reader is sent to a missing file.

    Only for a wheel that nobody but this checkout has: an installer that holds the old bytes under
    the same label keeps them.
    """
    with _held(shelf):
        folder = shelf / "simple" / wheel.project
        page = folder / "index.json"
        others = [one for one in _listed(page) if one.path != wheel.path]
        _write_page(folder, simple_page(wheel.project, others))
        files.sync_folder(folder)
        for path in (wheel.path, *wheel.beside):
            path.unlink(missing_ok=True)
        _show(shelf)


def unlisted(shelf: Path) -> tuple[Path, ...]:
    """Return the files of wheels that a page should list and none does: a run was killed.

    Of a project whose page a person removed, as `bad-shelf` says, there are none.
    """
    pages = {page.parent.name: page for page in shelf.glob("simple/*/index.json")}
    listed = {wheel.path.name for page in pages.values() for wheel in _listed(page)}
    found = []
    for path in sorted(shelf.glob("*.whl*")):
        name = f"{path.name.partition('.whl')[0]}.whl"
        project = canonicalize_name(name.partition("-")[0])
        if path.is_file() and name not in listed and project in pages:
            found.append(path)
    return tuple(found)


def remove_unlisted(shelf: Path) -> None:
    """Remove the files of wheels that no page lists, once no other run may be about to list one."""
    with _held(shelf):
        for path in unlisted(shelf):
            path.unlink(missing_ok=True)


def _check_subject(receipt: receipts.Document, name: str, sha256: str) -> None:
    faults = receipts.shape_faults(receipt)
    if not faults:
        about, digest = receipts.subject(receipt)
        if (about, digest) == (name, sha256):
            return
        faults = [f"it is about {about}", f"  sha256 {digest}", f"not {name}", f"  sha256 {sha256}"]
    raise BlackwheelError(
        "wrong-receipt",
        "\n".join(["the receipt is not that of this wheel:", *faults]),
        where=name,
        fix="invoke build-wheels --again",
        code=Exit.INDEX,
    )


@contextmanager
def _held(shelf: Path) -> Iterator[None]:
    """Be the only one that writes to the shelf; a killed holder lets go."""
    from filelock import FileLock, Timeout  # noqa: PLC0415  0.1 s that only shelving pays

    try:
        with FileLock(shelf / ".lock", timeout=BUSY_SECONDS):
            yield
    except Timeout as error:
        raise BlackwheelError(
            "shelf-busy",
            f"another run has been writing to the shelf for {BUSY_SECONDS // 60} minutes",
            where=str(shelf / ".lock"),
            fix="wait for it, or end it",
            code=Exit.BUSY,
        ) from error


def _sweep(shelf: Path) -> None:
    """Remove what killed runs left half-written; the caller holds the lock."""
    for folder in (shelf, shelf / "simple", *shelf.glob("simple/*/")):
        for leftover in folder.glob(f"{files.TEMPORARY}*"):
            leftover.unlink()


def _place(wheel: Path, entry: ShelvedWheel) -> None:
    """Copy the wheel to the shelf, whole or not at all, and never over other bytes."""
    if entry.path.exists():  # its bytes were compared before anything was written
        return
    handle, name = tempfile.mkstemp(prefix=files.TEMPORARY, dir=entry.path.parent)
    try:
        with os.fdopen(handle, "wb") as sink, wheel.open("rb") as source:
            shutil.copyfileobj(source, sink, 1 << 20)
            sink.flush()
            os.fchmod(sink.fileno(), 0o644)
            os.fsync(sink.fileno())
        if files.sha256(Path(name)) != entry.sha256:
            raise bad_wheel(wheel, "its copy on the shelf's disk has other bytes")
        # link fails where rename would replace: also against a writer that does not know the lock.
        os.link(name, entry.path)
    except FileExistsError:
        _refuse_other_bytes(entry)
    finally:
        Path(name).unlink(missing_ok=True)
    files.sync_folder(entry.path.parent)


def _refuse_other_bytes(entry: ShelvedWheel) -> None:
    found = files.sha256(entry.path)
    if found != entry.sha256:
        raise BlackwheelError(
            "other-bytes",
            f"{entry.path.name} is on the shelf with other bytes\n"
            f"there: sha256 {found}\n"
            f"new:   sha256 {entry.sha256}",
            where=str(entry.path),
            fix=f"raise projects.{entry.project}.revision in "
            f"constraints/{entry.path.parent.name}.toml and build again",
            code=Exit.INDEX,
        )


def _list(shelf: Path, entries: Sequence[ShelvedWheel]) -> tuple[ShelvedWheel, ...]:
    """Write the pages that list the wheels, each project's once; return them as they are listed.

    A page with a yanked wheel is written, too: the mark may stand in one of its two forms only.
    """
    marked = [wheel.project for wheel in shelved(shelf) if wheel.yanked]
    listed = {
        one.path: one
        for project in dict.fromkeys([*(entry.project for entry in entries), *marked])
        for one in _list_project(shelf / "simple", project, entries)
    }
    _show(shelf)
    return tuple(listed[entry.path] for entry in entries)


def _list_project(
    simple: Path, project: str, entries: Sequence[ShelvedWheel]
) -> tuple[ShelvedWheel, ...]:
    """Write a project's pages, the JSON one last: `shelved` believes that one."""
    folder = simple / project
    files.make_folder(folder)
    page = folder / "index.json"
    known = {wheel.path.name: wheel for wheel in (_listed(page) if page.exists() else ())}
    members = [entry for entry in entries if entry.project == project]
    for entry in members:
        before = known.get(entry.path.name)
        if before is not None and before.sha256 == entry.sha256:
            moment, mark = before.shelved_at, before.yanked
            entry = replace(entry, shelved_at=moment, yanked=mark)  # noqa: PLW2901
        known[entry.path.name] = entry
    projects = {path.parent.name for path in simple.glob("*/index.html")} | {project}
    _write_page(simple, root_page(sorted(projects)))
    _write_page(folder, simple_page(project, [one for one in known.values() if one.path.is_file()]))
    files.sync_folder(simple)
    return tuple(known[entry.path.name] for entry in members)


def _show(shelf: Path) -> None:
    """Write all that people read, after what installers read: an earlier version drew otherwise."""
    from blackwheel.shelf import landing_page  # noqa: PLC0415  0.3 s that only shelving pays

    for path, text in landing_page.pages(shelf, shelved(shelf)):
        if text:
            _write_text(path, text)


def _write_page(folder: Path, page: SimplePage) -> None:
    for name, text in (("index.html", page.html), ("index.json", page.json)):
        _write_text(folder / name, text)


def _write_text(path: Path, text: str) -> None:
    data = text.encode()
    if not path.exists() or path.read_bytes() != data:
        files.replace_file(path, data)


def show_all(wheels: Path) -> Path:
    """Write the page over every shelf in a folder, and theirs where another version drew them.

    Returns it. A page there that blackwheel did not draw stays: a published folder may have one.
    Raises `pages-unwritable`.
    """
    from blackwheel.shelf import landing_page  # noqa: PLC0415  0.3 s that only shelving pays

    shelves = sorted(page.parent.parent for page in wheels.glob("*/simple/index.json"))
    page = wheels / "index.html"
    try:
        for shelf in shelves:
            if not landing_page.is_current(shelf / "index.html"):
                with _held(shelf):
                    _show(shelf)
        if landing_page.is_ours(page):
            _write_text(page, landing_page.root_page([(one.name, shelved(one)) for one in shelves]))
    except OSError as error:
        raise BlackwheelError(
            "pages-unwritable",
            f"pages for people cannot be written: {error.strerror or error}\n"
            "the wheels and the pages that installers read are as they should be",
            where=str(error.filename or wheels),
            fix="free space or correct the rights of the folder, then the same command again",
            code=Exit.INDEX,
        ) from error
    return page


def _listed(page: Path) -> Iterator[ShelvedWheel]:
    """The wheels that a project's JSON page lists; raise `bad-shelf` when it cannot be read.

    A wheel is yanked where this page or the HTML page beside it says so.
    """
    shelf, html = page.parent.parent.parent, page.with_suffix(".html")
    try:
        found = own.parsed(page.read_bytes(), Page)
        wheels = [from_entry(entry, found.name, shelf) for entry in found.files]
        marks = yanked_names(found.name, html.read_text("utf-8")) if html.is_file() else {}
        wheels = [replace(w, yanked=w.yanked or marks.get(w.path.name, False)) for w in wheels]
        if len({wheel.path for wheel in wheels}) != len(wheels):
            raise ValueError("it lists a file twice")
    except (OSError, ValueError, InvalidWheelFilename) as error:
        raise BlackwheelError(
            "bad-shelf",
            f"the index page cannot be read: {getattr(error, 'strerror', None) or error}",
            where=str(page),
            fix=f"delete {page.parent} and run invoke build-wheels: nothing is compiled again",
            code=Exit.INDEX,
        ) from error
    yield from wheels


def current(wheel: ShelvedWheel, stack: records.Stack) -> Request | None:
    """Return the stack's present request for this wheel's label; None for any other label.

    A wheel whose receipt names no key cannot be told from a current one: it counts as one of the
    project's, and `unproved` says what it lacks.
    """
    try:
        project = stack.named(wheel.project)
    except BlackwheelError:
        return None
    try:
        parts = key_section(wheel.receipt)["parts"]
        python, archs = parts["python"], tuple(parts["archs"].split(";"))
    except (KeyError, TypeError, AttributeError):
        python, archs = stack.python[0], stack.archs
        return Request(stack=stack, project=project, python=python, archs=archs)
    without = request.left_out(parts)
    asked = Request(stack=stack, project=project, python=python, archs=archs, without=without)
    return asked if asked.version == wheel.version else None
