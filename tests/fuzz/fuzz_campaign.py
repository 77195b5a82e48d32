"""Runs targets on many inputs, each target in a process of its own, and writes the table."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import judge
from target import Target

MEASURED = 1_000
"""Inputs of which the coverage is taken; the rest runs without, thrice as fast."""


@dataclass(kw_only=True, slots=True)
class Outcome:
    """Result of one target."""

    name: str
    inputs: int = 0
    seconds: float = 0.0
    covered: int = 0
    lines: int = 0
    refused: int = 0
    """Inputs that ended in an error of blackwheel's."""
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
    parser.add_argument("--output", type=Path, help="a folder for the table and the inputs")
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
        found = _apart(target, asked.count, asked.seed)
        done.append(found)
        print(row(found), flush=True)
        for kind, told in sorted(found.faults.items()):
            print(f"    FAULT {kind}: {told[:200]}", flush=True)
            if asked.shrink:
                print(f"    {smallest(target, kind)!r}", flush=True)
        if asked.output:
            asked.output.mkdir(parents=True, exist_ok=True)
            text = json.dumps([asdict(one) for one in done], indent=1)
            (asked.output / "fuzz.json").write_text(text, encoding="utf-8")
    return 1 if any(one.faults for one in done) else 0


def row(found: Outcome) -> str:
    share = f"{100 * found.covered / found.lines:.0f} %" if found.lines else "-"
    return (
        f"| {found.name} | {found.inputs:,} | {found.covered} of {found.lines} ({share}) |"
        f" {found.seconds:.0f} | {len(found.faults)} |"
    )


def _apart(target: Target, count: int, first: int) -> Outcome:
    """Run a target in a process of its own: its memory is nobody else's."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        try:
            found = run(target, count, first, measure=True)
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
