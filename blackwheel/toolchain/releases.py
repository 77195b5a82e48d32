"""Reads releases.toml: drivers and compilers by release of CUDA."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from pydantic.dataclasses import dataclass

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.stacks.faults import record_of, table_of
from blackwheel.stacks.records import STRICT

FILE: Final = Path(__file__).with_name("releases.toml")


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Release:
    """Facts about one release, 13.0 with all its updates."""

    driver: int
    """The lowest branch of NVIDIA's driver that runs it."""
    gcc: int
    """The newest major version that its nvcc takes."""
    clang: int
    runtime: str = ""
    """What goes wrong where its nvcc compiles at run time."""


@functools.cache
def releases() -> dict[str, Release]:
    """Return every release that is known, by `13.0`."""
    return record_of(dict[str, Release], table_of(FILE))


def minor(cuda: str) -> str:
    """Return the release `13.0` of a version `13.0` or `13.0.2`."""
    return ".".join(cuda.split(".")[:2])


def release(cuda: str) -> Release:
    """Return the release of `13.0` or `13.0.2`; raise `unknown-cuda-release`."""
    found = releases().get(minor(cuda))
    if found is None:
        raise BlackwheelError(
            "unknown-cuda-release",
            f"nothing is known of CUDA {cuda}: which drivers run it, which compilers it takes",
            where=f"blackwheel/toolchain/{FILE.name}",
            fix=f"write it down there; known are {', '.join(releases())}",
            code=Exit.CONFIG,
        )
    return found
