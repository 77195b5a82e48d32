"""Reads GPU architectures such as 12.0a, and spells them for nvcc, cubins and labels. Pure.

Source of the spellings: the CUDA compiler driver's documentation, section "GPU Feature List".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from blackwheel.core.errors import BlackwheelError, Exit

KNOWN = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1")
FEATURES_FROM = (9, 0)
"""The first compute capability that has an arch-specific (`a`) target."""
FAMILY_FROM = (10, 0)
"""The first compute capability that has a family (`f`) target."""

_SPELLING = re.compile(r"^(?:(?P<major>\d{1,2})\.(?P<minor>\d))(?P<suffix>[af]?)$")


@dataclass(frozen=True, slots=True, order=True)
class Arch:
    """One compute capability with its suffix: `a` (exactly this one), `f` (its family) or none."""

    major: int
    minor: int
    suffix: str = ""

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}{self.suffix}"

    @property
    def digits(self) -> str:
        """Digits and suffix without the point: `120a`."""
        return f"{self.major}{self.minor}{self.suffix}"

    @property
    def sm(self) -> str:
        """Spelling of its SASS in cubins: `sm_120a`."""
        return f"sm_{self.digits}"

    @property
    def label(self) -> str:
        """Spelling in wheel labels, where no underscore is allowed: `sm120a`."""
        return f"sm{self.digits}"

    def runs_on(self, device: Arch) -> bool:
        """Tell whether SASS of this arch runs on a device of that compute capability."""
        if self.suffix == "a":
            return (self.major, self.minor) == (device.major, device.minor)
        return self.major == device.major and self.minor <= device.minor


def parse(text: str, *, where: str = "--arch") -> Arch:
    """Read `12.0a`; raise `unknown-arch` for anything that is not a known compute capability."""
    found = _SPELLING.match(text)
    base = f"{found['major']}.{found['minor']}" if found else ""
    if not found or base not in KNOWN:
        raise BlackwheelError(
            "unknown-arch",
            f"'{text}' is no compute capability",
            where=where,
            fix="write it as 12.0a (RTX 50 and RTX PRO Blackwell), 9.0 (H100)",
            code=Exit.USAGE,
        )
    arch = Arch(int(found["major"]), int(found["minor"]), found["suffix"])
    floor = {"a": FEATURES_FROM, "f": FAMILY_FROM}.get(arch.suffix, (0, 0))
    if (arch.major, arch.minor) < floor:
        raise BlackwheelError(
            "unknown-arch",
            f"'{text}' has no '{arch.suffix}' form: those begin at {floor[0]}.{floor[1]}",
            where=where,
            fix=f"write {base}",
            code=Exit.USAGE,
        )
    return arch


def parse_list(text: str, *, where: str = "--arch") -> tuple[Arch, ...]:
    """Read `9.0;12.0a` (also comma-separated) in ascending order without repeats."""
    words = [word.strip() for word in re.split(r"[;,]", text) if word.strip()]
    if not words:
        raise BlackwheelError(
            "unknown-arch", "no arch is named", where=where, fix="write 12.0a", code=Exit.USAGE
        )
    return tuple(sorted({parse(word, where=where) for word in words}))


def from_sm(name: str) -> Arch:
    """Read `sm_120a` or `compute_120a` as cuobjdump prints it."""
    found = re.match(r"^(?:sm|compute)_(\d+)(\d)([af]?)$", name)
    if not found:
        raise ValueError(name)
    return Arch(int(found[1]), int(found[2]), found[3])
