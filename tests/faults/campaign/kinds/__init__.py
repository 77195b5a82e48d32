"""Kinds of faults: each module offers `KINDS`, a function for each kind by its name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from ..case import Case

Inject = Callable[[Case], None]


def all_kinds() -> dict[str, Inject]:
    """Return every kind by name, in the order of the modules."""
    found: dict[str, Inject] = {}
    for module in sorted(one.name for one in pkgutil.iter_modules(__path__)):
        found |= importlib.import_module(f"{__name__}.{module}").KINDS
    return found
