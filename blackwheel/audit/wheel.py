"""Opens an untrusted wheel file: checks the archive, and extracts its libraries.

Nothing is written under a name that the archive chose. pip and uv install several of the wheels
that are refused here: a wrong RECORD, an unlisted file, a `.pth`, a file of another package.
"""

from __future__ import annotations

import base64
import hashlib
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from installer.records import InvalidRecordEntry, RecordEntry, parse_record_file
from packaging.tags import Tag
from packaging.utils import (
    BuildTag,
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from blackwheel.audit.findings import Finding

CHUNK: Final = 1 << 20
CODE_MAGICS: Final = (b"\x7fELF", b"\x50\xed\x55\xba")
"""ELF (libraries and cubins, whatever their names) and bare fat binaries."""
SIGNATURES: Final = ("RECORD.jws", "RECORD.p7s")

_Title = tuple[NormalizedName, Version, BuildTag, frozenset[Tag]]
_UNREADABLE: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
_DRIVE: Final = re.compile(r"^[A-Za-z]:")


class RefusedError(Exception):
    """Raised for a file of which nothing more can be read; holds the finding."""

    def __init__(self, name: str, fact: str) -> None:
        super().__init__(fact)
        self.finding = Finding(name=name, fact=fact)


@dataclass(frozen=True, kw_only=True, slots=True)
class Extracted:
    """A library of the wheel, written where tools can read it."""

    path: str
    """In the wheel."""
    file: Path
    """Only there while the wheel is unpacked."""
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """Contents of a wheel file."""

    name: str
    """Canonical: lower case, one hyphen between words."""
    version: Version
    tags: frozenset[Tag]
    """From the file name, like name and version."""
    libraries: tuple[Extracted, ...]
    dist_info: Mapping[str, bytes]
    """Files of the dist-info folder by their name in it."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Member:
    digest: bytes
    """sha256."""
    size: int
    library: Path | None
    text: bytes


def unpack(path: Path, into: Path, *, modules: Sequence[str] | None) -> Unpacked:
    """Check the archive and write its libraries under `into`.

    `modules` are the top-level names that the wheel may hold; None allows all. Raises RefusedError
    where nothing can be read.
    """
    _refuse_other_files(path)
    try:
        title = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise RefusedError("bad-file-name", str(error)) from None
    try:
        with zipfile.ZipFile(path) as archive:
            return _checked(archive, into, title, modules)
    except zipfile.BadZipFile as error:
        raise RefusedError("truncated-wheel", f"the archive cannot be read: {error}") from None


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


def _checked(
    archive: zipfile.ZipFile,
    into: Path,
    title: _Title,
    modules: Sequence[str] | None,
) -> Unpacked:
    name, version, _, tags = title
    infos = archive.infolist()
    findings = list(_path_findings(infos))
    members: dict[str, _Member] = {}
    for number, info in enumerate(infos):
        if info.is_dir():
            continue
        try:
            members[info.filename] = _read(archive, info, into / f"{number}.so")
        except _UNREADABLE as error:
            fact = f"cannot be read: {str(error).removesuffix('.')}"
            findings.append(Finding(name="bad-crc", fact=fact, library=info.filename))
    info_name, more = _dist_info(infos, name, version)
    findings += more
    findings += _foreign_findings(infos, info_name, modules)
    findings += _record_findings(members, info_name, {info.filename for info in infos})
    prefix = f"{info_name}/"
    return Unpacked(
        name=name,
        version=version,
        tags=tags,
        libraries=tuple(
            Extracted(path=key, file=one.library, sha256=one.digest.hex())
            for key, one in members.items()
            if one.library
        ),
        dist_info={
            key.removeprefix(prefix): one.text
            for key, one in members.items()
            if key.startswith(prefix)
        },
        findings=tuple(findings),
    )


def _path_findings(infos: Sequence[zipfile.ZipInfo]) -> Iterator[Finding]:
    seen = Counter(info.filename for info in infos)
    for info in infos:
        path = info.filename
        parts = path.removesuffix("/").split("/")
        if path.startswith("/") or _DRIVE.match(path):
            yield Finding(name="unsafe-path", fact="is an absolute path", library=path)
        elif "\\" in path or any(part in ("", ".", "..") for part in parts):
            yield Finding(name="unsafe-path", fact="leaves its folder", library=path)
        mode = info.external_attr >> 16
        if stat.S_ISLNK(mode):
            yield Finding(name="symlink", fact="is a symbolic link", library=path)
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            yield Finding(name="special-file", fact="is a device, pipe or socket", library=path)
    for path, count in seen.items():
        if count > 1:
            yield Finding(name="duplicate-entry", fact=f"occurs {count} times", library=path)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> _Member:
    """Read one member once; its bytes land on disk where they hold host or device code."""
    with archive.open(info) as stream:
        chunk = stream.read(CHUNK)
        if chunk.startswith(CODE_MAGICS):
            return _extract(stream, chunk, target)
        digest, size, text = hashlib.sha256(), 0, b""
        while chunk:
            size += len(chunk)
            digest.update(chunk)
            if ".dist-info/" in info.filename:
                text += chunk
            chunk = stream.read(CHUNK)
    return _Member(digest=digest.digest(), size=size, library=None, text=text)


def _extract(stream: IO[bytes], chunk: bytes, target: Path) -> _Member:
    """Write a library: while this thread inflates, another one hashes and writes."""
    digest = hashlib.sha256()
    with target.open("wb") as sink, ThreadPoolExecutor(max_workers=1) as worker:

        def keep(part: bytes) -> int:
            digest.update(part)
            return sink.write(part)

        waiting = []
        while chunk:
            waiting.append(worker.submit(keep, chunk))
            chunk = stream.read(CHUNK)
        size = sum(one.result() for one in waiting)
    return _Member(digest=digest.digest(), size=size, library=target, text=b"")


def _dist_info(
    infos: Iterable[zipfile.ZipInfo], name: str, version: Version
) -> tuple[str, list[Finding]]:
    """The one dist-info folder, and whether it is that of the file's name."""
    tops = {info.filename.split("/", 1)[0] for info in infos if "/" in info.filename}
    found = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(found) != 1:
        shown = ", ".join(found) or "none"
        fact = f"one dist-info folder is needed, there is {shown}"
        return (found or [""])[0], [Finding(name="bad-dist-info", fact=fact)]
    stem, _, end = found[0].removesuffix(".dist-info").rpartition("-")
    if canonicalize_name(stem) != name or not _same_version(end, version):
        return found[0], [
            Finding(
                name="bad-dist-info", fact=f"the file is named {name} {version}", library=found[0]
            )
        ]
    return found[0], []


def _same_version(text: str, version: Version) -> bool:
    try:
        return Version(text.replace("_", "+", 1)) == version or Version(text) == version
    except InvalidVersion:
        return False


def _foreign_findings(
    infos: Iterable[zipfile.ZipInfo], info_name: str, modules: Sequence[str] | None
) -> Iterator[Finding]:
    """What would land beside the package: other packages' files, `.pth` files, scripts."""
    foreign: Counter[str] = Counter()
    for info in infos:
        top, _, rest = info.filename.partition("/")
        if top.endswith(".data"):
            scheme, _, rest = rest.partition("/")
            if scheme not in ("purelib", "platlib") and rest:
                foreign[f"{top}/{scheme}"] += 1
                continue
            top, _, rest = rest.partition("/")
        if not rest and top.endswith(".pth"):
            fact = "runs code whenever Python starts"
            yield Finding(name="pth-file", fact=fact, library=info.filename)
        elif top and top != info_name and modules is not None and top.split(".")[0] not in modules:
            foreign[top] += 1
    for top, count in foreign.items():
        files = f"{count} file{'s' if count > 1 else ''}"
        fact = f"{files} there, the stack allows {', '.join(modules or ()) or 'nothing'}"
        yield Finding(name="foreign-top-level", fact=fact, library=top)


def _record_findings(
    members: Mapping[str, _Member], info_name: str, names: set[str]
) -> Iterator[Finding]:
    """Compare RECORD with what is in the archive, both ways."""
    record = f"{info_name}/RECORD"
    if record not in members:
        yield Finding(name="no-record", fact="the wheel holds no RECORD")
        return
    try:
        rows = list(parse_record_file(members[record].text.decode("utf-8").splitlines()))
        entries = [RecordEntry.from_elements(*row) for row in rows]
    except (InvalidRecordEntry, UnicodeDecodeError) as error:
        yield Finding(name="bad-record", fact=str(error), library=record)
        return
    for path, count in Counter(entry.path for entry in entries).items():
        if count > 1:
            yield Finding(name="bad-record", fact=f"RECORD lists it {count} times", library=path)
        if path not in names:
            yield Finding(
                name="missing-file", fact="RECORD lists it, the wheel lacks it", library=path
            )
    listed = {entry.path: entry for entry in entries}
    for path, member in members.items():
        if path == record or path in {f"{info_name}/{name}" for name in SIGNATURES}:
            continue
        if path not in listed:
            yield Finding(name="unlisted-file", fact="RECORD does not list it", library=path)
        elif not _agrees(listed[path], member):
            yield Finding(name="wrong-record", fact="RECORD has other bytes", library=path)


def _agrees(entry: RecordEntry, member: _Member) -> bool:
    """Tell whether an entry holds this member's size and sha256; weaker hashes prove nothing."""
    if entry.hash_ is None or entry.hash_.name != "sha256":
        return False
    coded = base64.urlsafe_b64encode(member.digest).decode("ascii").rstrip("=")
    return entry.hash_.value == coded and entry.size == member.size
