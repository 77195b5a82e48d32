"""Draws a build as one HTML page: SVG and a few lines of script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final, Protocol

from blackwheel.core.units import duration, size

_LANE: Final = 26
_WIDTH: Final = 1000


class Run(Protocol):
    """The values that the page draws; `report.Drawn` has them."""

    @property
    def objects(self) -> tuple[Mapping[str, Any], ...]:
        """Records of the launcher."""

    @property
    def lanes(self) -> tuple[int, ...]:
        """Lane of each object."""

    @property
    def began(self) -> float:
        """Start, in seconds since the epoch."""

    @property
    def seconds(self) -> float:
        """Seconds from the first object's start to the last one's end."""

    @property
    def width(self) -> int:
        """Number of lanes."""


_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>@title@</title>
<style>
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 72rem;
  padding: 0 1rem }
h1 { font-size: 1.3rem } ul { padding-left: 1.2rem } li { overflow-wrap: anywhere }
svg { width: 100%; height: @height@px; touch-action: pan-y; cursor: grab; display: block;
  border: 1px solid #8886 }
rect { stroke: Canvas; stroke-width: 1; vector-effect: non-scaling-stroke }
rect.cached { opacity: .45 }
table { border-collapse: collapse; width: 100%; display: block; overflow-x: auto }
td, th { text-align: left; padding: .15rem .8rem .15rem 0; white-space: nowrap }
output { display: block; min-height: 3em }
button { font: inherit; padding: .3rem .8rem; margin: .5rem .3rem .5rem 0 }
</style>
<h1>@title@</h1>
<ul>@lines@</ul>
<p>Each bar is one object, each line one lane. Green is little memory, red is much
(largest process: @most@). Pale bars came from the cache.</p>
<button id="in">Zoom in</button><button id="out">Zoom out</button><button id="all">All</button>
<svg id="build" viewBox="0 0 1000 @tall@" preserveAspectRatio="none">@bars@</svg>
<p>0 s to @seconds@. Wheel or buttons zoom, dragging moves.</p>
<output id="said">Point at a bar.</output>
<h2>Slowest objects</h2>
<table><tr><th>CPU<th>wall<th>largest process<th>object</tr>@rows@</table>
<script>
const svg = document.getElementById("build"), said = document.getElementById("said");
let x = 0, w = 1000, from = null;
const show = () => svg.setAttribute("viewBox", `${x} 0 ${w} @tall@`);
const zoom = (f, at) => { const n = Math.min(1000, Math.max(2, w * f));
  x = Math.max(0, Math.min(1000 - n, x + (w - n) * at)); w = n; show() };
const place = e => (e.clientX - svg.getBoundingClientRect().left) / svg.clientWidth;
svg.addEventListener("wheel", e => { e.preventDefault(); zoom(e.deltaY < 0 ? .8 : 1.25, place(e)) },
  { passive: false });
svg.addEventListener("pointerdown", e => { from = e.clientX });
addEventListener("pointerup", () => { from = null });
svg.addEventListener("pointermove", e => {
  if (from !== null) { x -= (e.clientX - from) * w / svg.clientWidth; from = e.clientX; zoom(1, 0) }
  const told = e.target.querySelector && e.target.querySelector("title");
  if (told) said.textContent = told.textContent });
svg.addEventListener("click", e => { const told = e.target.querySelector("title");
  if (told) said.textContent = told.textContent });
document.getElementById("in").onclick = () => zoom(.5, .5);
document.getElementById("out").onclick = () => zoom(2, .5);
document.getElementById("all").onclick = () => { x = 0; w = 1000; show() };
</script>
</html>
"""


def page(title: str, lines: Sequence[str], run: Run, slowest: Sequence[Mapping[str, Any]]) -> str:
    """Return the whole page."""
    most = max(one["peak_bytes"] for one in run.objects) or 1
    bars = "".join(
        _bar(one, lane, run, most) for one, lane in zip(run.objects, run.lanes, strict=True)
    )
    rows = "".join(
        f"<tr><td>{duration(one['cpu_seconds'])}<td>{duration(one['seconds'])}"
        f"<td>{size(one['peak_bytes'])}<td>{escape(one['source'])}</tr>"
        for one in slowest
    )
    filled = {
        "title": escape(title),
        "lines": "".join(f"<li>{escape(line)}" for line in lines),
        "bars": bars,
        "rows": rows,
        "tall": str(run.width * _LANE),
        "height": str(max(90, min(700, run.width * 44))),
        "most": size(most),
        "seconds": duration(run.seconds),
    }
    text = _PAGE
    for name, value in filled.items():
        text = text.replace(f"@{name}@", value)
    return text


def _bar(one: Mapping[str, Any], lane: int, run: Run, most: int) -> str:
    left = (one["began"] - run.began) / run.seconds * _WIDTH
    wide = max(0.3, one["seconds"] / run.seconds * _WIDTH)
    hue = round(130 * (1 - one["peak_bytes"] / most))
    told = (
        f"{one['source']}: {duration(one['seconds'])}, {duration(one['cpu_seconds'])} of CPU,"
        f" {size(one['peak_bytes'])}"
        + (", from the cache" if one.get("cached") else "")
        + (f", exit code {one['exit']}" if one["exit"] else "")
    )
    kind = ' class="cached"' if one.get("cached") else ""
    return (
        f'<rect{kind} x="{left:.2f}" y="{lane * _LANE + 2}" width="{wide:.2f}" height="{_LANE - 4}"'
        f' fill="hsl({hue} 65% 45%)"><title>{escape(told)}</title></rect>'
    )
