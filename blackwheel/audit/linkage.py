"""Tells which libraries each one of a wheel needs when loaded, and which were linked into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blackwheel.audit.contents import Reading
from blackwheel.audit.findings import RefusedError
from blackwheel.audit.wheel import unpack

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


def linkage(path: Path) -> tuple[Linkage, ...]:
    """Read the libraries of a wheel; none of a file that is no wheel."""
    try:
        wheel = unpack(path, Reading(archs=()))
    except RefusedError:
        return ()
    kernels = {one.path for one in wheel.libraries if not one.host_only}
    found = []
    for native in wheel.natives:
        elf = native.elf
        if elf.kind not in ("library", "program"):
            continue
        taken = any(wanted.name == REGISTER for wanted in elf.wanted)
        shared = any(name.startswith("libcudart.so") for name in elf.needed)
        own = native.path in kernels and not taken and not shared
        found.append(Linkage(library=native.path, needed=elf.needed, own_cuda_runtime=own))
    return tuple(sorted(found, key=lambda one: one.library))
