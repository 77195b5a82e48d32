"""Proves a finished wheel, or refuses it by name → AuditedWheel."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from blackwheel.audit import contract, loading, python_abi, symbols, torch_abi
from blackwheel.audit.contents import Reading
from blackwheel.audit.core_metadata import core_metadata
from blackwheel.audit.elf import Elf
from blackwheel.audit.exports import Exports, exports_of
from blackwheel.audit.findings import Finding, RefusedError, judged
from blackwheel.audit.kernels import Library
from blackwheel.audit.metadata import Expected, metadata_findings
from blackwheel.audit.symbols import Links
from blackwheel.audit.torch_abi import TorchAbi
from blackwheel.audit.wheel import Unpacked, unpack
from blackwheel.core.archs import Arch, parse
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import sha256
from blackwheel.stacks.request import Request, filled, label

if TYPE_CHECKING:
    from blackwheel.builder.build import BuiltWheel

__all__ = [
    "AuditReport",
    "AuditedWheel",
    "Expected",
    "Exports",
    "Finding",
    "Library",
    "Links",
    "TorchAbi",
    "audit",
    "expectation",
    "exports_of",
    "inspect",
    "link_with",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditReport:
    """Everything that was seen in one wheel file, good or bad."""

    path: Path
    sha256: str
    size: int
    libraries: tuple[Library, ...] = ()
    links: tuple[Links, ...] = ()
    """What each library is bound to; empty where no environment was given to link in."""
    findings: tuple[Finding, ...] = ()
    abi: tuple[TorchAbi, ...] = ()
    """How closely each library is bound to torch; in no receipt."""
    files: tuple[tuple[str, int], ...] = ()
    """How many files of each kind it holds."""
    elves: Mapping[str, Elf] = field(default_factory=dict)
    """Its libraries and programs as the loader reads them, by path; in no document."""

    @property
    def fatal(self) -> tuple[Finding, ...]:
        """The findings that stop the wheel."""
        return tuple(finding for finding in self.findings if finding.fatal)

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON value."""
        told = asdict(replace(self, elves={}))
        del told["elves"]
        return told

    def linked(self, exports: Exports) -> tuple[tuple[Links, ...], tuple[Finding, ...]]:
        """Link the libraries of the report in another environment; read no file."""
        bonds, findings = symbols.links(self.elves, exports)
        broken = [one for one in self.findings if one.name == "unreadable-library"]
        return bonds, judged((*broken, *findings), own=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditedWheel:
    """A wheel without a fatal finding: it cannot be made from any other report.

    Of one that was built here the objects are counted too: what was built is what was planned.
    """

    report: AuditReport
    built: BuiltWheel | None = None
    """None for a wheel that came from elsewhere."""
    oldest_torch: str = ""
    """What its stack says that it serves, with all later ones; empty for one torch alone."""

    def __post_init__(self) -> None:
        fatal = [one for one in self.findings if one.fatal]
        if fatal:
            raise _refusal(self.report.path, fatal)

    @property
    def path(self) -> Path:
        """The wheel file."""
        return self.report.path

    @property
    def sha256(self) -> str:
        """Digest of the wheel file."""
        return self.report.sha256

    @property
    def libraries(self) -> tuple[Library, ...]:
        """Its libraries with the archs of their kernels."""
        return self.report.libraries

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return the findings that were seen and allowed."""
        objects = contract.object_findings(self.built) if self.built else ()
        return (*self.report.findings, *objects)

    def section(self) -> dict[str, Any]:
        """Return the audit's section of the receipt."""
        return {
            "libraries": [asdict(library) for library in self.libraries],
            "links": [asdict(one) for one in self.report.links],
            "findings": [asdict(finding) for finding in self.findings],
            **(
                {"torch_abi": [asdict(one) for one in self.report.abi]} if self.oldest_torch else {}
            ),
        }


def expectation(request: Request) -> Expected:
    """Return the expectation for the wheel of this request."""
    stack, pin = request.stack, request.pin
    contracts = pin.contract
    if request.archs != stack.archs:  # for other archs an upstream builds other libraries
        contracts = tuple(
            replace(one, optional=True, kernels=min(1, one.kernels), entry_points=())
            for one in contracts
        )
    return Expected(
        name=request.stack.distribution(request.project),
        version=pin.version,
        label=label(stack, pin, request.archs, request.without),
        python=request.tag,
        modules=pin.modules,
        torch=stack.torch_requirement(pin) if pin.links_torch else "",
        oldest_torch=stack.torch.floor if pin.torch == "abi" else "",
        archs=tuple(parse(arch) for arch in request.archs),
        contracts=contracts,
        runtime=tuple(filled(line, stack, pin, request.python) for line in pin.runtime),
        glibc=stack.glibc,
        data=pin.data,
    )


def audit(
    path: Path,
    *,
    expected: Expected,
    exports: Exports | None = None,
    built: BuiltWheel | None = None,
) -> AuditedWheel:
    """Hold a wheel to its stack's expectation; raise `wheel-refused` with every fatal finding.

    `exports` is the environment that it must link in; without one the ABI closure is not checked.
    """
    report = inspect(path, archs=expected.archs, exports=exports, expected=expected)
    return AuditedWheel(report=report, built=built, oldest_torch=expected.oldest_torch)


def inspect(
    path: Path,
    *,
    archs: Sequence[Arch],
    exports: Exports | None = None,
    before: Exports | None = None,
    expected: Expected | None = None,
    strict: bool = False,
    digest: str = "",
) -> AuditReport:
    """Look at any wheel without judging it; `archs` are those that kernels are counted against.

    `exports` is the environment to link in, `before` the one that the wheel was built for. A wheel
    of no stack is refused only for what installers or the loader refuse, unless that is `strict`.
    `digest` is the sha256 of its bytes where that is known already.
    """
    digest = digest or _digest(path)
    own = expected is not None
    contracts = expected.contracts if expected else ()
    reading = Reading(archs=archs, entry_points=[n for one in contracts for n in one.entry_points])
    try:
        wheel = _read(path, reading, expected)
    except RefusedError as error:
        found = judged(error.findings, own=own or strict)
        return AuditReport(path=path, sha256=digest, size=_size(path), findings=found)
    elves = _elves(wheel)
    bonds: tuple[Links, ...] = ()
    unresolved: tuple[Finding, ...] = ()
    if exports is not None:
        bonds, unresolved = symbols.links(elves, exports, before=before)
    around = _surroundings(wheel)
    if exports is None and not own:
        provider = wheel.name.startswith(("torch", "nvidia-"))
        unresolved = tuple(symbols.unlinked(elves, requires=around.requires, provider=provider))
    findings = [
        *wheel.findings,
        *metadata_findings(wheel, expected),
        *loading.loading_findings(wheel.natives, around),
        *python_abi.python_findings(
            wheel.natives, wheel.tags, python=expected.python if expected else ""
        ),
        *contract.arch_findings(wheel.libraries, contracts, archs),
        *unresolved,
        *symbols.system_findings(elves, wheel.tags, floor=expected.glibc if expected else ""),
    ]
    bound = torch_abi.torch_abi(elves, before or exports)
    if expected is not None and not expected.torch:
        findings += symbols.torch_findings(elves, before or exports)
    if expected is not None and expected.oldest_torch:
        sure = exports is not None
        findings += torch_abi.unfit_findings(bound, expected.oldest_torch, sure=sure)
    if expected is not None:
        findings += contract.content_findings(
            wheel.libraries, wheel.natives, expected.contracts, reading.kernels
        )
    return AuditReport(
        path=path,
        sha256=digest,
        size=_size(path),
        libraries=wheel.libraries,
        links=bonds,
        abi=bound,
        findings=judged(findings, own=own or strict),
        files=wheel.files,
        elves=elves,
    )


def link_with(
    path: Path, environments: Sequence[Exports], *, before: Exports | None = None
) -> tuple[list[tuple[tuple[Links, ...], tuple[Finding, ...]]], tuple[TorchAbi, ...]]:
    """Tell for each environment whether a wheel would link there; read the wheel once.

    Also returns how closely each library is bound to torch. Raises `wheel-refused` for a file that
    is no wheel.
    """
    try:
        wheel = _read(path, Reading(archs=()), None)
    except RefusedError as error:
        raise _refusal(path, error.findings) from None
    broken = [one for one in wheel.findings if one.name == "unreadable-library"]
    elves = _elves(wheel)
    found = []
    for exports in environments:
        bonds, findings = symbols.links(elves, exports, before=before)
        found.append((bonds, judged((*broken, *findings), own=False)))
    return found, torch_abi.torch_abi(elves, before)


def _read(path: Path, reading: Reading, expected: Expected | None) -> Unpacked:
    try:
        return unpack(
            path,
            reading,
            modules=expected.modules if expected else None,
            data=expected.data if expected else (),
        )
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise BlackwheelError(
            "no-room",
            "there is no room for one library of the wheel, unpacked",
            where=tempfile.gettempdir(),
            fix="TMPDIR=/a/folder/with/room, and the same command again",
            code=Exit.MACHINE,
        ) from None


def _elves(wheel: Unpacked) -> dict[str, Elf]:
    return {one.path: one.elf for one in wheel.natives if one.elf.kind in ("library", "program")}


def _surroundings(wheel: Unpacked) -> loading.Surroundings:
    requires = core_metadata(wheel.dist_info.get("METADATA", b"")).requires
    return loading.Surroundings(
        name=wheel.name,
        version=wheel.version,
        tags=wheel.tags,
        requires=frozenset(canonicalize_name(one.name) for one in requires),
        folders=wheel.folders,
    )


def _refusal(path: Path, fatal: Iterable[Finding]) -> BlackwheelError:
    return BlackwheelError(
        "wheel-refused",
        "\n".join([f"{path.name}:", *map(str, fatal)]),
        where=str(path),
        fix="correct what is named above and build again; nothing was shelved",
        code=Exit.AUDIT,
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _digest(path: Path) -> str:
    return sha256(path) if path.is_file() else ""
