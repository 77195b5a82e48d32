"""Checks name, version, tags and requirements of a wheel, and that it accepts one torch only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from typing import Final

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.tags import parse_tag
from packaging.utils import canonicalize_name

from blackwheel.audit.findings import Finding
from blackwheel.audit.wheel import Unpacked
from blackwheel.core.archs import Arch
from blackwheel.stacks.records import Contract

TORCH_BOUND: Final = ("torchvision", "torchaudio", "torchcodec", "torchao", "xformers")
"""Distributions whose every release wants one torch: a loose requirement on one may swap torch."""


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
    """`torch===2.11.0`."""
    archs: tuple[Arch, ...]
    contracts: tuple[Contract, ...] = ()
    runtime: tuple[str, ...] = ()
    """What the wheel requires besides torch."""
    glibc: str = ""
    """The newest glibc that the wheel may need."""


def metadata_findings(wheel: Unpacked, expected: Expected | None) -> tuple[Finding, ...]:
    """Compare METADATA, WHEEL and the file name with each other and with the stack."""
    found = list(_wheel_findings(wheel))
    metadata, faults = _metadata(wheel)
    found += faults
    if metadata is not None:
        found += _identity_findings(wheel, metadata)
        requires = metadata.requires_dist or []
        found += torch_findings(requires, expected.torch if expected else None)
        found += companion_findings(requires, expected.runtime if expected else None)
    if expected is not None:
        found += _expectation_findings(wheel, expected)
    return tuple(found)


def _metadata(wheel: Unpacked) -> tuple[Metadata | None, list[Finding]]:
    text = wheel.dist_info.get("METADATA")
    if text is None:
        return None, [Finding(name="bad-metadata", fact="the wheel holds no METADATA")]
    try:
        return Metadata.from_email(text), []
    except ExceptionGroup as group:
        faults = [f"{error}" for error in group.exceptions]
        return None, [
            Finding(name="bad-metadata", fact=fault, library="METADATA") for fault in faults
        ]


def _identity_findings(wheel: Unpacked, metadata: Metadata) -> Iterator[Finding]:
    if canonicalize_name(metadata.name) != wheel.name:
        yield Finding(
            name="name-mismatch", fact=f"METADATA says {metadata.name}, the file name {wheel.name}"
        )
    if metadata.version != wheel.version:
        fact = f"METADATA says {metadata.version}, the file name {wheel.version}"
        yield Finding(name="version-mismatch", fact=fact)


def _wheel_findings(wheel: Unpacked) -> Iterator[Finding]:
    text = wheel.dist_info.get("WHEEL")
    if text is None:
        yield Finding(name="bad-wheel-file", fact="the wheel holds no WHEEL")
        return
    fields = message_from_bytes(text)
    written = str(fields.get("Wheel-Version", "none"))
    if written.split(".", maxsplit=1)[0] != "1":
        yield Finding(name="bad-wheel-file", fact=f"Wheel-Version is {written}, not 1.x")
    tags = frozenset(tag for line in fields.get_all("Tag", []) for tag in parse_tag(str(line)))
    if tags != wheel.tags:
        said, named = (", ".join(sorted(map(str, which))) or "none" for which in (tags, wheel.tags))
        yield Finding(name="tag-mismatch", fact=f"WHEEL says {said}, the file name {named}")
    if wheel.libraries and any(tag.platform == "any" for tag in wheel.tags):
        yield Finding(
            name="tag-mismatch", fact="it holds libraries but says that it fits any platform"
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
