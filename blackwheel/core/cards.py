"""Names the GPUs of an arch as people know them, and finds the arch of a GPU by its name."""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from blackwheel.core.archs import FEATURES_FROM, KNOWN, Arch, parse
from blackwheel.core.errors import BlackwheelError, Exit


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One GPU, or several, that kernels are counted for."""

    title: str
    archs: tuple[Arch, ...]

    @property
    def wanted(self) -> str:
        """Text of its archs: `12.0a`."""
        return ", ".join(map(str, self.archs))

    def __str__(self) -> str:
        return f"{self.title} ({self.wanted})" if self.title else self.wanted


@functools.cache
def _known() -> dict[str, dict[str, str]]:
    return tomllib.loads(Path(__file__).with_name("cards.toml").read_text(encoding="utf-8"))


def names() -> dict[str, str]:
    """Return the names by compute capability: `12.0` is that of the GeForce RTX 5090."""
    return _known()["names"]


def cards(arch: Arch) -> str:
    """Return the GPUs that run SASS of an arch."""
    return "; ".join(text for device, text in names().items() if arch.runs_on(parse(device)))


def best(capability: str, *, where: str) -> Arch:
    """Return the arch of code for exactly this compute capability: 12.0a for 12.0, 8.9 for 8.9."""
    arch = parse(capability, where=where)
    plain = (arch.major, arch.minor)
    return Arch(*plain, "a") if plain >= FEATURES_FROM else Arch(*plain)


def card(text: str, *, where: str = "--gpu") -> Card:
    """Find the GPU that a person names: `RTX 5090`, `H100`, or 12.0; raise `unknown-gpu`."""
    typed = " ".join(text.upper().split())
    found = [typed] if typed in KNOWN else []
    forms = _known()["patterns"].items()
    found += [one for one, form in forms if re.search(rf"\b({form})\b", typed)]
    if not found:
        raise BlackwheelError(
            "unknown-gpu",
            f"'{text}' is no GPU that is known here",
            where=where,
            fix=f"--gpu 'RTX 5090', or its compute capability, one of {', '.join(KNOWN)}",
            code=Exit.USAGE,
        )
    title = " ".join(text.split()) if typed not in KNOWN else ""
    return Card(title=title, archs=(best(found[0], where=where),))
