"""Audits a finished wheel: returns an AuditedWheel, or refuses it with every fatal finding."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blackwheel.audit.exports import Exports, exports_of
from blackwheel.audit.findings import Finding
from blackwheel.audit.kernels import Library, arch_findings, read_library
from blackwheel.audit.metadata import Expected, metadata_findings
from blackwheel.audit.symbols import Links, floor_findings, links
from blackwheel.audit.wheel import RefusedError, Unpacked, unpack
from blackwheel.builder.build import BuiltWheel
from blackwheel.core.archs import Arch, parse
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.stacks.request import Request, filled, label

__all__ = [
    "AuditReport",
    "AuditedWheel",
    "Expected",
    "Exports",
    "Finding",
    "Library",
    "Links",
    "audit",
    "expectation",
    "exports_of",
    "inspect",
    "link_against",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditReport:
    """Everything found in one wheel file, good or bad."""

    path: Path
    sha256: str
    size: int
    libraries: tuple[Library, ...] = ()
    links: tuple[Links, ...] = ()
    """What each library is bound to; empty where no environment was given to link in."""
    findings: tuple[Finding, ...] = ()

    @property
    def fatal(self) -> tuple[Finding, ...]:
        """Findings that stop the wheel."""
        return tuple(finding for finding in self.findings if finding.fatal)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditedWheel:
    """A wheel without a fatal finding; it cannot be made from any other report."""

    report: AuditReport
    built: BuiltWheel | None = None
    """None for a wheel that came from elsewhere."""

    def __post_init__(self) -> None:
        fatal = self.report.fatal
        if fatal:
            raise _refusal(self.report.path, fatal)

    @property
    def path(self) -> Path:
        """Path of the wheel file."""
        return self.report.path

    @property
    def sha256(self) -> str:
        """Digest of the wheel file."""
        return self.report.sha256

    @property
    def libraries(self) -> tuple[Library, ...]:
        """Libraries of the wheel, with the archs of their kernels."""
        return self.report.libraries

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings that are allowed."""
        return self.report.findings

    def section(self) -> dict[str, Any]:
        """Return the receipt's section about the audit."""
        return {
            "libraries": [asdict(library) for library in self.libraries],
            "links": [asdict(one) for one in self.report.links],
            "findings": [asdict(finding) for finding in self.findings],
        }


def expectation(request: Request) -> Expected:
    """Return the properties that the wheel of this request must have."""
    stack, pin = request.stack, request.pin
    return Expected(
        name=request.stack.distribution(request.project),
        version=pin.version,
        label=label(stack, pin, request.archs, request.without),
        python=request.tag,
        modules=pin.modules,
        torch=stack.torch.requirement,
        archs=tuple(parse(arch) for arch in request.archs),
        contracts=pin.contract,
        runtime=tuple(filled(line, stack, request.python) for line in pin.runtime),
        glibc=stack.glibc,
    )


def audit(
    path: Path,
    *,
    expected: Expected,
    exports: Exports | None = None,
    built: BuiltWheel | None = None,
) -> AuditedWheel:
    """Check a wheel against its stack; raise `wheel-refused` with every fatal finding.

    `exports` is the environment that it must link in; without one the ABI closure is not checked.
    """
    report = inspect(path, archs=expected.archs, exports=exports, expected=expected)
    return AuditedWheel(report=report, built=built)


def inspect(
    path: Path,
    *,
    archs: Sequence[Arch],
    exports: Exports | None = None,
    before: Exports | None = None,
    expected: Expected | None = None,
) -> AuditReport:
    """Read any wheel without judging it; `archs` are those that kernels are counted against.

    `exports` is the environment to link in, `before` the one that the wheel was built for.
    """
    bonds: tuple[Links, ...] = ()
    unresolved: tuple[Finding, ...] = ()
    try:
        with tempfile.TemporaryDirectory(prefix="blackwheel-audit-") as folder:
            wheel = unpack(path, Path(folder), modules=expected.modules if expected else None)
            libraries = tuple(
                read_library(one.file, path=one.path, sha256=one.sha256, wanted=archs)
                for one in wheel.libraries
            )
            if exports is not None:
                bonds, unresolved = links(_files(wheel), exports, before=before)
    except RefusedError as error:
        return AuditReport(
            path=path, sha256=_sha256(path), size=_size(path), findings=(error.finding,)
        )
    findings = (
        *wheel.findings,
        *metadata_findings(wheel, expected),
        *arch_findings(libraries, expected.contracts if expected else (), archs),
        *unresolved,
        *floor_findings(bonds, wheel.tags, floor=expected.glibc if expected else ""),
    )
    return AuditReport(
        path=path,
        sha256=_sha256(path),
        size=_size(path),
        libraries=libraries,
        links=bonds,
        findings=findings,
    )


def link_against(
    path: Path, exports: Exports, *, before: Exports | None = None
) -> tuple[tuple[Links, ...], tuple[Finding, ...]]:
    """Tell whether a wheel would link in another environment, without compiling anything.

    Raises `wheel-refused` for a file that is no wheel.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="blackwheel-audit-") as folder:
            wheel = unpack(path, Path(folder), modules=None)
            return links(_files(wheel), exports, before=before)
    except RefusedError as error:
        raise _refusal(path, (error.finding,)) from None


def _files(wheel: Unpacked) -> list[tuple[str, Path]]:
    return [(one.path, one.file) for one in wheel.libraries]


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


def _sha256(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
