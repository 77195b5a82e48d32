"""Reads cubins and PTX of a library, and counts its kernels by arch against the contract."""

from __future__ import annotations

import importlib.metadata
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from blackwheel.audit import fatbin
from blackwheel.audit.fatbin import UnreadableKernelsError
from blackwheel.audit.findings import Finding
from blackwheel.core.archs import Arch, from_sm
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import capture
from blackwheel.stacks.records import Contract

CUOBJDUMP: Final = "nvidia-cuda-cuobjdump"
ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
EXAMPLES: Final = 3

_HEAD: Final = re.compile(r"^Fatbin (.+) code:\n=+\narch = (\S+)$", re.MULTILINE)
_KERNEL: Final = re.compile(r"^FUNC\s+\S+\s+\S+\s+ENTRY\s+(\S+)$", re.MULTILINE)
_PTX_KERNEL: Final = re.compile(r"\.entry\s+([\w$.]+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelCounts:
    """Number of kernels of one library by the way they serve the wanted archs."""

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
        """Number of all kernels."""
        return self.native + self.family + self.ptx + self.missing


@dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """One shared library of a wheel and the device code in it."""

    path: str
    """Path in the wheel."""
    size: int
    sha256: str
    host_only: bool = False
    """No device code in it at all."""
    elf_archs: tuple[tuple[str, int], ...] = ()
    """Cubins by arch: (("sm_120a", 72),)."""
    ptx_archs: tuple[tuple[str, int], ...] = ()
    kernels_by_arch: tuple[tuple[str, int], ...] = ()
    """Kernels with SASS by arch."""
    kernels: KernelCounts = KernelCounts()
    examples: tuple[str, ...] = ()
    """Mangled names of the first kernels that are not native."""
    unreadable: str = ""
    """Why the device code could not be read; empty where it could."""

    @property
    def archs(self) -> str:
        """Archs with their counts, for messages: `72 x sm_120a, 1 x PTX sm_80`."""
        cubins = [f"{count} x {arch}" for arch, count in self.elf_archs]
        return ", ".join(cubins + [f"{count} x PTX {arch}" for arch, count in self.ptx_archs])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Code:
    """One cubin or PTX text and the names of its kernels."""

    unit: int
    kind: str
    arch: Arch
    kernels: frozenset[str]


def cuobjdump() -> Path:
    """Return the cuobjdump of the installed distribution, never one from PATH."""
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


def read_library(file: Path, *, path: str, sha256: str, wanted: Sequence[Arch]) -> Library:
    """Read one library; an unreadable part is noted in `unreadable`, never guessed."""
    size = file.stat().st_size
    try:
        code = device_code(file)
    except UnreadableKernelsError as error:
        return Library(path=path, size=size, sha256=sha256, unreadable=str(error))
    if code is None:
        return Library(path=path, size=size, sha256=sha256, host_only=True)
    counts, lacking = kernel_counts(code, wanted)
    by_arch: Counter[Arch] = Counter()
    for part in code:
        by_arch[part.arch] += len(part.kernels) if part.kind == "elf" else 0
    return Library(
        path=path,
        size=size,
        sha256=sha256,
        elf_archs=_tally(Counter(part.arch for part in code if part.kind == "elf")),
        ptx_archs=_tally(Counter(part.arch for part in code if part.kind == "ptx")),
        kernels_by_arch=_tally(by_arch),
        kernels=counts,
        examples=lacking[:EXAMPLES],
    )


def _tally(counter: Counter[Arch]) -> tuple[tuple[str, int], ...]:
    return tuple((arch.sm, counter[arch]) for arch in sorted(counter) if counter[arch])


def device_code(file: Path) -> tuple[_Code, ...] | None:
    """Return every cubin and PTX text of a library with its kernels; None for a host library.

    Raises UnreadableKernelsError unless cuobjdump and the section's own headers tell the same.
    """
    entries = fatbin.entries(file)
    if entries is None:
        return None
    texts = _dump(file, "--dump-elf-symbols", entries)
    code = []
    for entry, (arch, text) in zip(entries, texts, strict=True):
        if entry.kind == "elf" and "\nsymbols:" not in text:
            raise UnreadableKernelsError(f"cuobjdump shows no symbols of a {arch.sm} cubin")
        kernels = frozenset(_KERNEL.findall(text)) if entry.kind == "elf" else frozenset()
        code.append(_Code(unit=entry.unit, kind=entry.kind, arch=arch, kernels=kernels))
    return _with_ptx_kernels(file, entries, code)


def _with_ptx_kernels(
    file: Path, entries: Sequence[fatbin.Entry], code: list[_Code]
) -> tuple[_Code, ...]:
    """Name the kernels of PTX texts.

    A cubin of the same unit and arch was assembled from that very PTX, so its names serve; the text
    itself (twice the size of the library) is dumped only where there is none.
    """
    assembled = {(part.unit, part.arch): part.kernels for part in code if part.kind == "elf"}
    texts: list[tuple[Arch, str]] = []
    if any(part.kind == "ptx" and (part.unit, part.arch) not in assembled for part in code):
        texts = _dump(file, "--dump-ptx", entries)
    named = []
    for number, part in enumerate(code):
        kernels = part.kernels
        if part.kind == "ptx":
            known = assembled.get((part.unit, part.arch))
            kernels = frozenset(_PTX_KERNEL.findall(texts[number][1])) if known is None else known
        named.append(_Code(unit=part.unit, kind=part.kind, arch=part.arch, kernels=kernels))
    return tuple(named)


def _dump(file: Path, option: str, entries: Sequence[fatbin.Entry]) -> list[tuple[Arch, str]]:
    """What cuobjdump prints for each entry, in order."""
    done = capture(
        [str(cuobjdump()), option, str(file)], environment=ENVIRONMENT, cwd=file.parent, check=False
    )
    if done.code != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.code}"]
        fact = re.sub(r"^cuobjdump \w+\s*: ", "", said[-1]).replace(str(file), file.name)
        raise UnreadableKernelsError(fact)
    heads = list(_HEAD.finditer(done.stdout))
    try:
        seen = [(head[1], from_sm(head[2])) for head in heads]
    except ValueError as error:
        raise UnreadableKernelsError(f"cuobjdump names an unknown arch: {error}") from None
    told = [(entry.kind, entry.digits) for entry in entries]
    if [(kind, arch.major * 10 + arch.minor) for kind, arch in seen] != told:
        raise UnreadableKernelsError(
            f"cuobjdump lists {len(seen)} pieces of device code, the section holds {len(told)}"
        )
    ends = [head.start() for head in heads[1:]] + [len(done.stdout)]
    return [
        (arch, done.stdout[head.end() : end])
        for head, end, (_, arch) in zip(heads, ends, seen, strict=True)
    ]


def kernel_counts(
    code: Iterable[_Code], wanted: Sequence[Arch]
) -> tuple[KernelCounts, tuple[str, ...]]:
    """Count kernels by how they serve every wanted arch; also name those that are not native."""
    sass: dict[tuple[int, str], set[Arch]] = defaultdict(set)
    ptx: dict[tuple[int, str], set[Arch]] = defaultdict(set)
    for part in code:
        for kernel in part.kernels:
            (sass if part.kind == "elf" else ptx)[part.unit, kernel].add(part.arch)
    found = {
        kernel: _serves(sass.get(kernel, set()), ptx.get(kernel, set()), wanted)
        for kernel in sass.keys() | ptx.keys()
    }
    tally = Counter(found.values())
    counts = KernelCounts(**{name: tally[name] for name in KernelCounts.__dataclass_fields__})
    return counts, tuple(sorted({name for (_, name), how in found.items() if how != "native"}))


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


def contract_of(path: str, contracts: Sequence[Contract]) -> Contract:
    """Return the first contract line for this library; by default every kernel must be native."""
    for contract in contracts:
        if fnmatchcase(path, contract.library):
            return contract
    return Contract(library=path)


def arch_findings(
    libraries: Iterable[Library], contracts: Sequence[Contract], wanted: Sequence[Arch]
) -> tuple[Finding, ...]:
    """Return breaches of the arch contract; not fatal where the contract has a reason."""
    found = []
    for library in libraries:
        contract = contract_of(library.path, contracts)
        if library.unreadable:
            found.append(
                Finding(name="unreadable-kernels", fact=library.unreadable, library=library.path)
            )
        elif library.kernels.total != library.kernels.native:
            fact = _lack(library, wanted)
            allowed = not contract.native or _only_older(library, contract, wanted)
            fact += f"; allowed: {contract.why}" if allowed else ""
            found.append(
                Finding(name="not-native", fact=fact, library=library.path, fatal=not allowed)
            )
    return tuple(found)


def _only_older(library: Library, contract: Contract, wanted: Sequence[Arch]) -> bool:
    """Tell whether no more cubins of another arch are in it than sources that may be older.

    Which source a cubin comes from it does not say; the launcher refuses every other source.
    """
    names = {arch.sm for arch in wanted}
    strays = [count for arch, count in library.elf_archs if arch not in names]
    return 0 < sum(strays) <= len(contract.older)


def _lack(library: Library, wanted: Sequence[Arch]) -> str:
    counts = library.kernels
    parts = (
        (counts.family, "only SASS of the family"),
        (counts.ptx, "only PTX"),
        (counts.missing, "nothing that runs there"),
    )
    shown = ", ".join(
        f"{count} {'has' if count == 1 else 'have'} {text}" for count, text in parts if count
    )
    names = ", ".join(arch.sm for arch in wanted)
    lacking = f"{counts.total - counts.native} of {counts.total} kernels are not native {names}"
    return f"{lacking}: {shown}; it holds {library.archs}"
