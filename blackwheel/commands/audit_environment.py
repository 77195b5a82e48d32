"""Shows which installed distributions do not serve a card (`invoke audit ENV`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blackwheel.audit import installed, on_card, run_time
from blackwheel.commands.audit_table import counted, uncalled
from blackwheel.commands.audit_verdict import Judged, verdict
from blackwheel.core.cards import Card
from blackwheel.core.errors import Exit
from blackwheel.core.plain_text import one_line
from blackwheel.core.site import Site

SHOWN = 3
"""Libraries of a distribution that get a row each."""
ORDER = (
    *(on_card.NOT, on_card.PARTLY, on_card.UNKNOWN, on_card.PTX, on_card.PARTLY_PTX),
    *(on_card.FAMILY, on_card.NATIVELY, on_card.NONE),
)
"""States, what needs a look first."""


def show(
    site: Site, what: str, places: list[Path], card: Card, *, as_json: bool, strict: bool
) -> int:
    """Write one table of the distributions that hold kernels, and those that do not serve it.

    Exit code 0; if `strict`, `Exit.AUDIT` where a kernel is not native.
    """
    with site.console.stage("environment", f"read {what}") as stage:
        found = list(
            installed.installed(places, card, told=lambda d, t, n: stage.update(d, t, f"MiB, {n}"))
        )
    device = [one for one in found if one.libraries]
    asked = {one.name: uncalled(site, one.name, card.archs) for one in device}
    states = {one.name: on_card.state(one.libraries, asked[one.name]) for one in device}
    device.sort(key=lambda one: (ORDER.index(states[one.name]), one.name))
    judged = [
        Judged(
            name=one.name,
            version=one.version,
            state=states[one.name],
            libraries=one.libraries,
            uncalled=asked[one.name],
        )
        for one in device
    ]
    lines = _lines(device, card, asked)
    if there := run_time.compiled_there(places):
        lines.append(there)
    lines.append(verdict(site, card, judged))
    if as_json:
        site.console.json(_document(what, card, device, states, lines))
    else:
        rows = [row for one in device for row in _rows(one, states[one.name], asked[one.name])]
        title = f"{one_line(what)} on {card}"
        if rows:
            columns = ("distribution, libraries", *on_card.HEADS, "runs")
            site.console.table(title, columns, rows)
        site.console.prose("\n".join(lines) + "\n")
    native = all(one.kernels.native == one.kernels.total for d in device for one in d.libraries)
    return Exit.AUDIT if strict and not native else Exit.OK


def _rows(
    one: installed.Installed, state: str, uncalled: on_card.Uncalled
) -> Iterator[tuple[str, ...]]:
    """Yield the row of a distribution, then those of its libraries that do not serve the card.

    The libraries come with the most such kernels first, and from the fourth on as one row.
    """
    named = one_line(f"{one.name} {one.version}")
    yield (named, *counted(on_card.tally(one.libraries)), state)
    lacking = [
        library
        for library in one.libraries
        if library.unreadable or library.kernels.ptx or library.kernels.missing
    ]
    lacking.sort(key=lambda each: -(each.kernels.missing + each.kernels.ptx))
    for library in lacking[:SHOWN]:
        how = on_card.state([library], lambda _: "")
        if how == on_card.NOT and uncalled(library.path):
            how += ", not called"
        yield (f"  {library.path.rpartition('/')[2]}", *counted(library.kernels), how)
    if rest := lacking[SHOWN:]:
        yield (f"  and {len(rest):,} more like these", *counted(on_card.tally(rest)), "")


def _lines(
    device: list[installed.Installed], card: Card, asked: dict[str, on_card.Uncalled]
) -> list[str]:
    """Say what does not serve the card, each distribution in a line or two."""
    every = [library for one in device for library in one.libraries]
    lines = [on_card.first_line(every, card)]
    for one in device:
        found = on_card.lacking(one.libraries, asked[one.name])
        lines += [f"{one_line(one.name)}: {line}" for line in found]
    if any(one.kernels.ptx for one in every):
        lines.append(f"Through PTX: as the table says. {on_card.PTX_COST}")
    return lines


def _document(
    what: str,
    card: Card,
    device: list[installed.Installed],
    states: dict[str, str],
    lines: list[str],
) -> dict[str, Any]:
    return {
        "schema": "blackwheel.audit-environment/1",
        "environment": what,
        "card": str(card),
        "archs": [str(arch) for arch in card.archs],
        "distributions": [
            {
                "name": one.name,
                "version": one.version,
                "runs": states[one.name],
                "kernels": asdict(on_card.tally(one.libraries)),
                "libraries": [
                    {"path": library.path, **asdict(library.kernels), "archs": library.archs}
                    for library in one.libraries
                ],
            }
            for one in device
        ],
        "closing": "\n".join(lines),
        "verdict": lines[-1],
    }
