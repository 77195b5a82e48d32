"""Reads the torch that a wheel says it was built for."""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from blackwheel.core.zips import UNREADABLE, held

GUARD: Final = "_built_for.py"
"""What the last patch of a series makes setup.py write beside the package's own modules."""

_MOST_BYTES: Final = 64 << 10


def built_for(wheel: Path) -> dict[str, Any] | None:
    """Return the torch that setup.py recorded in the wheel; None without that file.

    Nothing is executed. Raises ValueError where the file is not as the last patch writes it.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/{GUARD}")]
            if not names:
                return None
            text = held(archive, names[0], most=_MOST_BYTES).decode("utf-8")
    except UNREADABLE as error:
        raise ValueError(f"{GUARD} cannot be read: {error}") from None
    name, assigned, literal = text.partition(" = ")
    try:
        values = ast.literal_eval(literal) if (name, assigned) == ("TORCH", " = ") else None
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        values = None
    if len(names) > 1 or not isinstance(values, dict) or text != f"TORCH = {values!r}\n":
        raise ValueError(f"{', '.join(names)}: not as setup.py writes it")
    return values


def expected_guard(torch: Mapping[str, Any], version: str, oldest: str = "") -> dict[str, Any]:
    """Return the expected result of `built_for`: the receipt's torch, the wheel's version.

    A wheel that serves `oldest` and later torches must say so itself: a guard that does not write
    `from` compares with one torch, whatever METADATA accepts.
    """
    exact = "==" if "+" in torch["version"] else "==="
    required = f"torch>={oldest}" if oldest else f"torch{exact}{torch['version']}"
    return {
        "wheel": version,
        "requirement": required,
        **({"from": oldest} if oldest else {}),
        "version": torch["runtime"],
        "git_version": torch["git_version"],
        "cuda": torch["cuda"],
    }


def guard_differences(
    told: Mapping[str, Any], expected: Mapping[str, Any]
) -> tuple[tuple[str, Any, Any], ...]:
    """Return name, found and expected value of every difference in a guard file."""
    names = sorted({*told, *expected})
    pairs = ((name, told.get(name), expected.get(name)) for name in names)
    return tuple(pair for pair in pairs if pair[1] != pair[2])
