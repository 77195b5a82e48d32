"""Names the GPUs of an arch as people know them."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

from blackwheel.core.archs import Arch, parse


@functools.cache
def names() -> dict[str, str]:
    """Return the names by compute capability: `12.0` is that of the GeForce RTX 5090."""
    return tomllib.loads(Path(__file__).with_name("cards.toml").read_text(encoding="utf-8"))


def cards(arch: Arch) -> str:
    """Return the GPUs that run SASS of an arch."""
    return "; ".join(text for device, text in names().items() if arch.runs_on(parse(device)))
