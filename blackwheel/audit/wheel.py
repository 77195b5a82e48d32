"""Reads a wheel file that nobody trusts, each of its files once: its contents and its faults.

Nothing is written under a name that the archive chose, and nothing that outlives this process. pip
and uv install several of the wheels that are refused here: a wrong RECORD, an unlisted file.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from packaging.tags import Tag
from packaging.utils import BuildTag, InvalidWheelFilename, NormalizedName, parse_wheel_filename
from packaging.version import Version

from blackwheel.audit import archive, contents, dist_info, layout, record
from blackwheel.audit.contents import Content, Native, Reading, read_content
from blackwheel.audit.findings import Finding, RefusedError
from blackwheel.audit.kernels import Library
from blackwheel.audit.loading import EXTENSION, LIBRARY
from blackwheel.audit.texts import UnheldError
from blackwheel.core.plain_text import one_line
from blackwheel.core.zips import DAMAGED

_Title = tuple[NormalizedName, Version, BuildTag, frozenset[Tag]]
HARMLESS: Final = ("python", "text", "native", "device", "image", "font", "translations")
"""Kinds of files that every wheel may hold; a stack's wheel may hold others where it says so."""
FOREIGN: Final = ("windows", "mac", "wasm")


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """The contents of a wheel file."""

    name: str
    """Canonical: lower case, one hyphen between words."""
    version: Version
    tags: frozenset[Tag]
    """From the file name, like name and version."""
    libraries: tuple[Library, ...]
    natives: tuple[Native, ...]
    dist_info: Mapping[str, bytes]
    """METADATA, WHEEL and the like by their name in the dist-info folder."""
    folders: frozenset[str]
    """Top-level names of site-packages that it fills."""
    files: tuple[tuple[str, int], ...]
    """How many there are of each kind."""
    findings: tuple[Finding, ...]

    @property
    def uses_torch(self) -> bool:
        """Tell whether a library of it is linked with torch."""
        return any(
            name.startswith(("libtorch", "libc10"))
            for one in self.natives
            for name in one.elf.needed
        )


def unpack(
    path: Path,
    reading: Reading,
    *,
    modules: Sequence[str] | None = None,
    data: Sequence[str] = (),
) -> Unpacked:
    """Read a whole wheel.

    `modules` are the top-level names that the wheel may hold, `data` its other binary files; None
    allows all. Raises RefusedError where nothing can be read.
    """
    _refuse_other_files(path)
    title = _title(path.name)
    with archive.opened(path) as opened:
        return _read(opened, title, reading, modules, data)


def _title(name: str) -> _Title:
    fault = dist_info.bad_tags("-".join(name.removesuffix(".whl").rsplit("-", 3)[1:]))
    if fault and name.count("-") >= 4:
        raise RefusedError("bad-file-name", fault)
    try:
        return parse_wheel_filename(name)
    except (InvalidWheelFilename, ValueError) as error:
        raise RefusedError("bad-file-name", str(error)) from None


def _refuse_other_files(path: Path) -> None:
    if not path.is_file():
        raise RefusedError("no-wheel", "there is no such file")
    with path.open("rb") as file:
        head = file.read(512).lstrip()
    if not head:
        raise RefusedError("empty-file", "the file is empty")
    if head[:1] == b"<":
        raise RefusedError(
            "html-file", "the file is a web page, as a proxy or a login page sends it"
        )
    if head[:2] != b"PK":
        raise RefusedError("not-a-wheel", "the file is no zip archive")


def _read(
    opened: archive.Archive,
    title: _Title,
    reading: Reading,
    modules: Sequence[str] | None,
    data: Sequence[str],
) -> Unpacked:
    name, version, _, tags = title
    infos = (*opened.files, *opened.folders)
    paths = [info.filename for info in opened.files]
    findings = [*opened.findings, *layout.path_findings(infos)]
    info_name, more = dist_info.find_dist_info(paths, name, version)
    findings += more
    members: dict[str, Content] = {}
    for info in opened.files:
        try:
            members[info.filename] = _member(opened, info, info_name, reading)
        except UnheldError as error:
            findings.append(Finding(name="unreadable-text", fact=str(error), library=info.filename))
        except DAMAGED as error:
            fact = f"cannot be read: {str(error).removesuffix('.')}"
            findings.append(Finding(name="bad-crc", fact=fact, library=info.filename))
    prefix = f"{info_name}/"
    held = {
        path.removeprefix(prefix): one.text
        for path, one in members.items()
        if path.startswith(prefix) and path.removeprefix(prefix) in dist_info.HELD
    }
    inside = [path.removeprefix(prefix) for path in paths if path.startswith(prefix)]
    findings += layout.place_findings(paths, info_name, modules)
    findings += dist_info.info_findings(held, inside, modules)
    findings += record.record_findings(members, info_name, {info.filename for info in infos})
    findings += _kind_findings(members, info_name, None if modules is None else data)
    return Unpacked(
        name=name,
        version=version,
        tags=tags,
        libraries=tuple(one for member in members.values() for one in member.libraries),
        natives=tuple(one for member in members.values() for one in member.natives),
        dist_info=held,
        folders=frozenset(path.split("/")[0] for path in paths if path.count("/")),
        files=contents.tally(members.values()),
        findings=tuple(findings),
    )


def _member(
    opened: archive.Archive, info: zipfile.ZipInfo, info_name: str, reading: Reading
) -> Content:
    """Read one file; METADATA and its like are held in memory, and may not be large."""
    folder, _, name = info.filename.partition("/")
    keep = 0
    if folder == info_name and name in dist_info.HELD:
        keep = dist_info.LIMITS.get(name, dist_info.OTHER_LIMIT)
        if info.file_size > keep:
            raise UnheldError(f"is larger than {keep >> 20} MiB")
    path = one_line(info.filename)
    with opened.reading(info) as stream:
        return read_content(stream, path, reading, keep=keep)


def _kind_findings(
    members: Mapping[str, Content], info_name: str, data: Sequence[str] | None
) -> Iterator[Finding]:
    """Name files that nobody here understands; `data` are those that a stack allows its wheel."""
    unknown: dict[str, list[str]] = {}
    for path, member in members.items():
        for name, place, fact in member.faults:
            yield Finding(name=_fault_name(name, place), fact=fact, library=place)
        module = bool(EXTENSION.search(path))  # Python loads it: code for a card is no answer
        fits = member.kind == "native" or (member.kind == "device" and not module)
        if _claims_a_library(path) and not fits:
            if not any(name == "unreadable-library" for name, _, _ in member.faults):
                fact = f"is named as a library, and is {member.kind}"
                name = "does-not-load" if module else "odd-elf"
                yield Finding(name=name, fact=fact, library=path)
        elif path.startswith(f"{info_name}/") and member.kind not in ("text", "python"):
            fact = f"is {member.kind}, which the dist-info folder is not for"
            yield Finding(name="unknown-file", fact=fact, library=path)
        elif member.kind not in HARMLESS and data is not None:
            if not any(fnmatchcase(path, glob) for glob in data):
                unknown.setdefault(member.kind, []).append(path)
        elif member.kind in FOREIGN or member.kind == "unknown":
            unknown.setdefault(member.kind, []).append(path)
    for kind, paths in unknown.items():
        fact = "is of no kind that is known here" if kind == "unknown" else f"is binary: {kind}"
        fact += "" if data is None else ", and the stack does not name it"
        fact += f" (and {len(paths) - 1:,} more files)" if len(paths) > 1 else ""
        name = "unknown-file" if data is None or kind == "unknown" else "other-data"
        yield Finding(name=name, fact=fact, library=paths[0])


def _claims_a_library(path: str) -> bool:
    return bool(EXTENSION.search(path) or LIBRARY.search(path))


def _fault_name(name: str, path: str) -> str:
    """A broken file stops a foreign wheel only where its name makes Python or a loader load it."""
    if name == "unreadable-library" and not _claims_a_library(path):
        return "odd-elf"
    return {"hidden-library": "odd-elf"}.get(name, name)
