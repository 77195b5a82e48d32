"""Checks name, version, tags and requirements of a wheel, and that it accepts one torch only."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from blackwheel.audit.core_metadata import CoreMetadata, core_metadata
from blackwheel.audit.dist_info import wheel_findings
from blackwheel.audit.findings import Finding
from blackwheel.audit.wheel import Unpacked
from blackwheel.core.archs import Arch
from blackwheel.stacks.records import Contract

_BOUND_FILE: Final = Path(__file__).with_name("torch_bound.toml")
TORCH_BOUND: Final = frozenset(tomllib.loads(_BOUND_FILE.read_text(encoding="utf-8"))["names"])
"""Distributions whose every release wants one torch: a loose requirement on one may swap torch."""
_LABEL: Final = re.compile(r"torch(\d+\.\d+(?:\.\d+)?(?:\.dev\d+)?)")
"""The torch that a label names: `cu130torch2.11.0.sm120a.1`."""
_CPYTHON: Final = re.compile(r"cp3\d+$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """Properties that a stack requires of a project's wheel."""

    name: str
    version: str
    label: str
    """The local version: `cu130torch2.11.0.sm120a.1`."""
    python: str
    """`cp312`; a wheel for `abi3` serves every newer one."""
    modules: tuple[str, ...]
    torch: str
    """`torch===2.11.0`; empty for a wheel whose libraries link none."""
    archs: tuple[Arch, ...]
    oldest_torch: str = ""
    """`2.13.0` where `torch` is `torch>=2.13.0`: the libraries use the stable interface alone."""
    contracts: tuple[Contract, ...] = ()
    runtime: tuple[str, ...] = ()
    """What the wheel requires besides torch."""
    glibc: str = ""
    """The newest glibc that the wheel may need."""
    data: tuple[str, ...] = ()
    """Binary files, neither code nor images, that it may hold: globs of paths in the wheel."""


def metadata_findings(wheel: Unpacked, expected: Expected | None) -> tuple[Finding, ...]:
    """Compare METADATA, WHEEL and the file name with each other and with the stack."""
    text = wheel.dist_info.get("METADATA")
    found = list(
        wheel_findings(
            wheel.dist_info.get("WHEEL"),
            wheel.tags,
            libraries=bool(wheel.natives),
            own=expected is not None,
        )
    )
    if text is None:
        found.append(Finding(name="bad-metadata", fact="the wheel holds no METADATA"))
    else:
        metadata = core_metadata(text)
        found += _fault_findings(metadata, own=expected is not None)
        if metadata.name:
            found += _identity_findings(wheel, metadata)
            found += _requirement_findings(wheel, metadata, expected)
    if expected is not None:
        found += _expectation_findings(wheel, expected)
    return tuple(found)


def _fault_findings(metadata: CoreMetadata, *, own: bool) -> Iterator[Finding]:
    for fault in metadata.faults:
        name = "bad-metadata" if fault.read else "loose-metadata"
        fatal = fault.read or (own and "introduced in metadata version" not in fault.fact)
        yield Finding(name=name, fact=fault.fact, library="METADATA", fatal=fatal)
    for field in metadata.retired:
        fact = f"{field} claims to stand for another distribution"
        yield Finding(name="loose-metadata", fact=fact, library="METADATA", fatal=own)


def _identity_findings(wheel: Unpacked, metadata: CoreMetadata) -> Iterator[Finding]:
    if canonicalize_name(metadata.name) != wheel.name:
        yield Finding(
            name="name-mismatch", fact=f"METADATA says {metadata.name}, the file name {wheel.name}"
        )
    if metadata.version is not None and metadata.version != wheel.version:
        fact = f"METADATA says {metadata.version}, the file name {wheel.version}"
        yield Finding(name="version-mismatch", fact=fact)
    minors = sorted({int(t.interpreter[3:]) for t in wheel.tags if _CPYTHON.match(t.interpreter)})
    wanted = metadata.requires_python
    if minors and wanted is not None and not _serves_one(wheel, wanted, minors):
        fact = f"it requires Python {wanted}, and is for 3.{minors[0]}"
        yield Finding(name="excludes-its-python", fact=fact)


def _serves_one(wheel: Unpacked, wanted: SpecifierSet, minors: Sequence[int]) -> bool:
    """Tell whether a Python that the tags name is one that METADATA allows."""
    stable = any(tag.abi == "abi3" for tag in wheel.tags)
    served = range(minors[0], 100) if stable else minors
    return any(
        wanted.contains(f"3.{minor}.{patch}", prereleases=True)
        for minor in served
        for patch in (0, 7, 99)
    )


def _requirement_findings(
    wheel: Unpacked, metadata: CoreMetadata, expected: Expected | None
) -> Iterator[Finding]:
    requires = metadata.requires
    torch = [one for one in requires if canonicalize_name(one.name) == "torch"]
    if expected is not None and not expected.torch:
        for one in torch:
            fact = f"it requires {one}, and its stack says that it links no torch"
            yield Finding(name="other-torch", fact=fact)
    elif expected is not None and expected.oldest_torch:
        if torch != [Requirement(expected.torch)]:
            shown = ", ".join(map(str, torch)) or "no torch at all"
            fact = f"it requires {shown}, the stack has {expected.torch}"
            yield Finding(name="other-torch", fact=fact)
    elif expected is not None or torch or wheel.uses_torch:
        yield from torch_findings(requires, expected.torch if expected else None)
        if expected is None:
            yield from _label_findings(wheel, torch)
    yield from companion_findings(requires, expected.runtime if expected else None)
    if expected is not None:
        yield from _other_requirements(requires, expected)


def _label_findings(wheel: Unpacked, torch: Sequence[Requirement]) -> Iterator[Finding]:
    """Find a requirement that takes another torch than the one that the wheel's label names."""
    label = _LABEL.search(wheel.version.local or "")
    version = label[1] if label else ""
    for one in torch:
        if version and one.url is None and not _takes(one, version):
            fact = f"it requires {one}, and its label names torch {version}"
            yield Finding(name="other-torch", fact=fact, fatal=False)


def _takes(requirement: Requirement, version: str) -> bool:
    """Tell whether it accepts some build of a version."""
    builds = {one.version.partition("+")[0] for one in requirement.specifier}
    return version in builds or requirement.specifier.contains(version, prereleases=True)


def _other_requirements(requires: Sequence[Requirement], expected: Expected) -> Iterator[Finding]:
    """Find requirements that the stack does not have: they would bring what it never saw.

    An extra is asked for by name; what is bound to torch is held to the stack even there.
    """
    wanted = filter(None, (*expected.runtime, expected.torch))
    known = {_normal(Requirement(one)) for one in wanted}
    for one in requires:
        extra = one.marker is not None and "extra" in str(one.marker)
        name = canonicalize_name(one.name)
        if one.url or name == "torch" or name in TORCH_BOUND or extra:
            continue
        if _normal(one) not in known:
            same = [other for other in expected.runtime if _named(other, name)]
            fact = f"it requires {one}, the stack has {', '.join(same) or 'none'}"
            yield Finding(name="other-requirement", fact=fact)


def _named(requirement: str, name: str) -> bool:
    return canonicalize_name(Requirement(requirement).name) == name


def _normal(requirement: Requirement) -> tuple[str, str, str, str]:
    return (
        canonicalize_name(requirement.name),
        ",".join(sorted(requirement.extras)),
        ",".join(sorted(map(str, requirement.specifier))),
        str(requirement.marker or ""),
    )


def torch_findings(requirements: Sequence[Requirement], wanted: str | None) -> tuple[Finding, ...]:
    """Check that the requirements accept exactly one torch: `wanted`, or any exact one."""
    found = []
    torch = [one for one in requirements if canonicalize_name(one.name) == "torch"]
    shown = ", ".join(str(one) for one in torch) or "no torch at all"
    if len(torch) != 1 or not accepts_one(torch[0]):
        fact = f"it requires {shown}, which does not accept exactly one torch"
        fact += f": {wanted} does" if wanted else ""
        found.append(Finding(name="torch-not-pinned", fact=fact))
    elif wanted is not None and torch[0] != Requirement(wanted):
        found.append(
            Finding(name="other-torch", fact=f"it requires {shown}, the stack has {wanted}")
        )
    return tuple(found)


def companion_findings(
    requirements: Sequence[Requirement], runtime: Sequence[str] | None
) -> Iterator[Finding]:
    """Find requirements that could bring another torch; `runtime` are the stack's own."""
    known = [Requirement(one) for one in runtime or ()]
    for one in requirements:
        name = canonicalize_name(one.name)
        if one.url is not None:
            fact = f"it requires {one}: an address can bring any torch along"
            yield Finding(name="url-requirement", fact=fact)
        elif name not in TORCH_BOUND:
            continue
        elif not _exact(one):
            fact = f"it requires {one}: only one exact release keeps the torch"
            yield Finding(name="may-swap-torch", fact=fact)
        elif runtime is not None and one not in known:
            same = [str(other) for other in known if canonicalize_name(other.name) == name]
            fact = f"it requires {one}, the stack has {', '.join(same) or 'none'}"
            yield Finding(name="may-swap-torch", fact=fact)


def accepts_one(torch: Requirement) -> bool:
    """Tell whether one build of torch alone satisfies it, on every machine.

    `==2.11.0` also accepts 2.11.0+cu128: only a local part or `===` closes that door.
    """
    if torch.marker is not None or torch.url is not None or len(torch.specifier) != 1:
        return False
    (only,) = torch.specifier
    local = only.operator == "==" and "+" in only.version
    return only.operator == "===" or local


def _exact(requirement: Requirement) -> bool:
    kinds = [(one.operator, one.version.endswith(".*")) for one in requirement.specifier]
    return kinds in ([("==", False)], [("===", False)])


def _expectation_findings(wheel: Unpacked, expected: Expected) -> Iterator[Finding]:
    if wheel.name != canonicalize_name(expected.name):
        yield Finding(name="other-project", fact=f"it is {wheel.name}, not {expected.name}")
    label = wheel.version.local or ""
    if wheel.version.public != expected.version or label != expected.label:
        fact = f"it is version {wheel.version}, the stack makes {expected.version}+{expected.label}"
        yield Finding(name="other-label", fact=fact)
    pythons = {tag.interpreter for tag in wheel.tags}
    abis = {tag.abi for tag in wheel.tags}
    if abis != {"abi3"} and pythons != {expected.python}:
        fact = f"it is for {', '.join(sorted(pythons))}, not {expected.python}"
        yield Finding(name="other-python", fact=fact)
