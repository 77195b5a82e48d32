"""Reads one file of a wheel once: its digest, its kind, and the code in it."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from blackwheel.audit import device, fatbin, kernels, packed
from blackwheel.audit.blob import CHUNK, Blob
from blackwheel.audit.cubin import is_cubin
from blackwheel.audit.cuobjdump import Patience
from blackwheel.audit.device import Found
from blackwheel.audit.elf import AMDGPU, MAGIC, Elf, UnreadableLibraryError, read_elf_of
from blackwheel.audit.kernels import DeviceCode, Library
from blackwheel.audit.member import Source
from blackwheel.audit.packed import Budget, UnknownPackingError
from blackwheel.audit.sections import Sections, read_sections
from blackwheel.audit.texts import PYTHON, UnheldError, read_text
from blackwheel.core.archs import Arch

ARCHIVE: Final = b"!<arch>\n"
COMPILED: Final = (".pyc", ".pyo")
DATA: Final = {
    b"\x89PNG": "image",
    b"\xff\xd8\xff": "image",
    b"GIF8": "image",
    b"RIFF": "image",
    b"\0\0\1\0": "image",
    b"BM": "image",
    b"%PDF": "image",
    b"\0\1\0\0": "font",
    b"OTTO": "font",
    b"true": "font",
    b"wOFF": "font",
    b"wOF2": "font",
    b"\x93NUMPY": "array",
    b"BC\xc0\xde": "bitcode",
    b"\xde\xc0\x17\x0b": "bitcode",
    b"\x03\x02\x23\x07": "bitcode",
    b"\xde\x12\x04\x95": "translations",
    b"\x89HDF": "array",
    b"SQLite format 3": "database",
    b"MZ": "windows",
    b"\xcf\xfa\xed\xfe": "mac",
    b"\xca\xfe\xba\xbe": "mac",
    b"\0asm": "wasm",
}
"""Kinds of binary files by how they begin."""
_MOST_WAITING: Final = 8
TRIALS: Final = 256
"""Places of a file that may hold something compressed, and are tried."""
TRIAL_SIZE: Final = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Native:
    """An ELF file for the host, and the findings in its bytes."""

    path: str
    elf: Elf
    sections: Sections
    runtime: bool
    """It carries a C++ runtime of its own."""
    libraries: int
    """ELF files for the host inside of it."""
    trailing: int
    """Bytes behind the last that a header tells of."""


@dataclass(kw_only=True, slots=True)
class Content:
    """One file of a wheel."""

    kind: str
    """`python`, `text`, `native`, `device`, `packed`, `unknown`, … or a kind of DATA."""
    digest: bytes
    size: int
    text: bytes = b""
    """Its bytes, where they were asked for."""
    libraries: list[Library] = field(default_factory=list)
    natives: list[Native] = field(default_factory=list)
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    """Name of a finding, path, and fact."""


@dataclass(kw_only=True, slots=True)
class Reading:
    """The questions asked of a wheel's files while they are read, and their common budget."""

    archs: Sequence[Arch]
    """Those that kernels are counted against."""
    entry_points: Sequence[str] = ()
    """Kernels that are looked for by name."""
    budget: Budget = field(default_factory=Budget)
    patience: Patience = field(default_factory=Patience)
    kernels: set[str] = field(default_factory=set)
    """Of the kernels that were looked for, those that are there."""


def read_content(stream: Source, path: str, reading: Reading, *, keep: int = 0) -> Content:
    """Read a file to its end; of one that is held in memory (`keep`) at most so many bytes.

    Raises UnheldError, and what reading a stream raises.
    """
    first = stream.read(CHUNK)
    binary = first[:4] in (MAGIC, fatbin.MAGIC) or packed.packing(first)
    if not binary and b"\0" not in first:
        text = read_text(stream, first, path, keep)
        if text is not None:
            kind = "python" if path.endswith(PYTHON) else "text"
            content = Content(kind=kind, digest=text.digest, size=text.size, text=text.kept)
            if text.names_a_target:
                _add_ptx(content, stream, path, reading)
            return content
        stream.seek(0)
        first = stream.read(CHUNK)
    if keep:
        raise UnheldError("is no text")
    with Blob.new() as blob:
        digest = _pour(stream, first, blob)
        content = Content(kind="unknown", digest=digest, size=blob.size)
        _look(blob, path, content, reading, reading.budget.depth)
        return content


def _add_ptx(content: Content, stream: Source, path: str, reading: Reading) -> None:
    """Look for PTX in a text that mentions a target."""
    stream.seek(0)
    with Blob.new() as blob:
        _pour(stream, stream.read(CHUNK), blob)
        found = device.find(blob)
        if found.ptx:
            content.kind = "device"
            _add(content, blob, path, found, reading)


def _pour(stream: Source, chunk: bytes, blob: Blob) -> bytes:
    """Write a file down: while this thread inflates, another one hashes and writes."""
    digest = hashlib.sha256()
    if len(chunk) < CHUNK:  # all of it: most files are small
        blob.append(chunk)
        return hashlib.sha256(chunk).digest()
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(max_workers=1) as worker:

        def keep(part: bytes) -> None:
            digest.update(part)
            blob.append(part)

        while chunk:
            waiting.append(worker.submit(keep, chunk))
            if len(waiting) > _MOST_WAITING:
                waiting.popleft().result()
            chunk = stream.read(CHUNK)
        for one in waiting:
            one.result()
    return digest.digest()


def _look(blob: Blob, path: str, content: Content, reading: Reading, depth: int) -> None:
    """Tell what a binary file is, and read the code in it."""
    head = blob.head(512)
    if head[:4] == MAGIC:
        _elf(blob, head, path, content, reading)
        return
    found = device.find(blob)
    how = packed.packing(head)
    content.kind = _kind(head, path, how)
    if found.any or found.other:
        content.kind = "device"
    if found.libraries and head[:8] != ARCHIVE:
        content.faults.append(("hidden-library", path, f"{found.libraries} ELF files lie in it"))
    if how:
        _packed(blob, how, path, content, reading, depth=depth)
        found.packed.clear()
    if found.any or found.packed:
        kind = "archive" if head[:8] == ARCHIVE else "file"
        _add(content, blob, path, found, reading, kind=kind)
        if how and _was_read(content.libraries[-1], content.libraries[:-1]):
            content.libraries.pop()


def _was_read(whole: Library, parts: Sequence[Library]) -> bool:
    """Tell whether the code that lies in a packed file as it is was read by its name there."""
    archs = [Counter[tuple[bool, str]]() for _ in range(2)]
    for held, each in zip(archs, ([whole], parts), strict=True):
        for one in each:
            held.update({(True, arch): count for arch, count in one.elf_archs})
            held.update({(False, arch): count for arch, count in one.ptx_archs})
    known = not whole.unreadable or any(one.unreadable for one in parts)
    return known and archs[0] <= archs[1]


def _kind(head: bytes, path: str, how: str) -> str:
    if not head:
        return "text"
    if how:
        return "packed"
    if path.endswith(COMPILED):
        return "compiled Python"
    if head[:8] == ARCHIVE:
        return "static library"
    return next((kind for magic, kind in DATA.items() if head.startswith(magic)), "unknown")


def _elf(blob: Blob, head: bytes, path: str, content: Content, reading: Reading) -> None:
    if is_cubin(head):
        content.kind = "device"
        _add(content, blob, path, device.find(blob), reading, kind="cubin")
        return
    try:
        elf = read_elf_of(blob, path.rpartition("/")[2])
    except UnreadableLibraryError as error:
        content.kind = "unknown"
        content.faults.append(("unreadable-library", path, str(error)))
        _add(content, blob, path, device.find(blob), reading)
        return
    content.kind = "device" if elf.machine == AMDGPU else "native"
    sections = read_sections(blob)
    found = device.find(blob, elf, sections)
    end = max(elf.end, sections.end)
    native = Native(
        path=path,
        elf=elf,
        sections=sections,
        runtime=found.runtime,
        libraries=found.libraries,
        trailing=max(0, blob.size - end) if not sections.fault else 0,
    )
    content.natives += [native] if elf.machine != AMDGPU else []
    _add(content, blob, path, found, reading, kind=elf.kind)


def _add(
    content: Content, blob: Blob, path: str, found: Found, reading: Reading, *, kind: str = "file"
) -> None:
    """Add a file that holds code to what was read."""
    read = kernels.device_code(blob, found, reading.patience, wanted=reading.archs)
    _try_packed(blob, found, read, reading.budget)
    if reading.entry_points:
        names = {name for one in read.code for name in one.kernels}
        reading.kernels |= {n for n in names if any(e in n for e in reading.entry_points)}
    content.libraries.append(
        kernels.library(
            read,
            found,
            reading.archs,
            path=path,
            size=content.size,
            sha256=content.digest.hex(),
            kind=kind,
        )
    )


def _try_packed(blob: Blob, found: Found, read: DeviceCode, budget: Budget) -> None:
    """Look for device code in what may lie compressed inside of a library.

    A stream that is cut, or has another checksum, is as good as a whole one to its own reader.
    """
    left = TRIALS
    for offset in found.packed:
        how = packed.may_begin(blob.at(offset, min(16, blob.size - offset)))
        if not how:
            continue
        left -= 1
        if left < 0:
            read.unread.append((None, f"more than {TRIALS} places may hold what is packed"))
            return
        try:
            part = blob.part(offset, blob.size - offset)
            with packed.beginning(part, how, budget, TRIAL_SIZE) as inner:
                _add_nested(inner, f"{how} at {offset:#x}", read)
        except UnknownPackingError as error:
            read.unread.append((None, str(error)))
            return


def _add_nested(inner: Blob, place: str, read: DeviceCode) -> None:
    nested = device.find(inner)
    if nested.any:
        more = kernels.device_code(inner, nested, read.patience, wanted=read.wanted)
        read.code += more.code
        read.unread += [*more.unread, (None, f"{place} holds such code")]
    elif inner.size >= TRIAL_SIZE:
        read.unread.append((None, f"{place} grows to more than {TRIAL_SIZE >> 20} MiB"))


def _packed(
    blob: Blob, how: str, path: str, content: Content, reading: Reading, *, depth: int
) -> None:
    """Look into a packed file, and into what is packed in that."""
    if depth <= 0:
        content.faults.append(("packed-data", path, "packed too deep to be looked at"))
        return
    try:
        for name, stream in packed.members(blob, how, reading.budget):
            inner = f"{path}!{name}" if name else f"{path}!"
            with Blob.new() as held:
                digest = _pour(stream, stream.read(CHUNK), held)
                part = Content(kind="unknown", digest=digest, size=held.size)
                _look(held, inner, part, reading, depth - 1)
            if part.libraries or part.natives:
                content.kind = "device"
            content.libraries += part.libraries
            content.faults += part.faults
    except (UnknownPackingError, *packed.BROKEN) as error:
        content.faults.append(("packed-data", path, f"unknown: {error}"))


def tally(contents: Iterable[Content]) -> tuple[tuple[str, int], ...]:
    """Count files by kind, the most frequent first."""
    counts: dict[str, int] = {}
    for one in contents:
        counts[one.kind] = counts.get(one.kind, 0) + 1
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
