"""Computes from the records of objects how a build used its cores, its memory and its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from blackwheel.core import records as own
from blackwheel.core.units import duration, size

SLOWEST: Final = 10
PAUSE: Final = 300.0
"""Seconds without any object after which a build was stopped and started again."""


class Compiled(BaseModel):
    """One object as the launcher records it; a receipt's `objects.each` holds the same."""

    model_config = own.OPEN

    source: own.Name
    """Its file's name."""
    object: own.Name | None = None
    archs: list[str] = []
    began: own.Seconds
    """Since 1970."""
    seconds: own.Seconds
    cpu_seconds: own.Seconds
    peak_bytes: own.Count
    cached: bool = False
    exit: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """Objects of the last uninterrupted run, each with its lane."""

    objects: tuple[Mapping[str, Any], ...]
    lanes: tuple[int, ...]
    """Of each object: the first that was free when it began."""
    began: float
    seconds: float
    cpu_seconds: float

    @property
    def width(self) -> int:
        """Largest number of objects that were compiled at once."""
        return max(self.lanes) + 1


def records(path: Path) -> list[dict[str, Any]]:
    """Read the launcher's records; half-written lines are left out."""
    return [one.model_dump() for one in own.lines(path, Compiled)]


def recorded(objects: object) -> list[dict[str, Any]]:
    """Return the records in a receipt; raise ValueError where they are none."""
    found = own.checked(objects, list[Compiled])
    return [one.model_dump() for one in found]


def drawn(found: Sequence[Mapping[str, Any]]) -> Drawn:
    """Select the last run from the records, and give each object a lane."""
    start, end = 0, 0.0
    found = sorted(found, key=lambda one: float(one["began"]))
    for number, one in enumerate(found):
        if number and one["began"] - end > PAUSE:
            start = number
        end = max(end, one["began"] + one["seconds"])
    chosen = tuple(found[start:])
    free: list[float] = []
    lanes: list[int] = []
    for one in chosen:
        lane = next((n for n, at in enumerate(free) if at <= one["began"] + 0.02), len(free))
        free[lane : lane + 1] = [one["began"] + one["seconds"]]
        lanes.append(lane)
    return Drawn(
        objects=chosen,
        lanes=tuple(lanes),
        began=chosen[0]["began"],
        seconds=max(0.001, end - chosen[0]["began"]),
        cpu_seconds=sum(one["cpu_seconds"] for one in chosen),
    )


def tail_seconds(run: Drawn) -> float:
    """Return how long the last object ran alone."""
    ends = sorted(one["began"] + one["seconds"] for one in run.objects)
    last = max(run.objects, key=lambda one: float(one["began"] + one["seconds"]))
    return float(ends[-1] - max(ends[-2], last["began"])) if len(ends) > 1 else 0.0


def limit(run: Drawn) -> str:
    """Return the limit of the build in words, from its records alone."""
    used, tail = run.cpu_seconds / run.seconds, tail_seconds(run)
    last = max(run.objects, key=lambda one: float(one["began"] + one["seconds"]))
    lanes = f"{run.width} lane{'' if run.width == 1 else 's'}"
    if tail > run.seconds / 10:
        return (
            f"one long object at the end: {last['source']} ran alone for {duration(tail)}, and no"
            " further core would have helped it"
        )
    if used > 0.85 * run.width:
        return f"the cores: {lanes} kept {used:.1f} of them busy; more of them make it faster"
    return (
        f"something beside the compilers: {lanes} used only {used:.1f} cores; other programs,"
        " another build, or waiting for memory or disk"
    )


def told(run: Drawn) -> list[str]:
    """Return the lines of the report before the slowest objects."""
    peak = max(run.objects, key=lambda one: int(one["peak_bytes"]))
    cached = sum(1 for one in run.objects if one.get("cached"))
    return [
        f"{len(run.objects)} objects, {cached} from the cache, in {duration(run.seconds)} with"
        f" {duration(run.cpu_seconds)} of CPU: {run.cpu_seconds / run.seconds:.1f} cores busy"
        f" on {run.width} lanes",
        f"largest process: {size(peak['peak_bytes'])}, {peak['source']}",
        f"limited by {limit(run)}",
    ]


def slowest(run: Drawn) -> list[Mapping[str, Any]]:
    """Return the objects that took the most CPU."""
    return sorted(run.objects, key=lambda one: -float(one["cpu_seconds"]))[:SLOWEST]


def row(one: Mapping[str, Any]) -> str:
    """Return one line: `4 min 02 s  6.9 GiB  flash_bwd_….cu`: CPU, largest process, source."""
    return f"{duration(one['cpu_seconds']):>12}  {size(one['peak_bytes']):>8}  {one['source']}"
