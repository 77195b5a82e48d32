"""Names installed distributions that compile kernels at run time, so that no file holds them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from blackwheel.core.plain_text import one_line

_KNOWN_FILE: Final = Path(__file__).with_suffix(".toml")


def compiled_there(places: Iterable[Path]) -> str:
    """Return a sentence about those in these module folders; empty where there are none."""
    known = tomllib.loads(_KNOWN_FILE.read_text(encoding="utf-8"))
    found = [
        f"{known[name]['title']} ({one_line(f'{name} {version}')}; wants {known[name]['wants']})"
        for name, version in _distributions(places)
        if name in known
    ]
    if not found:
        return ""
    return (
        f"At run time, for the card that is there: {', '.join(found)}"
        f" {'compile' if len(found) > 1 else 'compiles'} kernels. No file holds these, so that"
        " they are not counted here is no lack."
    )


def _distributions(places: Iterable[Path]) -> list[tuple[str, str]]:
    """Return name and version of each, as its folder says."""
    parts = (
        info.name.removesuffix(".dist-info").partition("-")
        for place in places
        for info in place.glob("*.dist-info")
    )
    return sorted({(canonicalize_name(name), version) for name, _, version in parts})
