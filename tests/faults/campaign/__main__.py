"""Runs the campaign: `python -m campaign [--short] [--minutes N] [--kinds a,b] [--only kind:7]`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import uuid
from pathlib import Path

import checkout

from . import report
from .case import Case, Lab
from .commands import MARK, Shell
from .kinds import Inject, all_kinds
from .mounts import SkippedError
from .worlds import World

EACH, SHORT = 52, 1
"""Injections of each kind, in the long form and in the short one."""
LONG = ("compilers", "build-signals", "build-store-files")
"""Kinds that need gigabytes of the registry: not in the short form, unless asked for."""


def options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s faults --", allow_abbrev=False)
    parser.add_argument("--short", action="store_true", help="a few of each kind, for CI")
    parser.add_argument("--minutes", type=float, default=0, help="stop in time (default: no limit)")
    parser.add_argument("--kinds", default="", help="only these: streams,shelf-files")
    parser.add_argument("--each", type=int, default=0, help=f"injections of each (default: {EACH})")
    parser.add_argument(
        "--from", type=int, default=0, dest="first", help="the first number of each"
    )
    parser.add_argument("--seed", type=int, default=16, help="of all dice (default: 16)")
    parser.add_argument("--only", default="", help="some injections again: clock:7,streams:3")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes, each with a world of its own"
    )
    parser.add_argument(
        "--base", type=Path, help="where worlds are made (default: below the cache)"
    )
    parser.add_argument("--shared", type=Path, help="toolchains and environments that are there")
    parser.add_argument(
        "--results", type=Path, help="append one JSON line an injection to this file"
    )
    parser.add_argument(
        "--resume", action="store_true", help="leave out those that --results calls right"
    )
    parser.add_argument("--report", type=Path, help="write the table of --results to this file")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Run the injections that were asked for; return 1 where one was wrong."""
    asked = options(words)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # mounts go, too
    # A shell starts jobs in the background with these two ignored, and a command inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "blackwheel-faults"
    base = (asked.base or cache).absolute()
    base.mkdir(parents=True, exist_ok=True)
    asked.results = asked.results or base / f"results-{os.getpid()}.jsonl"
    kinds = all_kinds()
    chosen = [name for name in kinds if name in asked.kinds.split(",")]
    chosen = chosen or [name for name in kinds if not asked.short or name not in LONG]
    each = asked.each or (SHORT if asked.short else EACH)
    plan = [(name, number) for number in range(asked.first, each) for name in chosen]
    if asked.only:
        pairs = [word.partition(":") for word in asked.only.split(",")]
        plan = [(name, int(number)) for name, _, number in pairs]
    if asked.resume:
        right = report.right(asked.results, asked.seed)
        plan = [one for one in plan if one not in right]
    if asked.workers > 1 and not asked.only:
        code = several(asked, base, chosen, each)
    else:
        shared = (asked.shared or base / "shared").absolute()
        code = alone(asked, World(base / f"world-{os.getpid()}", shared), plan)
    if asked.report:
        text = report.page([asked.results]) + report.by_hand(asked.report)
        asked.report.write_text(text, encoding="utf-8")
    return code


def several(asked: argparse.Namespace, base: Path, chosen: list[str], each: int) -> int:
    """Share the kinds out to processes; those that build stay together."""
    builds = [name for name in chosen if name in LONG]
    others = [name for name in chosen if name not in LONG]
    count = asked.workers - bool(builds)
    groups = [others[number::count] for number in range(count)] + [builds]
    common = ["--seed", str(asked.seed), "--each", str(each), "--results", str(asked.results)]
    common += ["--base", str(base), "--minutes", str(asked.minutes)]
    common += ["--shared", str(asked.shared)] if asked.shared else []
    common += ["--resume"] if asked.resume else []
    common += ["--from", str(asked.first)]
    argv = [sys.executable, "-m", "campaign", *common, "--kinds"]
    running = [subprocess.Popen([*argv, ",".join(group)]) for group in groups if group]
    return max(process.wait() for process in running)


def alone(asked: argparse.Namespace, world: World, plan: list[tuple[str, int]]) -> int:
    """Run a plan in one world."""
    kinds = all_kinds()
    mark = f"campaign-{uuid.uuid4().hex}"
    os.environ.pop(MARK, None)
    shell = Shell(world.root, world.base / "outputs", mark, world.environment)
    lab = Lab(world=world, shell=shell)
    revision = checkout.git(checkout.REPOSITORY, "describe", "--always", "--dirty")
    deadline = time.monotonic() + asked.minutes * 60 if asked.minutes else float("inf")
    tried = wrong = 0
    try:
        for name, number in plan:
            if time.monotonic() > deadline:
                break
            case = injected(lab, kinds, name, number, asked.seed)
            tried, wrong = tried + (not case.skipped), wrong + bool(case.wrong)
            show(case)
            with asked.results.open("a", encoding="utf-8") as sink:
                sink.write(json.dumps(report.row(case, revision)) + "\n")
    finally:
        shell.close()
        for server in lab.servers.values():
            server.close()
        world.remove()
    print(f"{tried} injected, {wrong} wrong, seed {asked.seed}")
    return int(bool(wrong))


def injected(lab: Lab, kinds: dict[str, Inject], name: str, number: int, seed: int) -> Case:
    """Run one injection; a defect of the campaign itself is a wrong outcome too."""
    case = Case(lab=lab, kind=name, number=number, seed=seed)
    began = time.monotonic()
    try:
        kinds[name](case)
    except SkippedError as reason:
        case.skipped = str(reason)
    except Exception as error:  # noqa: BLE001  one injection does not end the others
        last = traceback.format_exc().strip().splitlines()[-4:]
        case.fault([f"the campaign itself: {error!r}: {' / '.join(last)}"])
    finally:
        lab.shell.kill_family()
        for clean in case.cleanups:
            clean()
    case.wall = time.monotonic() - began
    return case


def show(case: Case) -> None:
    """Say on stderr how an injection ended."""
    words = "; ".join(case.notes)
    state = "WRONG" if case.wrong else f"not tried ({case.skipped})" if case.skipped else "right"
    print(f"{state} {case.name} ({case.wall:.1f} s, {case.cpu:.1f} CPU): {words}", file=sys.stderr)
    for line in case.wrong:
        print(f"      {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
