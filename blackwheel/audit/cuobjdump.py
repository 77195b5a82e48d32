"""Names the kernels of fat binaries' entries by NVIDIA's own reader, a batch at a time.

The entries are copied into a file of our own making: so it does not matter where in a library they
lay, and cuobjdump, which unpacks all that it is given, never needs more than a batch takes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import mmap
import re
import signal
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blackwheel.audit import fatbin
from blackwheel.audit.blob import Blob, OutOfFileError
from blackwheel.audit.cubin import UnreadableKernelsError, read_cubin
from blackwheel.audit.fatbin import Entry
from blackwheel.core.archs import Arch, from_sm
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import Limits, capture_into

CUOBJDUMP: Final = "nvidia-cuda-cuobjdump"
ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
BATCH: Final = 64 << 20
"""Bytes that the entries of one call grow to."""
LARGEST: Final = 1 << 30
"""One entry that grows to more is not read."""
LIMITS: Final = Limits(seconds=20, memory=4 << 30, output=128 << 20)
_LIMIT_SIGNALS: Final = tuple(128 + one for one in (signal.SIGXCPU, signal.SIGKILL, signal.SIGTERM))
MOST_ENTRIES: Final = 4096
"""Entries of one call."""
SMALLEST: Final = 8

_HEAD: Final = re.compile(rb"^Fatbin (.+) code:\n=+\narch = (\S+)$", re.MULTILINE)
_KERNEL: Final = re.compile(rb"^FUNC\s+\S+\s+\S+\s+ENTRY\s+(\S+)$", re.MULTILINE)
_PTX_KERNEL: Final = re.compile(rb"\.entry\s+([\w$.]+)")
_LISTED: Final = re.compile(rb"^ELF file +\d+: .*\.(sm_\d+[af]?)\.cubin$", re.MULTILINE)
"""A cubin by its own header; all else that cuobjdump prints is the fat binary's word."""
SYMBOLS, PTX, CUBINS = "--dump-elf-symbols", "--dump-ptx", "--list-elf"
_NAMES: Final = b"\0.nv_fatbin\0.shstrtab\0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """One entry: its arch with its suffix, and the names of its kernels where it was asked."""

    arch: Arch
    kernels: frozenset[str] = frozenset()
    why: str = ""
    """Why its kernels are not known; empty where they are."""


@functools.cache
def cuobjdump() -> Path:
    """Return the cuobjdump of the installed distribution, never one that PATH happens to offer."""
    try:
        files = importlib.metadata.files(CUOBJDUMP) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate())).resolve()
        if file.name == "cuobjdump" and path.is_file():
            return path
    raise BlackwheelError(
        "no-cuobjdump",
        f"the package {CUOBJDUMP} is not installed in this environment",
        fix=f"python3 -m pip install '{CUOBJDUMP}>=13.2'",
        code=Exit.MACHINE,
    )


class _GaveUpError(Exception):
    """Reading on would take for ever."""


@dataclass(kw_only=True, slots=True)
class Patience:
    """The time and files that reading the device code of one wheel may take."""

    calls: int = 500
    """Batches for cuobjdump; the largest wheels of the registry take 120."""
    parts: int = 240
    """Calls for parts of a batch that could not be read as a whole."""
    unpacked: int = 64 << 30

    def left_for(self, batch: Iterable[Entry], *, part: bool) -> bool:
        """Use some up; tell whether there was enough."""
        self.calls -= 1
        self.parts -= part
        self.unpacked -= 0 if part else sum(one.unpacked for one in batch)
        return self.calls >= 0 and self.parts >= 0 and self.unpacked >= 0


def read_entries(
    blob: Blob,
    entries: Sequence[Entry],
    option: str = SYMBOLS,
    *,
    patience: Patience | None = None,
    wanted: Sequence[Arch] | None = None,
) -> list[Read]:
    """Read entries in their order: SYMBOLS names the kernels of cubins, PTX those of PTX texts.

    Headers that promise to run on one of `wanted`, or all where that is None, are held to their
    cubins: a lie about another arch makes nothing look better than it is.

    Of a batch that cannot be read as a whole, cubins that lie there as they are are read without
    cuobjdump, and the rest is halved until the bad ones are found.
    """
    done: dict[int, Read] = {}
    for number, one in enumerate(entries):
        if one.size < SMALLEST:
            done[number] = Read(arch=one.arch, why="is too small to be any code")
    patience = patience or Patience()
    asked = [(number, one) for number, one in enumerate(entries) if number not in done]
    done |= _in_batches(
        blob, asked, lambda batch: _read(blob, [one for _, one in batch], option), patience
    )
    if option == SYMBOLS:  # of few entries, so the batches of their own are few
        held = [(n, one) for n, one in asked if _promises(one, wanted) and not done[n].why]
        done |= _in_batches(
            blob,
            held,
            lambda batch: _held_to_cubins(
                blob, [one for _, one in batch], [done[n] for n, _ in batch]
            ),
            patience,
        )
    return [done[number] for number in range(len(entries))]


def _in_batches(
    blob: Blob,
    entries: Iterable[tuple[int, Entry]],
    ask: Callable[[Sequence[tuple[int, Entry]]], Sequence[Read]],
    patience: Patience,
) -> dict[int, Read]:
    """Ask about entries, a batch at a time; of a batch that is refused, halves and single ones."""
    done: dict[int, Read] = {}
    waiting = [(batch, False) for batch in _batches(entries)][::-1]
    while waiting:
        batch, part = waiting.pop()
        why, more = "reading on would take for ever", False
        if patience.left_for((one for _, one in batch), part=part):
            try:
                done |= dict(zip((number for number, _ in batch), ask(batch), strict=True))
                continue
            except _GaveUpError as error:
                why, patience.parts = str(error), 0
            except UnreadableKernelsError as error:
                why, more = str(error), True
        alone = [(number, one, _alone(blob, one, why)) for number, one in batch]
        rest = [(number, one) for number, one, read in alone if read.why]
        if more and len(rest) > 1:
            half = len(rest) // 2
            waiting += [(rest[half:], True), (rest[:half], True)]
            rest = []
        lost = {number for number, _ in rest}
        done |= {number: read for number, _, read in alone if not read.why or number in lost}
    return done


def _batches(entries: Iterable[tuple[int, Entry]]) -> Iterator[list[tuple[int, Entry]]]:
    batch: list[tuple[int, Entry]] = []
    size = 0
    for number, one in entries:
        if batch and (size + one.unpacked > BATCH or len(batch) >= MOST_ENTRIES):
            yield batch
            batch, size = [], 0
        batch.append((number, one))
        size += one.unpacked
    if batch:
        yield batch


def _alone(blob: Blob, entry: Entry, why: str) -> Read:
    """Read an entry that cuobjdump refuses, if it is a cubin as it is: those of CUDA 12.0 are."""
    if entry.kind == "elf" and not entry.compressed:
        try:
            arch, kernels = read_cubin(blob.part(entry.offset + entry.header, entry.size))
        except (UnreadableKernelsError, OutOfFileError) as error:
            return Read(arch=entry.arch, why=str(error))
        why = _lie(entry.arch, arch)
        if not why:
            return Read(arch=entry.arch, kernels=kernels)
    return Read(arch=entry.arch, why=why)


def _lie(told: Arch, own: Arch) -> str:
    """Say how the header of a fat binary's entry contradicts that of its cubin; empty if not."""
    same = (told.major, told.minor) == (own.major, own.minor)
    if same and (told.suffix != "a" or own.suffix == "a"):
        return ""
    return f"a cubin of {own.sm} under a header that says {told.sm}"


def _read(blob: Blob, batch: Sequence[Entry], option: str) -> list[Read]:
    """Have one batch read; raise UnreadableKernelsError unless each of it is."""
    if batch[0].unpacked > LARGEST:
        raise UnreadableKernelsError(f"one piece of device code grows to {batch[0].unpacked:,} B")
    with Blob.new() as given:
        _write(blob, given, batch)
        with _answer(given, option) as text:
            return _parsed(text, batch, option)


def _promises(entry: Entry, wanted: Sequence[Arch] | None) -> bool:
    """Tell whether an entry's header says that its cubin runs on a wanted arch."""
    runs = wanted is None or any(entry.arch.runs_on(arch) for arch in wanted)
    return runs and entry.kind == "elf"


@contextlib.contextmanager
def _answer(given: Blob, option: str) -> Iterator[mmap.mmap]:
    """Ask cuobjdump; raise UnreadableKernelsError where it refuses the file."""
    with Blob.new() as answer:
        done = capture_into(
            answer.handle,
            [str(cuobjdump()), option, str(given.path)],
            environment=ENVIRONMENT,
            cwd=Path("/"),
            limits=LIMITS,
        )
        size = Blob(answer.handle).size
        if done.code in _LIMIT_SIGNALS:
            raise _GaveUpError("NVIDIA's reader came to no end with it")
        if done.code != 0 or not size:
            said = done.stderr.strip().splitlines() or [f"cuobjdump ended with {done.code}"]
            fact = re.sub(r"^cuobjdump \w+\s*: ", "", said[-1])
            raise UnreadableKernelsError(re.sub(r" in '[^']*'|File '[^']*' ", "", fact))
        with mmap.mmap(answer.handle, size, access=mmap.ACCESS_READ) as text:
            yield text


def _held_to_cubins(blob: Blob, batch: Sequence[Entry], reads: Sequence[Read]) -> list[Read]:
    """Hold the headers of cubins' entries to the cubins: a driver runs what both allow."""
    with Blob.new() as given:
        _write(blob, given, batch)
        with _answer(given, CUBINS) as text:
            names = [name.decode("ascii") for name in _LISTED.findall(text)]
    if len(names) != len(batch):
        raise UnreadableKernelsError(
            f"cuobjdump lists {len(names)} cubins, it was given {len(batch)}"
        )
    held = []
    for entry, read, name in zip(batch, reads, names, strict=True):
        try:
            why = _lie(read.arch, from_sm(name))
        except ValueError as error:
            raise UnreadableKernelsError(f"cuobjdump names an unknown arch: {error}") from None
        # of a cubin that is not compressed our own reader knows more marks
        held.append(_alone(blob, entry, why) if why else read)
    return held


def _write(blob: Blob, given: Blob, batch: Sequence[Entry]) -> None:
    """Write an ELF file whose one section holds the entries, each in a fat binary of its own."""
    sizes = [one.header + one.size for one in batch]
    padded = [fatbin.HEADER.size + size + -size % 8 for size in sizes]
    names_at = 64 + sum(padded)
    table_at = names_at + len(_NAMES) + -(names_at + len(_NAMES)) % 8
    header = (b"\x7fELF\x02\x01\x01" + bytes(9), 1, 62, 1, 0, 0, table_at, 0, 64, 0, 0, 64, 3, 2)
    given.append(struct.pack("<16sHHIQQQIHHHHHH", *header))
    for one, size in zip(batch, sizes, strict=True):
        given.append(fatbin.container(size))
        given.append_from(blob, one.offset, size)
        given.append(bytes(-size % 8))
    given.append(_NAMES + bytes(table_at - names_at - len(_NAMES)))
    section = struct.Struct("<IIQQQQIIQQ")
    given.append(section.pack(*[0] * 10))
    given.append(section.pack(1, 1, 2, 0, 64, names_at - 64, 0, 0, 8, 0))
    given.append(section.pack(12, 3, 0, 0, names_at, len(_NAMES), 0, 0, 1, 0))


def _parsed(text: mmap.mmap, batch: Sequence[Entry], option: str) -> list[Read]:
    """Split what cuobjdump printed by entries, which must be those that it was given."""
    heads = list(_HEAD.finditer(text))
    try:
        seen = [(head[1].decode(), from_sm(head[2].decode("ascii"))) for head in heads]
    except ValueError as error:
        raise UnreadableKernelsError(f"cuobjdump names an unknown arch: {error}") from None
    told = [(one.kind, one.arch.major, one.arch.minor) for one in batch]
    if [(name, arch.major, arch.minor) for name, arch in seen] != told:
        raise UnreadableKernelsError(
            f"cuobjdump lists {len(seen)} pieces of device code, it was given {len(told)}"
        )
    ends = [head.start() for head in heads[1:]] + [len(text)]
    found = []
    pattern = _KERNEL if option == SYMBOLS else _PTX_KERNEL
    for head, end, (kind, arch) in zip(heads, ends, seen, strict=True):
        part = text[head.end() : end]
        if kind == "elf" and b"\nsymbols:" not in part:
            raise UnreadableKernelsError(f"cuobjdump shows no symbols of a {arch.sm} cubin")
        names = pattern.findall(part)
        kernels = frozenset(name.decode("utf-8", "replace") for name in names)
        found.append(Read(arch=arch, kernels=kernels))
    return found
