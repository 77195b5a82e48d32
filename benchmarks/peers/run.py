"""This project beside `pip wheel` and fromager, in one run: python benchmarks/peers/run.py.

Same patched source, hashed pins, toolkit and jobs; nothing else should run. Each part is kept in
WORK/results.json and not measured twice, so that a run may be stopped and goes on. `--toy` walks
all parts with a kernel of seconds. Prints a table, and writes it to WORK/results.md.
"""

# ruff: noqa: T201  a script for the terminal

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "toys"))

from bench import Bench
from contenders import CONTENDERS
from measure import FailedError, say

PARTS = ("fetch", "environment", "cold", "again", "change", "warm", "second")
"""In this order: each builds on what the one before left."""
NONE = "-"


def main() -> int:
    """Measure what is asked for and not known yet, then print everything."""
    options = arguments()
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    path = work / "results.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept.setdefault("jobs", options.jobs)
    kept.setdefault("toy", options.toy)
    if (kept["jobs"], kept["toy"]) != (options.jobs, options.toy):
        print(f"{work} holds another run: --work another folder", file=sys.stderr)
        return 2
    bench, failed = Bench(work=work, toy=options.toy, jobs=options.jobs), list[str]()
    for part in PARTS:
        for contender in CONTENDERS:
            name = contender.name.replace(" ", "-")
            wanted = {part, name, f"{name}:{part}"} & set(options.only) or not options.only
            done = kept.setdefault(name, {})
            if not wanted or (part in done and not options.again):
                continue
            say(f"{contender.name}: {part}")
            load = os.getloadavg()[0]
            try:
                found = getattr(contender(bench), part)()
            except FailedError as failure:
                print(failure, file=sys.stderr)
                failed.append(f"{name}:{part}")
                continue
            done[part] = found and {**found, "load": load, "at": time.strftime("%Y-%m-%d %H:%M")}
            path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    text = table(kept)
    (work / "results.md").write_text(text, encoding="utf-8")
    print(text, end="")
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    names = [c.name.replace(" ", "-") for c in CONTENDERS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="a kernel of seconds")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=[],
        help=f"of {', '.join(PARTS)}; of {', '.join(names)}; or both: {names[0]}:cold",
    )
    parser.add_argument("--again", action="store_true", help="measure what is known too")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="compilers at once")
    work = Path.home() / ".cache" / "blackwheel-peers"
    parser.add_argument("--work", type=Path, default=work, help="default: %(default)s")
    return parser.parse_args()


def table(kept: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    names = [contender.name for contender in CONTENDERS]
    seen = [kept.get(name.replace(" ", "-"), {}) for name in names]
    rows = [
        ("sources fetched, MB", [_fetched(one) for one in seen]),
        ("environment of the build, wall s", [_environment(one) for one in seen]),
        *_rows("cold", seen),
        ("wall / (CPU s / cores)", [_ratio(one.get("cold")) for one in seen]),
        ("largest process, GiB", [_memory(one.get("cold"), "largest_bytes") for one in seen]),
        ("all processes, GiB", [_memory(one.get("cold"), "together_bytes") for one in seen]),
        *_rows("warm", seen, "warm compile cache"),
        *_rows("second", seen, "another Python, warm compile cache"),
        *_rows("again", seen, "again, nothing changed"),
        *_rows("change", seen, "one kernel file changed"),
    ]
    lines = [
        f"{'toy' if kept['toy'] else 'quickstart'}, {kept['jobs']} jobs on {os.cpu_count()} cores,"
        f" Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(f"| {title} | {' | '.join(cells)} |" for title, cells in rows),
        "",
        *_notes(seen),
    ]
    return "\n".join(lines) + "\n"


def _rows(
    part: str, seen: list[dict[str, Any]], title: str = "cold"
) -> list[tuple[str, list[str]]]:
    found = [one.get(part) for one in seen]
    steps = [NONE if one is None else str(one["compiled"]) for one in found]
    return [
        (f"{title}: wall s", [NONE if one is None else f"{one['wall']:.1f}" for one in found]),
        (f"{title}: CPU s", [NONE if one is None else f"{_cpu(one):.1f}" for one in found]),
        (f"{title}: objects compiled", steps),
    ]


def _cpu(one: dict[str, Any]) -> float:
    return float(one["user"] + one["system"])


def _fetched(one: dict[str, Any]) -> str:
    found = one.get("fetch")
    if not found:
        return NONE
    sdist = f" (sdist {found['sdist'] / 1e6:.1f})" if found.get("sdist") else ""
    return f"{found['bytes'] / 1e6:.2f}{sdist}"


def _environment(one: dict[str, Any]) -> str:
    found = one.get("environment")
    inside = (one.get("cold") or {}).get("environment")
    if found:
        return f"{found['wall']:.1f}"
    return NONE if inside is None else f"{inside:.1f}, inside the build"


def _ratio(one: dict[str, Any] | None) -> str:
    return NONE if one is None else f"{one['wall'] / (_cpu(one) / (os.cpu_count() or 1)):.2f}"


def _memory(one: dict[str, Any] | None, name: str) -> str:
    return NONE if one is None else f"{one[name] / (1 << 30):.1f}"


def _notes(seen: list[dict[str, Any]]) -> list[str]:
    """Say what the table has no column for."""
    ours = seen[0]
    loads = [f["load"] for one in seen for f in one.values() if f]
    notes = [f"Load before each part: {min(loads):.1f} to {max(loads):.1f}."] if loads else []
    if ours.get("cold"):
        notes.append(f"blackwheel's cold run compiled for {ours['cold']['compiling']} s of it.")
    if ours.get("warm") and ours.get("cold"):
        filling = ours["warm"]["filling"]
        share = 100 * ours["warm"]["wall"] / filling["wall"]
        notes.append(
            f"The run that filled the cache took {filling['wall']} s; warm is {share:.0f} %."
        )
        same = {one["wheel"] for one in (ours["cold"], filling, ours["warm"])}
        notes += [
            f"warm: {ours['warm']['cache']}",
            f"Without, with an empty and with a full cache: {len(same)} sha256 of the wheel.",
        ]
    if ours.get("second"):
        notes.append(f"Python {ours['second']['python']}: {ours['second']['cache']}")
    if ours.get("again"):
        notes.append(f"Three times nothing to do: {', '.join(map(str, ours['again']['walls']))} s.")
    return notes


if __name__ == "__main__":
    sys.exit(main())
