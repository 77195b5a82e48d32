"""Draws a build as a page: when each object was compiled, and how long and large it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from blackwheel.builder.timeline import Drawn, drawn, recorded, told
from blackwheel.pages.render import render

_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
"""Seconds between two ticks of the axis."""


def page(
    title: str, lines: Sequence[str], run: Drawn, crumbs: Sequence[tuple[str, str]] = ()
) -> str:
    """Return the page of one run; `lines` are those of `timeline.told`."""
    pairs = zip(run.objects, run.lanes, strict=True)
    return render(
        "build",
        title=f"Build of {title}",
        crumbs=crumbs,
        here="Build report",
        lines=lines,
        run=run,
        ticks=_ticks(run.seconds),
        peak=max(one["peak_bytes"] for one in run.objects) or 1,
        rows=[(number, *row) for number, row in enumerate(sorted(pairs, key=_cost, reverse=True))],
    )


def recorded_page(title: str, objects: object, crumbs: Sequence[tuple[str, str]]) -> str:
    """Return the page of the last run among a receipt's objects; empty where there are none.

    Raises ValueError where they are no objects.
    """
    found = recorded(objects)
    run = drawn(found) if found else None
    if run is None:
        return ""
    earlier = len(found) - len(run.objects)
    lines = [*told(run), *([f"{earlier} more objects are of earlier runs"] if earlier else [])]
    return page(title, lines, run, crumbs)


def _cost(pair: tuple[Mapping[str, Any], int]) -> float:
    return float(pair[0]["cpu_seconds"])


def _ticks(seconds: float) -> list[tuple[float, str]]:
    """Places in percent, each with its time since the first object: `(50.0, "2:30")`."""
    step = next((step for step in _STEPS if seconds / step <= 6), _STEPS[-1])
    return [(100 * at / seconds, _clock(at)) for at in range(0, int(seconds) + 1, step)]


def _clock(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
