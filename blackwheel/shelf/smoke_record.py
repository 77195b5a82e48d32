"""Reads the store's own record of a smoke: whether kernels of these very bytes ran here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from blackwheel.shelf.simple_api import ShelvedWheel
from blackwheel.shelf.wheel_facts import NOT_RUN

_LARGEST: Final = 1 << 24


def archs_that_ran(store: Path, wheel: ShelvedWheel) -> frozenset[str]:
    """Return the archs on which the kernels of a wheel's bytes ran here, all of them right.

    Smoke writes the record into the store; who may write the shelf alone cannot add one.
    """
    path = store / "smoke" / f"{wheel.path.name}.json"
    try:
        if path.stat().st_size > _LARGEST:
            return frozenset()
        told = json.loads(path.read_bytes())
        if told["sha256"] != wheel.sha256:
            return frozenset()
        kernels = dict(told["kernels"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return frozenset()
    return frozenset(
        str(arch)
        for arch, words in kernels.items()
        if isinstance(words, str) and words and not words.startswith(NOT_RUN)
    )
