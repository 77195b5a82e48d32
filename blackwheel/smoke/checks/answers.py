"""Reads the answer of a check's process: JSON of the expected shape, within a bound, or none.

Standard library only: on a machine with a GPU and torch none of our requirements is installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from blackwheel.core import files

MOST_BYTES: Final = 16 << 20
_FACTS: Final = ("torch", "device", "capability", "driver")


def written(path: Path) -> dict[str, Any] | None:
    """Return the JSON object that a process wrote; None where it wrote none."""
    try:
        found = json.loads(files.bounded(path, MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def are_facts(found: Mapping[str, Any]) -> bool:
    """Tell whether an answer has the facts of torch and device."""
    return all(isinstance(found.get(name), str) for name in _FACTS)


def is_outcome(found: Mapping[str, Any]) -> bool:
    """Tell whether an answer has the outcome of one check and of each of its cases."""
    texts = all(isinstance(found.get(name), str) for name in ("name", "fact"))
    cases = found.get("cases")
    return (
        texts
        and _is_number(found.get("seconds"))
        and isinstance(cases, list)
        and all(isinstance(case, dict) and _is_case(case) for case in cases)
    )


def _is_case(case: Mapping[str, Any]) -> bool:
    if not isinstance(case.get("case"), str):
        return False
    if "error" in case:
        return _is_number(case["error"]) and _is_number(case.get("bound"))
    return isinstance(case.get("note", case.get("refused")), str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
