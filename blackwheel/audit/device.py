"""Finds the device code of a file wherever it lies: fat binaries, cubins, PTX, other makers'.

Nothing is asked of section headers but to be right where they name device code: what lies between
fat binaries there, and cannot be read, is unknown and never host code.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from blackwheel.audit import cubin, fatbin
from blackwheel.audit.blob import Blob, OutOfFileError
from blackwheel.audit.cubin import UnreadableKernelsError
from blackwheel.audit.elf import AMDGPU, CUDA, Elf
from blackwheel.audit.fatbin import FatBinary
from blackwheel.audit.sections import Sections
from blackwheel.core.archs import Arch

EXECUTABLE: Final = ".nv_fatbin"
RELOCATABLE: Final = "__nv_relfatbin"
"""Left by `-rdc`; its kernels are in the executable section too, linked."""
MOST: Final = 50_000
"""Pieces of device code in one file: cuFFT has 24,000."""
MOST_MARKS: Final = 200_000
"""Places of one file that look like the beginning of something."""

_ALIGNED: Final = 8
"""Addresses of fat binaries are multiples of it; one that is whole is found anywhere."""
_ELF, _WIDE, _NARROW = b"\x7fELF", b"\x02\x01\x01", b"\x01\x01\x01"
_PTX: Final = b".target"
_RUNTIME: Final = (b"terminate called after throwing an instance of", b"libc++abi: terminating")
"""What libstdc++ and libc++ say before they abort: no other library carries these texts."""
_GZIP, _XZ, _BZIP2 = b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"1AY&SY"
_PACKED: Final = (_GZIP, _XZ, _BZIP2)
_GAP: Final = rb"(?:[ \t\r\n]|//[^\n]{0,4096}\n|/\*(?:[^*]|\*(?!/)){0,4096}\*/)"
"""Blanks and comments, as ptxas takes them between two words."""
_TARGET: Final = re.compile(
    rb"\.target%b+(?:(?:texmode_\w+|debug|map_f64_to_f32)%b*,%b*){0,8}sm_(\d{2,3})([af]?)\b"
    % (_GAP, _GAP, _GAP)
)
_VERSION: Final = re.compile(rb"\.version" + _GAP + rb"+\d+\.\d+")
_KERNEL: Final = re.compile(rb"\.entry" + _GAP + rb"+([\w$.]{1,4096})")
_END: Final = re.compile(rb"\.version[ \t\r\n]+\d+\.\d+|\0")
_NEAR, _WORDS, _STEP, _OVERLAP, _LONGEST = 4096, 8192, 1 << 16, 8400, 1 << 28


@dataclass(frozen=True, kw_only=True, slots=True)
class Ptx:
    """A PTX text that lies in a file as it is."""

    offset: int
    arch: Arch
    kernels: frozenset[str]


@dataclass(kw_only=True, slots=True)
class Found:
    """Everything that looks like device code in one file."""

    units: list[FatBinary] = field(default_factory=list)
    relocatable: list[FatBinary] = field(default_factory=list)
    cubins: list[tuple[int, int]] = field(default_factory=list)
    """Offset and size."""
    ptx: list[Ptx] = field(default_factory=list)
    packed: list[int] = field(default_factory=list)
    """Where something compressed may begin."""
    libraries: int = 0
    """ELF files for the host inside of the file."""
    other: bool = False
    """Code for another maker's GPU."""
    runtime: bool = False
    """A C++ runtime of its own."""
    marks: int = 0
    """Places that were looked at."""
    faults: list[str] = field(default_factory=list)
    """What is there and cannot be read."""

    @property
    def pieces(self) -> int:
        """Return the number of cubins and PTX texts."""
        units = sum(len(one.entries) for one in (*self.units, *self.relocatable))
        return units + len(self.cubins) + len(self.ptx)

    @property
    def any(self) -> bool:
        """Tell whether there is device code, readable or not."""
        return bool(self.units or self.relocatable or self.cubins or self.ptx or self.faults)


def find(blob: Blob, elf: Elf | None = None, sections: Sections | None = None) -> Found:
    """Look through a whole file; `elf` is its reading where it is one for the host."""
    found = Found()
    registered = _fat_binaries(blob, found, elf)
    covered = _merged((one.offset, one.end) for one in found.units)
    named = {one.name: one for one in sections.each} if sections else {}
    for name in (EXECUTABLE, RELOCATABLE):
        if name in named:
            one = named[name]
            _hold_section(blob, found, one.offset, one.offset + one.size, covered)
    if elf is not None and registered > len(found.units) and not found.faults:
        fact = f"it registers {registered} fat binaries, {len(found.units)} can be seen"
        found.faults.append(fact)
    if RELOCATABLE in named and any(one.name == EXECUTABLE and one.size for one in named.values()):
        begin = named[RELOCATABLE].offset
        inside = range(begin, begin + named[RELOCATABLE].size)
        found.relocatable = [one for one in found.units if one.offset in inside]
        found.units = [one for one in found.units if one.offset not in inside]
    for begin, end in _gaps(covered, blob.size):
        _elsewhere(blob, found, elf, begin, end)
    return found


def _fat_binaries(blob: Blob, found: Found, elf: Elf | None) -> int:
    """Find fat binaries by their mark; return how many the library registers with CUDA."""
    wrappers, entries, after = 0, 0, 0
    for offset, needle in blob.finds((fatbin.MAGIC, fatbin.WRAPPER)):
        if needle == fatbin.WRAPPER:
            told = blob.at(offset + 4, 4) if offset + 8 <= blob.size else b""
            wrappers += told in (b"\1\0\0\0", b"\2\0\0\0")
            continue
        one = fatbin.fat_binary(blob, offset)
        if isinstance(one, str):
            # Code that compares with the mark holds it too, and tables do at odd places.
            if elf is None or not (elf.runs(offset) or offset % _ALIGNED):
                found.faults.append(one)
        elif offset < after:
            found.faults.append(f"a fat binary inside of another at offset {offset:#x}")
        else:
            found.units.append(one)
            after = one.end
        entries += len(one.entries) if isinstance(one, FatBinary) else 1
        if len(found.units) + len(found.faults) > MOST or entries > MOST_MARKS:
            found.faults.append(f"more than {MOST:,} pieces of device code")
            break
    return wrappers


def _hold_section(
    blob: Blob, found: Found, begin: int, end: int, covered: Sequence[tuple[int, int]]
) -> None:
    """What lies in a section for device code must be device code, or padding."""
    end = min(end, blob.size)
    if begin >= end:
        return
    inside = [(max(begin, a), min(end, b)) for a, b in covered if a < end and b > begin]
    if not inside and blob.zeros(begin, end):
        found.faults.append("the section for device code holds none")
        return
    for gap, after in _gaps([(a - begin, b - begin) for a, b in inside], end - begin):
        if not blob.zeros(begin + gap, begin + after):
            found.faults.append(f"no fat binary header at offset {begin + gap:#x}")
            return


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _gaps(covered: Sequence[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    place = 0
    for begin, end in covered:
        if begin > place:
            yield place, begin
        place = max(place, end)
    if place < size:
        yield place, size


def _elsewhere(blob: Blob, found: Found, elf: Elf | None, begin: int, end: int) -> None:
    """Look for cubins, PTX and what is packed outside of fat binaries."""
    after = searched = begin
    for offset, needle in blob.finds((_ELF, _PTX, *_RUNTIME, *_PACKED), begin, end):
        found.marks += 1
        if found.marks > MOST_MARKS or len(found.cubins) + len(found.ptx) > MOST:
            found.faults.append(f"more than {MOST_MARKS:,} places that look like code")
            return
        if needle in _RUNTIME:
            found.runtime = True
        elif needle in _PACKED:
            place = offset - 4 * (needle == _BZIP2)
            found.packed += [place] if place >= 0 else []
        elif offset < after:
            continue
        elif needle == _PTX:
            target = _TARGET.match(_words(blob, offset, end))
            if target and _has_version(blob, begin, searched, offset):
                after = _ptx(blob, found, offset, target, end)
            searched = offset if target else searched
        elif offset or elf is None:
            after = _embedded(blob, found, offset)


def _has_version(blob: Blob, begin: int, searched: int, offset: int) -> bool:
    """Tell whether a `.version` stands before a `.target`: near, or further back in one text.

    What was `searched` for an earlier one holds none, or is of another text.
    """
    near = max(begin, offset - _NEAR)
    if _VERSION.search(blob.at(near, offset - near)):
        return True
    while near > searched:
        low = max(searched, near - _STEP)
        piece = blob.at(low, min(near + _WORDS, offset) - low)
        text = piece.rpartition(b"\0")
        if _VERSION.search(text[2]):
            return True
        if text[1]:
            return False
        near = low
    return False


def _embedded(blob: Blob, found: Found, offset: int) -> int:
    """Note an ELF file that begins here, where its header is a whole one; return its end."""
    try:
        width = blob.at(offset + 4, 3)
        kind, machine, version = struct.unpack("<HHI", blob.at(offset + 16, 8))
        (header,) = struct.unpack("<H", blob.at(offset + 52, 2))
    except OutOfFileError:
        return offset + 1
    if width != _WIDE:
        if width == _NARROW and machine == CUDA:
            found.faults.append(f"a cubin of 32 bits at offset {offset:#x}: nobody here reads it")
        return offset + 1
    if machine == CUDA:  # CUDA 12.9 writes its own release where others write 1
        try:
            size = cubin.cubin_size(blob.part(offset, blob.size - offset))
        except (UnreadableKernelsError, OutOfFileError, struct.error) as error:
            found.faults.append(f"a cubin at offset {offset:#x}: {error}")
            return offset + 1
        found.cubins.append((offset, size))
        return offset + size
    if version == 1 and header == 64 and kind <= 4:  # else a constant that a linker carries
        found.other = found.other or machine == AMDGPU
        found.libraries += machine != AMDGPU
    return offset + 1


def _words(blob: Blob, offset: int, end: int) -> bytes:
    return blob.at(offset, min(_WORDS, end - offset))


def _ptx(blob: Blob, found: Found, offset: int, target: re.Match[bytes], end: int) -> int:
    """Note a PTX text whose `.target` stands here; return where the search goes on."""
    digits = int(target[1])
    arch = Arch(digits // 10, digits % 10, target[2].decode("ascii"))
    kernels: set[str] = set()
    last, place, entries = b"", offset + target.end(), False
    while place < min(end, offset + _LONGEST):
        piece = blob.at(place, min(_STEP, end - place))
        text = last + piece
        stop = _END.search(text)
        text = text[: stop.start()] if stop else text
        entries = entries or b".entry" in text
        kernels.update(name.decode("ascii", "replace") for name in _KERNEL.findall(text))
        place += len(piece) if not stop else stop.start() - len(last)
        if stop:
            break
        last = text[-_OVERLAP:]
    if entries and not kernels:
        found.faults.append(f"PTX at offset {offset:#x} whose kernels cannot be named")
    found.ptx.append(Ptx(offset=offset, arch=arch, kernels=frozenset(kernels)))
    return max(offset + 1, place)
