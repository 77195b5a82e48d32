"""Writes the table of a campaign: kind, tried, wrong, with seeds; `benchmarks/faults.md`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .case import Case

Row = dict[str, Any]
BY_HAND = "<!-- by hand from here on -->"
HEAD = """\
# The fault campaign

`nox -s faults` wrote this page. Each injection is a real command (`invoke …`, or one that a nox
session starts) that meets one fault at a random moment. After it and after a rerun one checker
(`tests/faults/campaign/invariants.py`) looks for a wheel on a shelf without a whole receipt that
verifies, a page that names a missing or another file, a held lock, a live process two seconds
later, a traceback, an exit code that `core/errors.py` does not name, time or memory over their
bounds, a leftover, and other bytes than an undisturbed run has. `tests/faults/test_invariants.py`
plants each of these defects and sees the checker find it.

One injection again: `nox -s faults -- --seed SEED --only KIND:NUMBER`; a campaign that was
stopped goes on with `--resume --results FILE`. `quickstart`: injections into what `--stack
quickstart` runs through: its sdist and series, the sync of its hashed pins (without torch's own), a
build with the registry's toolchain and torch. `different`: injections whose parameters no other of
the kind has. `wrong at first`: before the cause was mended; such an injection was run again, and
`wrong` is how it ended then.
"""


def row(case: Case, revision: str) -> Row:
    """Return an injection as one line of JSON."""
    return {
        "kind": case.kind,
        "number": case.number,
        "seed": case.seed,
        "revision": revision,
        "part": case.part,
        "notes": case.notes,
        "skipped": case.skipped,
        "wrong": case.wrong,
        "cpu": round(case.cpu, 2),
        "wall": round(case.wall, 1),
    }


def right(results: Path, seed: int) -> set[tuple[str, int]]:
    """Return kind and number of each injection that ended right, or cannot be tried here."""
    last = {}
    for line in results.read_text("utf-8").splitlines() if results.exists() else ():
        one = json.loads(line)
        if one["seed"] == seed:
            last[one["kind"], one["number"]] = not one["wrong"]
    return {key for key, ended_well in last.items() if ended_well}


def by_hand(path: Path) -> str:
    """Return what a person wrote below the table of an earlier campaign, which stays."""
    text = path.read_text("utf-8") if path.exists() else ""
    return "".join(text.partition(f"\n{BY_HAND}\n")[1:])


def page(results: Sequence[Path]) -> str:
    """Return the page of all results; the last row of an injection is the one that counts."""
    rows: dict[tuple[str, int, int], list[Row]] = {}
    for path in results:
        for line in path.read_text("utf-8").splitlines():
            one = json.loads(line)
            rows.setdefault((one["kind"], one["number"], one["seed"]), []).append(one)
    lines = [
        "| kind | put into | tried | quickstart | different | wrong at first | wrong | seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    total = [0] * 5
    for kind in sorted({kind for kind, _, _ in rows}):
        of_kind = [found for key, found in sorted(rows.items()) if key[0] == kind]
        tried = [found for found in of_kind if not found[-1]["skipped"]]
        last = [found[-1] for found in tried]
        counts = [
            len(tried),
            sum(one["part"] != "toy" for one in last),
            len({_different(one) for one in last}),
            sum(any(one["wrong"] for one in found) for found in tried),
            sum(bool(one["wrong"]) for one in last),
        ]
        total = [a + b for a, b in zip(total, counts, strict=True)]
        parts = "; ".join(sorted({one["part"] for one in last}))
        seeds = ", ".join(sorted({str(one["seed"]) for one in last}))
        lines.append(f"| {kind} | {parts} | {' | '.join(map(str, counts))} | {seeds} |")
    lines.append(f"| all | | {' | '.join(map(str, total))} | |")
    skipped = sorted(
        {f"{f[-1]['kind']}: {f[-1]['skipped']}" for f in rows.values() if f[-1]["skipped"]}
    )
    cpu = sum(one["cpu"] for found in rows.values() for one in found)
    counted = Counter(found[-1]["revision"] for found in rows.values())
    revisions = [f"{name} ({count})" for name, count in counted.most_common()]
    text = "\n".join(
        [
            HEAD,
            *lines,
            "",
            f"CPU of the commands: {cpu / 60:.0f} min. Revisions, each with the number of counted"
            f" injections that were run at it: {', '.join(revisions)}.",
        ]
    )
    return text + "".join(f"\nNot tried here: {one}." for one in skipped) + "\n"


def _different(one: Row) -> str:
    """Return what tells an injection from another: its notes without this run's own paths."""
    notes = [note for note in one["notes"] if not note.startswith("ended with")]
    return re.sub(r"/world-\d+/", "/", json.dumps([one["part"], notes]))
