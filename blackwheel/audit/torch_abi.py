"""Tells how closely a library is bound to torch: by its stable interface, or to one build."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from packaging.version import Version

from blackwheel.audit.elf import Elf
from blackwheel.audit.exports import PYTHON, Exports
from blackwheel.audit.findings import Finding
from blackwheel.audit.glibc import of_system, system_libraries

NONE: Final = "none"
STABLE: Final = "stable"
EXACT: Final = "exact"
UNKNOWN: Final = "unknown"
SHIM: Final = re.compile(r"(aoti_torch|torch)_[A-Za-z0-9_]+")
"""torch's stable C interface: torch/csrc/stable/c/shim.h and torch/csrc/inductor/aoti_torch/c."""
RUNTIME: Final = re.compile(r"_Z(T[TVIS])?N?[VK]*[RO]?(St|S[absiod])|_Z(n|d)[wal]|__(cxa|gxx)_")
"""The C++ runtime's own names, of which torch's libraries carry copies."""
OF_TORCH: Final = re.compile(r"lib(torch|c10|shm|caffe2)\w*\.so")
_NAMES_TORCH: Final = re.compile(r"_Z.*?(?<!\d)(3c10|2at|5torch|6caffe2)(?=[\dEIKRSN])|THP[A-Z]")
"""C++ names in which a namespace of torch stands anywhere, and C names of libtorch_python."""
_OTHERS: Final = re.compile(r"_?Py[A-Z_]|cu[A-Z]|cu(da|blas|sparse|solver|fft|rand)|nv|nccl|__cuda")
"""Of Python and of CUDA's libraries, by their names."""
_SHOWN: Final = 5
_CURE: Final = "without torch = 'abi' in its pin it serves its own torch"


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchAbi:
    """The bond of one library to torch."""

    library: str
    """Path in the wheel."""
    bond: str
    """`none`, `stable` (only the stable C interface), `exact` (this build of torch), `unknown`."""
    since: str = ""
    """The first torch that has all of the stable interface that it uses: `2.11.0`."""
    because: tuple[str, ...] = ()
    """The symbols that make it exact or unknown, or that ask for so new a torch."""

    def __str__(self) -> str:
        """Say it in two words, without a promise: `stable from 2.11.0`, `this torch only`."""
        words = {NONE: "none", EXACT: "this torch only", UNKNOWN: "unknown"}
        return words.get(self.bond) or f"stable from {self.since}"


def torch_abi(elves: Mapping[str, Elf], exports: Exports | None = None) -> tuple[TorchAbi, ...]:
    """Classify every library of a wheel by its undefined symbols.

    `elves` are the wheel's libraries by their path; `exports` an environment with the torch that it
    was built for: without one, symbols are told apart by their names. A symbol that neither
    explains makes its library unknown. The versions are those of the package torch-abi-audit.
    """
    own = {name for elf in elves.values() for name in elf.exports}
    return tuple(_of(path, elf, own, exports) for path, elf in elves.items())


def unfit_findings(bound: Sequence[TorchAbi], oldest: str, *, sure: bool) -> Iterator[Finding]:
    """Find the libraries that keep a wheel from serving `oldest` and every later torch.

    `sure` tells that an environment with its torch was looked at: without one a symbol may be
    unknown that such an environment explains. A wheel of which no library uses torch is no proof.
    """
    for one in bound:
        shown = ", ".join(one.because[:_SHOWN])
        if one.bond == EXACT:
            fact = f"takes {shown} from torch, no part of its stable interface"
        elif one.bond == UNKNOWN and sure:
            fact = f"needs {shown}, of which nobody knows since which torch it is there"
        elif one.bond == STABLE and Version(one.since) > Version(oldest):
            fact = f"needs {shown}, which torch has from {one.since} on, and {oldest} is promised"
        else:
            continue
        yield Finding(name="not-stable", fact=f"{fact}: {_CURE}", library=one.library)
    if all(one.bond == NONE for one in bound):
        fact = "no library of it uses torch: links_torch = false says that, torch = 'abi' does not"
        yield Finding(name="not-stable", fact=fact)


def of_torch(elves: Mapping[str, Elf], exports: Exports | None = None) -> dict[str, list[str]]:
    """Return the symbols that each library takes from torch, weak ones too; none of its own.

    The names are read as `torch_abi` reads them.
    """
    own = {name for elf in elves.values() for name in elf.exports}
    found = {}
    for path, elf in elves.items():
        names = (one.name for one in elf.wanted if not of_system(one))
        outside = {name for name in names if not RUNTIME.match(name) and name not in own}
        found[path] = sorted(name for name in outside if _kind(name, exports) in (STABLE, EXACT))
    return found


def _of(path: str, elf: Elf, own: set[str], exports: Exports | None) -> TorchAbi:
    from torch_abi_audit.torch_versions import (  # noqa: PLC0415  60 ms, and only an audit asks
        format_version,
        minimum_version,
    )

    exact: list[str] = []
    shims: list[str] = []
    strange: list[str] = []
    for name in _undefined(elf, own):
        kind = _kind(name, exports)
        if kind == STABLE:
            shims.append(name)
        elif kind == EXACT:
            exact.append(name)
        elif kind == UNKNOWN and not _may_be_elsewhere(elf, exports):
            strange.append(name)
    if exact:
        return TorchAbi(library=path, bond=EXACT, because=tuple(sorted(exact)))
    since, defining, newer = minimum_version(shims)
    if strange or newer:
        return TorchAbi(library=path, bond=UNKNOWN, because=tuple(sorted([*strange, *newer])))
    if since is None:
        return TorchAbi(library=path, bond=NONE)
    return TorchAbi(library=path, bond=STABLE, since=format_version(since), because=defining)


def _kind(name: str, exports: Exports | None) -> str:
    """Tell whose a symbol is: torch's, by its stable interface or not, another's, or unknown."""
    if SHIM.fullmatch(name):
        return STABLE
    if _NAMES_TORCH.match(name):
        return EXACT
    owners = set(_owners(name, exports)) if exports else set()
    if owners:
        return EXACT if all(OF_TORCH.match(owner) for owner in owners) else NONE
    return NONE if _OTHERS.match(name) else UNKNOWN


def _undefined(elf: Elf, own: set[str]) -> Iterator[str]:
    """The names that a loader must find outside of the wheel, without system and C++ runtime.

    A template of the runtime over a type of torch (`std::vector<c10::SymInt>`) is torch's.
    """
    for wanted in elf.wanted:
        name = wanted.name
        runtime = RUNTIME.match(name) and not _NAMES_TORCH.match(name)
        if not (wanted.weak or of_system(wanted) or runtime or name in own):
            yield name


def _owners(name: str, exports: Exports) -> Iterator[str]:
    for library, shelf in exports.libraries.items():
        if name in shelf.exports:
            yield library


def _may_be_elsewhere(elf: Elf, exports: Exports | None) -> bool:
    """Tell whether it needs a library that nobody looked into, which may bring the symbol."""
    known = {*system_libraries(), PYTHON, *(exports.libraries if exports else ())}
    return any(
        name not in known and not name.startswith("ld-linux") and not OF_TORCH.match(name)
        for name in elf.needed
    )
