"""Runs targets on many inputs, each target in a process of its own, and writes the table."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import judge
from target import Target

HERE = Path(__file__).parent
MEASURED = 1_000
"""Inputs of which the coverage is taken; the rest runs without, thrice as fast."""
PORTION = 2_000
"""Inputs of a process: a run that was stopped loses no more."""


@dataclass(kw_only=True, slots=True)
class Outcome:
    """Result of one target."""

    name: str
    inputs: int = 0
    seconds: float = 0.0
    covered: int = 0
    lines: int = 0
    revision: str = ""
    faults: dict[str, str] = field(default_factory=dict)
    """What each kind of fault said."""
    smallest: dict[str, str] = field(default_factory=dict)
    """Of each kind, the shortest input, in hexadecimal."""


def all_targets() -> list[Target]:
    import records_of_ours
    import texts_of_others
    import wheels_of_others

    return [*texts_of_others.TARGETS, *wheels_of_others.targets(), *records_of_ours.targets()]


def run(target: Target, count: int, first: int = 0, *, measure: bool = False) -> Outcome:
    """Judge a target with `count` inputs of the seeds from `first` on."""
    found = Outcome(name=target.name)
    began = time.process_time()

    def one(data: bytes) -> None:
        found.inputs += 1
        fault = judge.judged(target.parse, data, target.named)
        if fault and (
            fault.kind not in found.smallest or len(data) < len(found.smallest[fault.kind]) // 2
        ):
            found.faults[fault.kind], found.smallest[fault.kind] = fault.told, data.hex()

    measured = min(count, MEASURED) if measure else 0
    if measured:
        _with_coverage(target, found, lambda: _each(target, range(first, first + measured), one))
    _each(target, range(first + measured, first + count), one)
    found.seconds = time.process_time() - began
    return found


def _each(target: Target, numbers: Iterable[int], call: Callable[[bytes], None]) -> None:
    for number in numbers:
        call(target.inputs(Random(f"{target.name} {number}")))


def smallest(target: Target, kind: str) -> bytes:
    """Return the smallest input that Hypothesis finds for a kind of fault; empty for none.

    It drives the same choices, fifty times slower than a seed does: the long form leaves it out.
    """
    from hypothesis import HealthCheck, Phase, find, settings
    from hypothesis import strategies as st
    from hypothesis.errors import NoSuchExample

    def fails(data: bytes) -> bool:
        fault = judge.judged(target.parse, data, target.named)
        return fault is not None and fault.kind == kind

    try:
        return find(
            st.randoms(use_true_random=False).map(target.inputs),
            fails,
            settings=settings(
                max_examples=3_000,
                database=None,
                deadline=None,
                derandomize=True,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except NoSuchExample:
        return b""


def _with_coverage(target: Target, found: Outcome, work: Callable[[], None]) -> None:
    import coverage

    spans = list(_spans(target.covers))
    files = sorted({file for file, _, _ in spans})
    measured = coverage.Coverage(data_file=None, include=files)
    measured.start()
    try:
        work()
    finally:
        measured.stop()
    for file in files:
        _, statements, _, missing, _ = measured.analysis2(file)
        hit = set(statements) - set(missing)
        inside = {
            line for line in statements for f, a, b in spans if f == file and a <= line <= b
        } - _at_import(file)
        found.lines += len(inside)
        found.covered += len(inside & hit)


def _spans(covers: Iterable[Any]) -> Iterable[tuple[str, int, int]]:
    for one in covers:
        file = str(inspect.getsourcefile(one))
        if isinstance(one, ModuleType):
            yield file, 1, 100_000
        else:
            lines, first = inspect.getsourcelines(one)
            yield file, first, first + len(lines) - 1


def _at_import(file: str) -> set[int]:
    """Lines that no call reaches: all outside of functions, and their `def` lines."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            inside |= set(range(node.body[0].lineno, node.end_lineno or 0 + 1))
            inside |= {node.end_lineno or 0}
    return set(range(1, 100_000)) - inside if len(inside) else set()


def main(parser: argparse.ArgumentParser) -> int:
    parser.add_argument("targets", nargs="*", help="beginnings of their names; none: all")
    parser.add_argument("--count", type=int, default=20_000, help="inputs of each (20000)")
    parser.add_argument("--seed", type=int, default=0, help="the first one (0)")
    parser.add_argument("--output", type=Path, help="a folder for the result of each target")
    parser.add_argument("--resume", action="store_true", help="keep the results that are there")
    parser.add_argument("--report", type=Path, help="write the table of the results to this file")
    parser.add_argument("--shrink", action="store_true", help="find the smallest input that fails")
    parser.add_argument("--list", action="store_true", help="name the targets")
    asked = parser.parse_args()
    known = all_targets()
    wanted = [one for name in asked.targets or [""] for one in known if one.name.startswith(name)]
    chosen = list({one.name: one for one in wanted}.values())  # in the order that was asked for
    if asked.list:
        print("\n".join(one.name for one in chosen))
        return 0
    done = []
    for target in chosen:
        found = _apart(target, asked.count, asked.seed, asked.output, resume=asked.resume)
        done.append(found)
        print(row(found), flush=True)
        for kind, told in sorted(found.faults.items()):
            print(f"    FAULT {kind}: {told[:200]}", flush=True)
            if asked.shrink:
                print(f"    {smallest(target, kind)!r}", flush=True)
    if asked.report:
        asked.report.write_text(page(done), encoding="utf-8")
    return 1 if any(one.faults for one in done) else 0


HEAD = """\
# Parsers under fuzz

`nox -s fuzz -- --report benchmarks/fuzz.md` wrote this page. It edits right inputs of every
parser of something that others wrote, and looks for exceptions that are no named error, 2 s of CPU
and 200 MB ([0040](../docs/decisions/0040-fuzz-and-own-records.md)). What failed once is a test
(`tests/fuzz/failed.json`). `lines reached`: of the parser, by the first 1,000 inputs.

| parser | inputs | lines reached | s of CPU | kinds of fault |
|---|---|---|---|---|
"""


def page(done: Sequence[Outcome]) -> str:
    """Return the page of some results."""
    inputs = sum(one.inputs for one in done)
    faults = sum(len(one.faults) for one in done)
    seconds = sum(one.seconds for one in done)
    rows = "".join(f"{row(one)}\n" for one in done)
    revisions = ", ".join(sorted({one.revision for one in done}))
    total = f"| all {len(done)} | {inputs:,} | | {seconds:.0f} | {faults} |\n"
    return f"{HEAD}{rows}{total}\nRevisions: {revisions}.\n"


def _revision() -> str:
    argv = ["git", "describe", "--always", "--dirty"]
    told = subprocess.run(argv, cwd=HERE, capture_output=True, text=True, check=False)
    return told.stdout.strip()


def row(found: Outcome) -> str:
    share = f"{100 * found.covered / found.lines:.0f} %" if found.lines else "-"
    return (
        f"| {found.name} | {found.inputs:,} | {found.covered} of {found.lines} ({share}) |"
        f" {found.seconds:.0f} | {len(found.faults)} |"
    )


def _apart(
    target: Target, count: int, first: int, kept: Path | None, *, resume: bool = False
) -> Outcome:
    """Run a target in portions, each in a process of its own: its memory is nobody else's."""
    whole = Outcome(name=target.name)
    for start in range(first, first + count, PORTION):
        of_portion = min(PORTION, first + count - start)
        found = _portion(target, of_portion, start, kept, resume=resume, measure=start == first)
        add(whole, found)
    return whole


def add(whole: Outcome, found: Outcome) -> None:
    """Add a portion to the result of a target; the shortest input of a kind of fault stays."""
    whole.inputs += found.inputs
    whole.seconds += found.seconds
    whole.covered = whole.covered or found.covered
    whole.lines = whole.lines or found.lines
    whole.revision = found.revision
    for kind, told in found.faults.items():
        data = found.smallest.get(kind, "")
        if kind not in whole.faults or len(data) < len(whole.smallest.get(kind, "")):
            whole.faults[kind], whole.smallest[kind] = told, data


def _portion(
    target: Target, count: int, first: int, kept: Path | None, *, resume: bool, measure: bool
) -> Outcome:
    file = kept / f"{re.sub(r'[^a-zA-Z]+', '-', target.name)}-{first}.json" if kept else None
    if resume and file and file.exists():
        found = Outcome(**json.loads(file.read_text(encoding="utf-8")))
        if found.inputs == count and not (measure and not found.lines):
            return found
    found = _forked(target, count, first, measure=measure)
    found.revision = _revision()
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")
    return found


def _forked(target: Target, count: int, first: int, *, measure: bool) -> Outcome:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        try:
            found = run(target, count, first, measure=measure)
            with os.fdopen(writer, "w", encoding="utf-8") as sink:
                json.dump(asdict(found), sink)
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as source:
        text = source.read()
    _, status = os.waitpid(child, 0)
    if not text:
        return Outcome(name=target.name, faults={f"the process ended: {status}": "a crash"})
    return Outcome(**json.loads(text))
