"""Renders the simple API pages of a shelf: PEP 503 and 691, with 700 and 714.

Rendered here: simple-repository 0.11 orders `versions` by hash seed, so that no two runs write one
page, and brings an HTTP client along (docs/decisions/0017-serving-the-shelf.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

from packaging.utils import parse_wheel_filename
from packaging.version import Version
from pydantic import Field

from blackwheel.core.files import component
from blackwheel.core.records import Count, Name
from blackwheel.receipts.beside import bundle_path, metadata_path, receipt_path, sbom_path

API_VERSION: Final = "1.1"
_TIME: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShelvedWheel:
    """A wheel on an index page, with all facts of its entry."""

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
    yanked: bool | str = False
    """The mark of PEP 592, or its reason: somebody who keeps the index wrote it into a page."""

    @property
    def receipt(self) -> Path:
        """Path of the receipt beside the wheel."""
        return receipt_path(self.path)

    @property
    def bundle(self) -> Path:
        """Path of the signed receipt beside the wheel, if it was signed."""
        return bundle_path(self.path)

    @property
    def sbom(self) -> Path:
        """Path of the SBOM beside the wheel."""
        return sbom_path(self.path)

    @property
    def metadata(self) -> Path:
        """Path of the METADATA file beside the wheel."""
        return metadata_path(self.path)

    @property
    def audit(self) -> Path:
        """Path of the audit page beside the wheel."""
        return _beside(self.path, ".audit.html")

    @property
    def page(self) -> Path:
        """Path of the wheel's own page beside it."""
        return _beside(self.path, ".html")

    @property
    def build(self) -> Path:
        """Path of the build report beside the wheel."""
        return _beside(self.path, ".build.html")

    @property
    def beside(self) -> tuple[Path, ...]:
        """Paths of all that belongs to the wheel, there or not."""
        read = (self.metadata, self.receipt, self.bundle, self.sbom)
        return (*read, self.page, self.audit, self.build)


@dataclass(frozen=True, kw_only=True, slots=True)
class SimplePage:
    """One page in the two forms of the simple API."""

    html: str
    json: str


def simple_page(project: str, wheels: Sequence[ShelvedWheel]) -> SimplePage:
    """Render the page of one project, oldest version first.

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
    """Render the page that lists the projects."""
    document = {
        "meta": {"api-version": API_VERSION},
        "projects": [{"name": project} for project in projects],
    }
    links = [f'<a href="{project}/">{project}</a><br>' for project in projects]
    return SimplePage(html=_html("Simple index", links), json=_json(document))


@dataclass(frozen=True, kw_only=True, slots=True)
class Hashes:
    """Digests of a file; others may stand beside it."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file on a JSON page, as `simple_page` writes it."""

    filename: Name
    hashes: Hashes
    core_metadata: Annotated[Hashes, Field(alias="core-metadata")]
    size: Count
    upload_time: Annotated[Name, Field(alias="upload-time")]
    requires_python: Annotated[Name, Field(alias="requires-python")] = ""
    yanked: bool | Annotated[str, Field(max_length=4096)] = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """The JSON page of a project."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    files: tuple[Entry, ...]


def from_entry(entry: Entry, project: str, shelf: Path) -> ShelvedWheel:
    """Return a wheel from its entry in the JSON page of its project; raise ValueError."""
    _, version, _, _ = parse_wheel_filename(entry.filename)
    return ShelvedWheel(
        path=shelf / component(entry.filename, where=str(shelf)),
        project=project,
        version=str(version),
        sha256=entry.hashes.sha256,
        size=entry.size,
        metadata_sha256=entry.core_metadata.sha256,
        requires_python=entry.requires_python,
        shelved_at=datetime.strptime(entry.upload_time, _TIME).replace(tzinfo=UTC),
        yanked=entry.yanked is not False and (entry.yanked or True),
    )


def yanked_names(project: str, html: str) -> dict[str, bool | str]:
    """Return the file names that an HTML page marks as yanked, each with True or the reason."""
    if "data-yanked" not in html:
        return {}
    from pypi_simple import ProjectPage  # noqa: PLC0415  only a page with a mark pays

    packages = ProjectPage.from_html(project, html).packages
    return {one.filename: one.yanked_reason or True for one in packages if one.is_yanked}


def _file_entry(wheel: ShelvedWheel) -> dict[str, Any]:
    entry = {
        "filename": wheel.path.name,
        "url": _url(wheel),
        "hashes": {"sha256": wheel.sha256},
        "core-metadata": {"sha256": wheel.metadata_sha256},
        "size": wheel.size,
        "upload-time": wheel.shelved_at.astimezone(UTC).strftime(_TIME),
    }
    entry |= {"requires-python": wheel.requires_python} if wheel.requires_python else {}
    return entry | ({"yanked": wheel.yanked} if wheel.yanked else {})


def _anchor(wheel: ShelvedWheel) -> str:
    python = escape(wheel.requires_python)
    reason = wheel.yanked if isinstance(wheel.yanked, str) else ""
    attributes = [
        f'href="{_url(wheel)}#sha256={wheel.sha256}"',
        *([f'data-requires-python="{python}"'] if python else []),
        f'data-core-metadata="sha256={wheel.metadata_sha256}"',
        *([f'data-yanked="{escape(reason)}"'] if wheel.yanked else []),
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
