"""Reads patches/<project>/<version>/series into a Series; reports all faults of it at once."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.stacks.faults import refusal
from blackwheel.stacks.request import Request

FIELDS: Final = ("From", "Subject", "Origin", "Forwarded", "Last-Update")
"""What the header of a patch names, beside its why in free text."""
_NAME: Final = re.compile(r"\d{4}-[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.patch", re.ASCII)
_DIFF: Final = re.compile(rb"^diff --git ", re.MULTILINE)
_FIELD: Final = re.compile(r"([A-Z][A-Za-z-]*): *(.*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """One patch of a series, read once, so that the digest is of the applied bytes."""

    name: str
    line: int
    """Where the series names it, from 1."""
    content: bytes

    @property
    def sha256(self) -> str:
        """Digest of the whole file, header included."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def header(self) -> bytes:
        """Text above the first file, the diffstat included."""
        found = _DIFF.search(self.content)
        return self.content[: found.start()] if found else self.content


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """The ordered patches of one project at one version."""

    folder: Path
    patches: tuple[Patch, ...]

    @property
    def project(self) -> str:
        """Project that the folder belongs to."""
        return self.folder.parent.name

    @property
    def version(self) -> str:
        """Version of the project that the folder belongs to."""
        return self.folder.name

    @property
    def place(self) -> str:
        """Path of the series file for messages."""
        return f"patches/{self.project}/{self.version}/series"


def patch_digests(series: Series) -> tuple[tuple[str, str], ...]:
    """Return name and sha256 of every patch, in order: the series' part of the key."""
    return tuple((patch.name, patch.sha256) for patch in series.patches)


def load_series(folder: Path) -> Series:
    """Read a series and its patches; raise `bad-series` with every fault at once.

    A project without patches has a series file that names none: a missing one is a fault, or a
    misspelt version would build unpatched sources.
    """
    place = f"patches/{folder.parent.name}/{folder.name}/series"
    try:
        text = (folder / "series").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _bad_series(["there is no such file"], place) from None
    except UnicodeDecodeError as error:
        raise _bad_series([f"not UTF-8: {error.reason} at byte {error.start}"], place) from None
    faults: list[str] = []
    patches: list[Patch] = []
    listed: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name = line.partition("#")[0].strip()
        if not name:
            continue
        found = _entry_faults(name, folder, listed)
        listed.setdefault(name, number)
        if not found:
            patch = Patch(name=name, line=number, content=(folder / name).read_bytes())
            found = [f"{name}: {fault}" for fault in header_faults(patch)]
            patches.append(patch)
        faults += [f"line {number}: {fault}" for fault in found]
    forgotten = {path.name for path in folder.glob("*.patch")} - set(listed)
    faults += [
        f"{name}: lies in the folder, but the series does not name it" for name in sorted(forgotten)
    ]
    if faults:
        raise _bad_series(faults, place)
    return Series(folder=folder, patches=tuple(patches))


def _entry_faults(name: str, folder: Path, listed: dict[str, int]) -> list[str]:
    if not _NAME.fullmatch(name):
        return [f"'{name}' is not named NNNN-verb-object.patch"]
    if name in listed:
        return [f"{name}: named before, in line {listed[name]}"]
    if not (folder / name).is_file():
        return [f"{name}: there is no such file"]
    return []


def header_faults(patch: Patch) -> list[str]:
    """Return the fields that the header of a patch lacks."""
    try:
        header = patch.header.decode("utf-8")
    except UnicodeDecodeError:
        return ["the header is not UTF-8"]
    if patch.header == patch.content:
        return ["no line starts with 'diff --git'; make it with git diff"]
    fields: dict[str, str] = {}
    why = False
    for line in re.split(r"^---$", header, maxsplit=1, flags=re.MULTILINE)[0].splitlines():
        field = _FIELD.fullmatch(line)
        if field and field[1] in FIELDS:
            fields[field[1]] = field[2].strip()
        elif line.strip() and not line.startswith((" ", "From ")):
            # an indented line continues its field, 'From <commit>' opens git's mail form
            why = True
    faults = [f"the header has no {name}" for name in FIELDS if not fields.get(name)]
    if not why:
        faults.append("the header does not say why, in free text below the Subject")
    updated = fields.get("Last-Update")
    if updated and not _is_date(updated):
        faults.append(f"Last-Update: '{updated}' is not a date such as 2026-11-22")
    return faults


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _bad_series(faults: list[str], place: str) -> BlackwheelError:
    fix = "correct the series or the patches named above"
    return refusal("bad-series", faults, where=place, fix=fix)


class NoSeriesError(BlackwheelError):
    """Nobody has made the series of a release yet: `no-series`."""


def series_of(site: Site, asked: Request) -> Series:
    """Return the series of a request's project at its version; raise `no-series`."""
    project, version = asked.project, asked.pin.version
    folder = site.patches / project / version
    if not folder.is_dir():
        raise NoSeriesError(
            "no-series",
            f"there is no series of patches for {project} {version}, not even an empty one",
            where=f"patches/{project}/{version}/series",
            fix=f"invoke pin {project} {version} --stack {asked.stack.name} makes it",
            code=Exit.CONFIG,
        )
    return load_series(folder)
