"""A shelf: one stack's wheels as a directory index that pip and uv use as it is.

`wheels/<stack>/` holds the wheels, beside each `.metadata` (PEP 658) and `.receipt.json`; under
`simple/` lie the pages of PEP 503 and 691. Pages are rendered here: simple-repository 0.11 orders
`versions` by hash seed, so that no two runs write one page, and brings an HTTP client along.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from blackwheel import receipts
from blackwheel.errors import BlackwheelError, Exit

API_VERSION: Final = "1.1"
BUSY_SECONDS: Final = 600
_UNREADABLE: Final = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What zipfile raises for a file that is no whole, plain archive."""
_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShelvedWheel:
    """A wheel that an index page lists, with all that the page says about it."""

    path: Path
    project: str
    version: str
    sha256: str
    size: int
    metadata_sha256: str
    requires_python: str
    shelved_at: datetime
    """`upload-time` of PEP 700: when it came on this shelf. `uv --exclude-newer` asks for that; the
    date of the sources would make a new wheel resolvable for a day on which it did not exist."""

    @property
    def receipt(self) -> Path:
        """The receipt beside the wheel."""
        return _beside(self.path, ".receipt.json")

    @property
    def metadata(self) -> Path:
        """The wheel's METADATA beside the wheel."""
        return _beside(self.path, ".metadata")


@dataclass(frozen=True, kw_only=True, slots=True)
class SimplePage:
    """One page in the two forms of the simple API."""

    html: str
    json: str


def simple_page(project: str, wheels: Sequence[ShelvedWheel]) -> SimplePage:
    """The page of one project, oldest version first.

    The digest of the metadata stands under the name of PEP 714 only: pip 22.3 to 23.1 (Debian 12's
    is 23.0.1) read the older one, `dist-info-metadata`, and then find no wheel at all.
    """
    wheels = sorted(wheels, key=lambda wheel: (Version(wheel.version), wheel.path.name))
    versions = list(dict.fromkeys(wheel.version for wheel in wheels))
    document = {
        "meta": {"api-version": API_VERSION},
        "name": project,
        "versions": versions,
        "files": [_file_entry(wheel) for wheel in wheels],
    }
    return SimplePage(
        html=_html(f"Links for {project}", [_anchor(wheel) for wheel in wheels]),
        json=_json(document),
    )


def root_page(projects: Sequence[str]) -> SimplePage:
    """The page that lists the projects."""
    document = {
        "meta": {"api-version": API_VERSION},
        "projects": [{"name": project} for project in projects],
    }
    links = [f'<a href="{project}/">{project}</a><br>' for project in projects]
    return SimplePage(html=_html("Simple index", links), json=_json(document))


def shelved(shelf: Path) -> tuple[ShelvedWheel, ...]:
    """The wheels on a shelf, by its JSON pages; one whose file is gone is not on it."""
    pages = sorted(shelf.glob("simple/*/index.json"))
    return tuple(wheel for page in pages for wheel in _listed(page) if wheel.path.is_file())


def shelve(
    wheel: Path, receipt: receipts.Document, shelf: Path, *, now: datetime | None = None
) -> ShelvedWheel:
    """Put a wheel and its receipt on a shelf; the same bytes again change nothing but the receipt.

    A reader, a second run and a kill at any moment find pages that list whole files only. Raises
    `bad-wheel`, `wrong-receipt`, `other-bytes`, `bad-shelf`, `shelf-busy` or `shelf-unwritable`.
    """
    return shelve_all([(wheel, receipt)], shelf, now=now)[0]


def shelve_all(
    wheels: Sequence[tuple[Path, receipts.Document]], shelf: Path, *, now: datetime | None = None
) -> tuple[ShelvedWheel, ...]:
    """Put wheels with their receipts on a shelf together: no page lists one before all lie there.

    Nothing is written where one of them is refused. Raises what `shelve` raises.
    """
    moment = now or datetime.now(UTC)
    described = [(wheel, *_described(wheel, shelf, moment), receipt) for wheel, receipt in wheels]
    for wheel, entry, _, receipt in described:
        _check_subject(receipt, wheel.name, entry.sha256)
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        with _held(shelf):
            _sweep(shelf)
            for _, entry, _, _ in described:
                if entry.path.exists():
                    _refuse_other_bytes(entry)
            for wheel, entry, metadata, receipt in described:
                _place(wheel, entry)
                receipts.replace_file(entry.metadata, metadata)
                receipts.write(entry.receipt, receipt)
            return tuple(_list(shelf, entry) for _, entry, _, _ in described)
    except OSError as error:
        raise BlackwheelError(
            "shelf-unwritable",
            f"{', '.join(wheel.name for wheel, _ in wheels)} cannot be put there: "
            f"{error.strerror or error}",
            where=str(shelf),
            fix="free space or correct the rights of the folder; nothing half-written is listed",
            code=Exit.INDEX,
        ) from error


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
        receipts.sync_folder(folder)
        for path in (wheel.path, wheel.metadata, wheel.receipt):
            path.unlink(missing_ok=True)


def _described(wheel: Path, shelf: Path, now: datetime) -> tuple[ShelvedWheel, bytes]:
    """What a page says about the wheel, and its METADATA."""
    from packaging.metadata import parse_email  # noqa: PLC0415  0.2 s that only shelving pays

    try:
        project, version, _, _ = parse_wheel_filename(wheel.name)
        metadata = _metadata(wheel)
        fields, _ = parse_email(metadata)
        named = (canonicalize_name(fields.get("name", "")), Version(fields.get("version", "")))
        if named != (project, version):
            raise _bad_wheel(wheel, f"METADATA says {named[0]} {named[1]}, unlike the file name")
        sha256, size = _sha256(wheel), wheel.stat().st_size
    except (*_UNREADABLE, InvalidWheelFilename, InvalidVersion) as error:
        raise _bad_wheel(wheel, getattr(error, "strerror", None) or str(error)) from error
    entry = ShelvedWheel(
        path=shelf / wheel.name,
        project=project,
        version=str(version),
        sha256=sha256,
        size=size,
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        requires_python=fields.get("requires_python", ""),
        shelved_at=now,
    )
    return entry, metadata


def _metadata(wheel: Path) -> bytes:
    """The bytes of the one METADATA in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = [
            name
            for name in archive.namelist()
            if name.count("/") == 1 and name.endswith(".dist-info/METADATA")
        ]
        if len(names) != 1:
            raise _bad_wheel(wheel, f"holds {len(names)} .dist-info/METADATA, not one")
        return archive.read(names[0])


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

    lock = FileLock(shelf / ".lock", timeout=BUSY_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise BlackwheelError(
            "shelf-busy",
            f"another run has been writing to the shelf for {BUSY_SECONDS // 60} minutes",
            where=str(shelf / ".lock"),
            fix="wait for it, or end it",
            code=Exit.BUSY,
        ) from error
    try:
        yield
    finally:
        lock.release()


def _sweep(shelf: Path) -> None:
    """Remove what killed runs left half-written; the caller holds the lock."""
    for folder in (shelf, shelf / "simple", *shelf.glob("simple/*/")):
        for leftover in folder.glob(f"{receipts.TEMPORARY}*"):
            leftover.unlink()


def _place(wheel: Path, entry: ShelvedWheel) -> None:
    """Copy the wheel to the shelf, whole or not at all, and never over other bytes."""
    if entry.path.exists():
        _refuse_other_bytes(entry)
        return
    handle, name = tempfile.mkstemp(prefix=receipts.TEMPORARY, dir=entry.path.parent)
    try:
        with os.fdopen(handle, "wb") as sink, wheel.open("rb") as source:
            shutil.copyfileobj(source, sink, 1 << 20)
            sink.flush()
            os.fchmod(sink.fileno(), 0o644)
            os.fsync(sink.fileno())
        if _sha256(Path(name)) != entry.sha256:
            raise _bad_wheel(wheel, "its copy on the shelf's disk has other bytes")
        # link fails where rename would replace: also against a writer that does not know the lock.
        os.link(name, entry.path)
    except FileExistsError:
        _refuse_other_bytes(entry)
    finally:
        Path(name).unlink(missing_ok=True)
    receipts.sync_folder(entry.path.parent)


def _refuse_other_bytes(entry: ShelvedWheel) -> None:
    found = _sha256(entry.path)
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


def _list(shelf: Path, entry: ShelvedWheel) -> ShelvedWheel:
    """Write the pages that list the wheel, the project's JSON last: `shelved` believes that one."""
    simple = shelf / "simple"
    folder = simple / entry.project
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.json"
    known = {wheel.path.name: wheel for wheel in (_listed(page) if page.exists() else ())}
    before = known.get(entry.path.name)
    if before is not None and before.sha256 == entry.sha256:
        entry = replace(entry, shelved_at=before.shelved_at)
    known[entry.path.name] = entry
    wheels = [wheel for wheel in known.values() if wheel.path.is_file()]
    projects = {path.parent.name for path in simple.glob("*/index.html")} | {entry.project}
    _write_page(simple, root_page(sorted(projects)))
    _write_page(folder, simple_page(entry.project, wheels))
    receipts.sync_folder(simple)
    return entry


def _write_page(folder: Path, page: SimplePage) -> None:
    for name, text in (("index.html", page.html), ("index.json", page.json)):
        path, data = folder / name, text.encode()
        if not path.exists() or path.read_bytes() != data:
            receipts.replace_file(path, data)


def _listed(page: Path) -> Iterator[ShelvedWheel]:
    """The wheels that a project's JSON page lists; raise `bad-shelf` when it cannot be read."""
    shelf = page.parent.parent.parent
    try:
        document = json.loads(page.read_bytes())
        wheels = [_from_entry(entry, document["name"], shelf) for entry in document["files"]]
    except (OSError, ValueError, KeyError, TypeError, InvalidWheelFilename) as error:
        raise BlackwheelError(
            "bad-shelf",
            f"the index page cannot be read: {type(error).__name__}: {error}",
            where=str(page),
            fix=f"delete {page.parent} and run invoke build-wheels: nothing is compiled again",
            code=Exit.INDEX,
        ) from error
    yield from wheels


def _from_entry(entry: dict[str, Any], project: str, shelf: Path) -> ShelvedWheel:
    _, version, _, _ = parse_wheel_filename(entry["filename"])
    return ShelvedWheel(
        path=shelf / entry["filename"],
        project=project,
        version=str(version),
        sha256=entry["hashes"]["sha256"],
        size=entry["size"],
        metadata_sha256=entry["core-metadata"]["sha256"],
        requires_python=entry.get("requires-python", ""),
        shelved_at=datetime.strptime(entry["upload-time"], _TIME).replace(tzinfo=UTC),
    )


def _file_entry(wheel: ShelvedWheel) -> dict[str, Any]:
    entry = {
        "filename": wheel.path.name,
        "url": _url(wheel),
        "hashes": {"sha256": wheel.sha256},
        "core-metadata": {"sha256": wheel.metadata_sha256},
        "size": wheel.size,
        "upload-time": wheel.shelved_at.astimezone(UTC).strftime(_TIME),
    }
    return entry | ({"requires-python": wheel.requires_python} if wheel.requires_python else {})


def _anchor(wheel: ShelvedWheel) -> str:
    python = escape(wheel.requires_python)
    attributes = [
        f'href="{_url(wheel)}#sha256={wheel.sha256}"',
        *([f'data-requires-python="{python}"'] if python else []),
        f'data-core-metadata="sha256={wheel.metadata_sha256}"',
    ]
    return f"<a {' '.join(attributes)}>{escape(wheel.path.name)}</a><br>"


def _url(wheel: ShelvedWheel) -> str:
    """Relative, so that the shelf can be moved and served; `+` would be a space to some servers."""
    return f"../../{quote(wheel.path.name)}"


def _html(title: str, links: Sequence[str]) -> str:
    head = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        '<head><meta charset="utf-8">',
        f'<meta name="pypi:repository-version" content="{API_VERSION}">',
        f"<title>{escape(title)}</title></head>",
        f"<body><h1>{escape(title)}</h1>",
    ]
    return "\n".join([*head, *links, "</body></html>", ""])


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _bad_wheel(wheel: Path, fact: str) -> BlackwheelError:
    return BlackwheelError(
        "bad-wheel", fact, where=str(wheel), fix="invoke build-wheels --again", code=Exit.INDEX
    )
