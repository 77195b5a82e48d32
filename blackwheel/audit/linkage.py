"""Tells which libraries each one of a wheel needs when loaded, and which were linked into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from blackwheel.audit.audit import AuditReport

REGISTER: Final = "__cudaRegisterFatBinary"
"""The CUDA runtime's function by which each library with kernels makes them known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Linkage:
    """The parts of one library of a wheel, and its bonds."""

    library: str
    needed: tuple[str, ...]
    """Sonames that the loader looks for, in order."""
    own_cuda_runtime: bool
    """It has device code, and takes no CUDA runtime from elsewhere: the static one is in it."""


def linkage(report: AuditReport) -> tuple[Linkage, ...]:
    """Return the bonds of the libraries in a report; none of a file that is no wheel."""
    kernels = {one.path for one in report.libraries if not one.host_only}
    found = []
    for path, elf in report.elves.items():
        taken = any(wanted.name == REGISTER for wanted in elf.wanted)
        shared = any(name.startswith("libcudart.so") for name in elf.needed)
        own = path in kernels and not taken and not shared
        found.append(Linkage(library=path, needed=elf.needed, own_cuda_runtime=own))
    return tuple(sorted(found, key=lambda one: one.library))
