"""Computes how long a stack takes on other machines, from what its objects took on this one.

    python benchmarks/build_times.py             # writes the table into docs/build-times.md
    python benchmarks/build_times.py --read OBJECTS.jsonl PROJECT VERSION # lines for objects.tsv

objects.tsv holds one line for objects alike: how many there are, what each took of CPU, and its
largest process; benchmarks/README.md says how that was measured.

The order in which objects begin, and the memory that each waits for, are what the launcher of a
first build reads from its settings (blackwheel/builder/memory_pool.py, inside/memory.py): the
longest expected object first, none before it, each as soon as a core is free and the pool has room.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blackwheel.builder import memory_pool
from blackwheel.builder.inside.memory import Settings
from blackwheel.stacks import loader, projects

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).with_name("objects.tsv")
PAGE = ROOT / "docs" / "build-times.md"
MARKS = ("<!-- times -->", "<!-- end of times -->")
STACK = "stable"
AROUND = 1.04
"""Wall time over that of the objects alone, as measured: configuring, linking, packing."""
KEPT = 3
"""GB of a machine that are not free for compilers."""
MACHINES = (
    ("2 cores", 2, 24),
    ("4 cores", 4, 16),
    ("8 cores", 8, 16),
    ("**8 cores**", 8, 32),
    ("**16 cores**", 16, 32),
    ("**16 cores**", 16, 64),
    ("32 cores", 32, 128),
    ("**64 cores**", 64, 128),
    ("**64 cores**", 64, 256),
    ("**WSL2** as it comes, 8 cores: half of a PC's 32 GB", 8, 16),
    ("**WSL2**, `memory=28GB`, 8 cores", 8, 28),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Object:
    """One object: what it took, and what a first build expects of it."""

    source: str
    seconds: float
    """Measured."""
    expected_seconds: float
    wanted: int
    """Bytes that it waits for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """A computed build."""

    seconds: float
    most: int
    """Objects at once."""
    cores_idle: float
    """Part of the cores' time in which no object ran on them."""


def versions(rows: Iterable[dict[str, str]]) -> dict[str, str]:
    """Return the version whose objects were measured, by project."""
    return {row["project"]: row["version"] for row in rows}


def rows() -> list[dict[str, str]]:
    """Read the measured objects."""
    with DATA.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, dialect="excel-tab"))


def objects(project: str) -> list[Object]:
    """Return the objects of a project, as a first build without a history expects them."""
    costs = projects.load(ROOT / "patches", project).build.costs
    found: list[Object] = []
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "settings"
        settings.write_text(memory_pool.settings((), 1, {}, costs), encoding="utf-8")
        for row in rows():
            if row["project"] == project:
                told = Settings(str(settings), row["source"])
                one = Object(
                    source=row["source"],
                    seconds=float(row["CPU s"]),
                    expected_seconds=told.seconds,
                    wanted=told.wanted,
                )
                found += [one] * int(row["count"])
    return found


def ran(wanted: Sequence[Object], *, cores: int, memory: int) -> Ran:
    """Compute a build of these objects: the first in the queue begins once it fits, or alone."""
    queue = sorted(wanted, key=lambda one: -one.expected_seconds)
    running: list[tuple[float, int]] = []  # when each ends, and the bytes that it holds
    now, most, busy = 0.0, 0, sum(one.seconds for one in wanted)
    for one in queue:
        while running and (
            len(running) >= cores or sum(held for _, held in running) + one.wanted > memory
        ):
            now, _ = heapq.heappop(running)
            while running and running[0][0] <= now:
                heapq.heappop(running)
        heapq.heappush(running, (now + one.seconds, one.wanted))
        most = max(most, len(running))
    end = max((ends for ends, _ in running), default=0.0)
    idle = 1 - busy / (end * cores) if end else 0.0
    return Ran(seconds=end * AROUND, most=most, cores_idle=idle)


def limit(made: Ran, wanted: Sequence[Object], cores: int) -> str:
    """Say what keeps a build from being shorter."""
    longest = max(wanted, key=lambda one: one.seconds)
    if made.seconds < longest.seconds * AROUND * 1.05:
        return f"one object, `{longest.source}`"
    return "cores" if made.most >= cores and made.cores_idle < 0.1 else "memory"


def words(seconds: float) -> str:
    """Write a time as people say one, to two figures."""
    minutes = max(1, round(seconds / 60))
    if minutes >= 20:
        minutes = 5 * round(minutes / 5)
    hours, rest = divmod(minutes, 60)
    return " ".join([*([f"{hours} h"] if hours else []), *([f"{rest} min"] if rest else [])])


def table() -> str:
    """Return the table of the document."""
    names = loader.load(STACK, ROOT / "constraints").build
    each = {name: objects(name) for name in names}
    known = versions(rows())
    heads = [f"{name} (as {known[name]})" for name in names]
    together = [one for name in names for one in each[name]]
    lines = [
        f"| cores | memory (free for it) | {' | '.join(heads)} | all, at once | what limits |",
        "|---" * (len(names) + 4) + "|",
    ]
    for name, cores, memory in MACHINES:
        free = (memory - KEPT) << 30
        alone = [words(ran(each[one], cores=cores, memory=free).seconds) for one in names]
        both = ran(together, cores=cores, memory=free)
        lines.append(
            f"| {name} | {memory} GB ({memory - KEPT}) | {' | '.join(alone)} |"
            f" {words(both.seconds)}, {both.most} | {limit(both, together, cores)} |"
        )
    return "\n".join(lines)


def written(text: str) -> str:
    """Return the document with today's table in it."""
    before, first, rest = text.partition(MARKS[0])
    _, last, after = rest.partition(MARKS[1])
    if not first or not last:
        raise SystemExit(f"{PAGE.name} lacks {' or '.join(MARKS)}")
    return f"{before}{first}\n{table()}\n{last}{after}"


def read(path: Path, project: str, version: str) -> str:
    """Return the lines of a real build's records: `work/objects.jsonl` of its tree."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        one = json.loads(text)
        if one["exit"] == 0 and not one["cached"]:
            source = re.sub(r"\s+", " ", one["source"])
            mib = one["peak_bytes"] >> 20
            lines.append(f"{project}\t{version}\t{source}\t1\t{one['cpu_seconds']:.1f}\t{mib}")
    return "\n".join(lines)


def main() -> None:
    """Write the table, or print the lines of a build."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--read", nargs=3, metavar=("OBJECTS.jsonl", "PROJECT", "VERSION"))
    told = parser.parse_args()
    if told.read:
        sys.stdout.write(read(Path(told.read[0]), told.read[1], told.read[2]) + "\n")
    else:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
