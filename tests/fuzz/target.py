"""Defines a target: a parser, right inputs for it, and edits of them."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutators import Make

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One parser of what others wrote."""

    name: str
    parse: Callable[[bytes], object]
    seeds: Sequence[bytes]
    """As our own writers, or the tools that write them, make them: each must be taken."""
    inputs: Make
    covers: Sequence[Any]
    """Functions and modules whose lines count as the parser."""
    named: tuple[type[Exception], ...] = ()
    """Its own errors, which its callers turn into one of blackwheel."""


@functools.cache
def scratch() -> Path:
    """A folder of this process, in memory where that is possible."""
    shm = Path("/dev/shm")  # noqa: S108  where there is memory for it
    folder = Path(tempfile.mkdtemp(prefix="blackwheel-fuzz-", dir=shm if shm.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def folder(name: str) -> Path:
    """A folder in it."""
    place = scratch() / name
    place.mkdir(parents=True, exist_ok=True)
    return place


def written(path: Path, data: bytes) -> Path:
    """Put the input where the parser looks for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
