"""Counts the archs that a file's kernels are compiled for, and how they serve the wanted ones."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from blackwheel.audit import device
from blackwheel.audit.blob import Blob, OutOfFileError
from blackwheel.audit.cubin import UnreadableKernelsError, read_cubin
from blackwheel.audit.cuobjdump import PTX, Patience, read_entries
from blackwheel.audit.device import Found
from blackwheel.audit.elf import DEVICES, UnreadableLibraryError, read_elf_of
from blackwheel.audit.fatbin import KINDS, Entry, FatBinary
from blackwheel.audit.sections import read_sections
from blackwheel.core.archs import Arch
from blackwheel.core.plain_text import one_line

EXAMPLES: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelCounts:
    """The kernels of one library by how they serve the wanted archs; each is counted once."""

    native: int = 0
    """SASS of exactly every wanted arch."""
    family: int = 0
    """SASS that runs there but was compiled for less: plain sm_120 where 12.0a is wanted."""
    ptx: int = 0
    """Only PTX runs there, compiled by the driver at first launch."""
    missing: int = 0
    """Nothing in the library runs there."""

    @property
    def total(self) -> int:
        """All kernels."""
        return self.native + self.family + self.ptx + self.missing


@dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """One file of a wheel that holds host or device code."""

    path: str
    """Path in the wheel; what lies in a packed file follows its name and a `!`."""
    size: int
    sha256: str
    host_only: bool = False
    """The whole file was read, and there is no device code in it."""
    elf_archs: tuple[tuple[str, int], ...] = ()
    """Cubins by arch: (("sm_120a", 72),)."""
    ptx_archs: tuple[tuple[str, int], ...] = ()
    kernels_by_arch: tuple[tuple[str, int], ...] = ()
    """Kernels with SASS by arch."""
    kernels: KernelCounts = KernelCounts()
    examples: tuple[str, ...] = ()
    """Mangled names of the first kernels that are not native."""
    unreadable: str = ""
    """Why a piece of the device code could not be read; empty where all could."""
    unread_archs: tuple[tuple[str, int], ...] = ()
    """Pieces that could not be read, by the arch that their headers name; empty where some have
    no header that can be read either."""
    kind: str = "library"
    """`library`, `program`, `object`, `cubin`, `archive`, or `file` for any other."""

    def __post_init__(self) -> None:
        for name in ("path", "unreadable"):
            object.__setattr__(self, name, one_line(getattr(self, name)))

    @property
    def pieces(self) -> tuple[tuple[str, int], ...]:
        """Cubins and PTX texts by arch, read or not."""
        return (*self.elf_archs, *self.ptx_archs, *self.unread_archs)

    @property
    def archs(self) -> str:
        """Return `72 x sm_120a, 1 x PTX sm_80`, as messages and tables show it."""
        cubins = [f"{count} x {arch}" for arch, count in self.elf_archs]
        return ", ".join(cubins + [f"{count} x PTX {arch}" for arch, count in self.ptx_archs])


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """One cubin or PTX text and the names of its kernels."""

    unit: int
    """Those of one number were compiled from one source file."""
    kind: str
    arch: Arch
    kernels: frozenset[str]
    linked: Mapping[str, int] = field(default_factory=dict)
    """Of kernels that are linked as well: the unit that they were linked into."""


@dataclass(kw_only=True, slots=True)
class DeviceCode:
    """All device code of one file, and the pieces of it that could not be read."""

    code: list[Code] = field(default_factory=list)
    unread: list[tuple[Arch | None, str]] = field(default_factory=list)
    """The arch that a header names, where there is one, and why it could not be read."""
    patience: Patience = field(default_factory=Patience)
    wanted: Sequence[Arch] | None = None
    """Archs that kernels are counted against; None: all."""


def read_library(file: Path, *, path: str, sha256: str, wanted: Sequence[Arch]) -> Library:
    """Read a file that lies somewhere; unreadable pieces are said in it, never guessed."""
    with Blob.of(file) as blob:
        try:
            elf = read_elf_of(blob, file.name)
        except UnreadableLibraryError:
            elf = None
        elf = None if elf is None or elf.machine in DEVICES else elf
        found = device.find(blob, elf, read_sections(blob) if elf else None)
        read = device_code(blob, found, wanted=wanted)
        return library(read, found, wanted, path=path, size=blob.size, sha256=sha256)


def library(
    read: DeviceCode,
    found: Found,
    wanted: Sequence[Arch],
    *,
    path: str,
    size: int,
    sha256: str,
    kind: str = "library",
) -> Library:
    """Count the kernels of one file."""
    code = read.code
    counts, lacking = kernel_counts(code, wanted)
    by_arch: Counter[Arch] = Counter()
    for part in code:
        by_arch[part.arch] += len(part.kernels) if part.kind == "elf" else 0
    reasons = [why for _, why in read.unread]
    more = f" (and {len(reasons) - 1:,} more pieces)" if len(reasons) > 1 else ""
    archs = [arch for arch, _ in read.unread if arch is not None]
    return Library(
        path=path,
        size=size,
        sha256=sha256,
        host_only=not found.any and not reasons,
        elf_archs=_tally(Counter(part.arch for part in code if part.kind == "elf")),
        ptx_archs=_tally(Counter(part.arch for part in code if part.kind == "ptx")),
        kernels_by_arch=_tally(by_arch),
        kernels=counts,
        examples=lacking[:EXAMPLES],
        unreadable=reasons[0] + more if reasons else "",
        unread_archs=_tally(Counter(archs)) if len(archs) == len(reasons) else (),
        kind=kind,
    )


def _tally(counter: Counter[Arch]) -> tuple[tuple[str, int], ...]:
    return tuple((arch.sm, counter[arch]) for arch in sorted(counter) if counter[arch])


def device_code(
    blob: Blob,
    found: Found,
    patience: Patience | None = None,
    *,
    wanted: Sequence[Arch] | None = None,
) -> DeviceCode:
    """Read everything that was found in a file."""
    done = DeviceCode(
        unread=[(None, fault) for fault in found.faults],
        patience=patience or Patience(),
        wanted=wanted,
    )
    _read_units(blob, found.units, done)
    if found.relocatable:
        _add_relocatable(blob, found, done)
    unit = len(found.units) + len(found.relocatable)
    for number, (offset, size) in enumerate(found.cubins, unit):
        try:
            arch, kernels = read_cubin(blob.part(offset, size))
        except (UnreadableKernelsError, OutOfFileError) as error:
            done.unread.append((None, str(error)))
            continue
        done.code.append(Code(unit=number, kind="elf", arch=arch, kernels=kernels))
    for number, one in enumerate(found.ptx, unit + len(found.cubins)):
        done.code.append(Code(unit=number, kind="ptx", arch=one.arch, kernels=one.kernels))
    return done


def _read_units(blob: Blob, units: Sequence[FatBinary], done: DeviceCode, first: int = 0) -> None:
    """Read fat binaries, the first of which gets that number."""
    numbered = [(number, one) for number, unit in enumerate(units, first) for one in unit.entries]
    known = [(number, one) for number, one in numbered if one.kind in KINDS.values()]
    others = Counter((one.kind, one.arch) for _, one in numbered if one.kind not in KINDS.values())
    for (kind, arch), count in others.items():
        done.unread += [(arch, f"device code of unknown {kind}")] * count
    names: dict[str, str] = {}
    code: list[Code] = []
    waiting: list[tuple[int, Entry, Arch]] = []
    assembled: set[tuple[int, Arch]] = set()
    each = [entry for _, entry in known]
    reads = read_entries(blob, each, patience=done.patience, wanted=done.wanted)
    for (number, entry), read in zip(known, reads, strict=True):
        if read.why:
            done.unread.append((entry.arch, read.why))
        elif entry.kind == "elf":
            kernels = frozenset(names.setdefault(name, name) for name in read.kernels)
            code.append(Code(unit=number, kind="elf", arch=read.arch, kernels=kernels))
            assembled.add((number, read.arch))
        else:
            waiting.append((number, entry, read.arch))
    done.code += code + _ptx(blob, waiting, code, done)


def _ptx(
    blob: Blob, waiting: Sequence[tuple[int, Entry, Arch]], code: Iterable[Code], done: DeviceCode
) -> list[Code]:
    """Name the kernels of PTX texts.

    A cubin of the same unit and arch was assembled from that very PTX, so its names serve; only
    where there is none the text itself, many times as long, is unpacked.
    """
    assembled = {(part.unit, part.arch): part.kernels for part in code}
    named, alone = [], []
    for number, entry, arch in waiting:
        kernels = assembled.get((number, arch))
        if kernels is None:
            alone.append((number, entry, arch))
        else:
            named.append(Code(unit=number, kind="ptx", arch=arch, kernels=kernels))
    texts = read_entries(blob, [entry for _, entry, _ in alone], PTX, patience=done.patience)
    for (number, entry, arch), read in zip(alone, texts, strict=True):
        if read.why:
            done.unread.append((entry.arch, read.why))
        else:
            named.append(Code(unit=number, kind="ptx", arch=arch, kernels=read.kernels))
    return named


def _add_relocatable(blob: Blob, found: Found, done: DeviceCode) -> None:
    """Add kernels that were compiled to be linked, unless they are there linked for those archs.

    One whose cubins were linked is counted once, with its PTX: the driver links that anew where no
    linked code runs, if every unit that was linked has PTX.
    """
    before = len(done.code)
    linked: dict[str, set[tuple[str, Arch]]] = defaultdict(set)
    places: dict[str, dict[int, set[Arch]]] = defaultdict(lambda: defaultdict(set))
    for part in done.code:
        for kernel in part.kernels:
            linked[kernel].add((part.kind, part.arch))
            if part.kind == "elf":
                places[kernel][part.unit].add(part.arch)
    _read_units(blob, found.relocatable, done, len(found.units))
    compiled: dict[tuple[int, str], set[Arch]] = defaultdict(set)
    cubins = [part for part in done.code[before:] if part.kind == "elf"]
    for part in cubins:
        for kernel in part.kernels:
            compiled[part.unit, kernel].add(part.arch)
    told = [{one.arch for one in unit.entries if one.kind == "elf"} for unit in found.units]
    anew = all(any(one.kind == "ptx" for one in unit.entries) for unit in found.relocatable)
    kept = done.code[:before]
    for part in done.code[before:]:
        own = {k for k in part.kernels if (part.kind, part.arch) not in linked[k]}
        found_in = {k: _place(places[k], told, compiled.get((part.unit, k), set())) for k in own}
        into = {kernel: unit for kernel, unit in found_in.items() if unit is not None}
        own -= set(into) if part.kind == "ptx" and not anew else set()
        if own:
            kept.append(replace(part, kernels=frozenset(own), linked=into))
    done.code = kept


def _place(
    places: Mapping[int, set[Arch]], told: Sequence[set[Arch]], compiled: set[Arch]
) -> int | None:
    """Return the one unit that a kernel of these archs was linked into; None if that is unsure.

    A cubin of `places` names it; of one that cannot be read the header is `told` alone.
    """
    found = [
        unit
        for unit, archs in places.items()
        if archs & compiled and compiled <= archs | told[unit]
    ]
    return found[0] if len(found) == 1 else None


def kernel_counts(
    code: Iterable[Code], wanted: Sequence[Arch]
) -> tuple[KernelCounts, tuple[str, ...]]:
    """Count kernels by how they serve every wanted arch; also name those that are not native."""
    bits: dict[tuple[bool, Arch], int] = {}
    held: dict[tuple[int, str], int] = defaultdict(int)
    for part in code:
        bit = bits.setdefault((part.kind == "elf", part.arch), 1 << len(bits))
        for kernel in part.kernels:
            held[part.linked.get(kernel, part.unit), kernel] |= bit
    kinds = Counter(held.values())  # thousands of kernels, in few combinations of archs
    how: dict[int, str] = {}
    for mask in kinds:
        archs = [(elf, arch) for (elf, arch), bit in bits.items() if mask & bit]
        sass, ptx = ({arch for elf, arch in archs if elf is one} for one in (True, False))
        how[mask] = _serves(sass, ptx, wanted)
    tally: Counter[str] = Counter()
    for mask, count in kinds.items():
        tally[how[mask]] += count
    counts = KernelCounts(**{name: tally[name] for name in KernelCounts.__dataclass_fields__})
    return counts, tuple(sorted({n for (_, n), mask in held.items() if how[mask] != "native"}))


def _serves(sass: set[Arch], ptx: set[Arch], wanted: Sequence[Arch]) -> str:
    """How one kernel serves the worst-served wanted arch; the names are KernelCounts' fields."""
    order = ("native", "family", "ptx", "missing")
    worst = 0
    for arch in wanted:
        if arch in sass:
            how = "native"
        elif any(built.runs_on(arch) for built in sass):
            how = "family"
        elif any(_compiles_for(built, arch) for built in ptx):
            how = "ptx"
        else:
            how = "missing"
        worst = max(worst, order.index(how))
    return order[worst]


def _compiles_for(ptx: Arch, device: Arch) -> bool:
    """Tell whether the driver can compile that PTX; a suffix binds it to its own devices."""
    if ptx.suffix:
        return ptx.runs_on(device)
    return (ptx.major, ptx.minor) <= (device.major, device.minor)
