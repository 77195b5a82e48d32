"""Checks kernels on a machine with a GPU and torch: `python3 -m blackwheel.smoke.checks WHEEL`.

Standard library only: nothing is installed, the wheel is unpacked into a temporary folder. Exit
code 0: every check was right. 9: one was not. 4: there is no GPU that the wheel has code for.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blackwheel.core.errors import BlackwheelError
from blackwheel.receipts.beside import receipt_path
from blackwheel.smoke.checks import runner, tables


def receipt_sections(wheel: Path) -> tuple[dict[str, str], list[str]]:
    """Return build variables and archs from the receipt beside a wheel; empty without."""
    path = receipt_path(wheel)
    if not path.is_file():
        return {}, []
    told = json.loads(path.read_text(encoding="utf-8"))["predicate"]["buildDefinition"]
    variables = told["internalParameters"].get("command", {}).get("variables", {})
    return variables, told["externalParameters"].get("stack", {}).get("archs", [])


def labelled_archs(name: str) -> list[str]:
    """Return the archs in a wheel's label: `.sm90.sm120a.` are 9.0 and 12.0a."""
    return [f"{a}.{b}{c}" for a, b, c in re.findall(r"[._]sm(\d+)(\d)([af]?)(?=[._])", name)]


def row(result: runner.CheckResult) -> str:
    """Return one line of the table, with the remarks below it."""
    check, name, error, seconds, code = runner.cells(result)
    line = f"{check:22} {name:18} {error:20} {seconds:>7} s  {code}".rstrip()
    return "\n    ".join([line, *runner.remarks(result)])


def document(
    results: Sequence[runner.CheckResult], facts: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Return all results as a JSON value."""
    return {"device": dict(facts), "seed": seed, "checks": [asdict(one) for one in results]}


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m blackwheel.smoke.checks", description=__doc__)
    parser.add_argument("wheel", nargs="?", type=Path, help="unpacked, not installed")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="has torch")
    parser.add_argument("--checks", type=Path, help="default: patches/PROJECT/checks.py")
    parser.add_argument("--path", type=Path, action="append", default=[], help="of what it needs")
    parser.add_argument("--only", default="", help="forward,causal")
    parser.add_argument("--archs", default="", help="what the wheel holds: '9.0;12.0a'")
    parser.add_argument("--seed", type=int, default=0, help="default: a fresh one")
    parser.add_argument("--seconds", type=float, default=runner.SECONDS, help="of each check")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    return parser


def _checked(options: argparse.Namespace, folder: str, say: Callable[[str], None]) -> int:
    """Unpack, look at the device, run every check, and tell."""
    wheel: Path | None = options.wheel
    path = tuple(str(folder.absolute()) for folder in options.path)
    told: tuple[dict[str, str], list[str]] = ({}, [])
    archs = [word for word in re.split("[;,]", options.archs) if word]
    file = (options.checks or runner.checks_of(wheel.name if wheel else "")).absolute()
    if not file.is_file():
        say(f"not run: there is no {file}; --checks names one")
        return 4
    tables.require(file)
    modules = []
    if wheel:
        told = receipt_sections(wheel)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        path, modules = (folder, *path), [wheel.name.split("-")[0]]
        archs = archs or told[1] or labelled_archs(wheel.name)
    bench = runner.Bench(
        python=options.python,
        variables={
            **runner.variables_of(os.environ, folder),
            "PYTHONPATH": ":".join(path),  # a check ignores it, what it starts does not
            **{name: value for name, value in os.environ.items() if name.startswith("PLANTED")},
        },
        path=path,
        claims=runner.claims_of(file, told[0] or os.environ),
        seconds=options.seconds,
        seed=options.seed or runner.fresh_seed(),
    )
    facts = runner.device_facts(bench)
    say(f"device {facts.get('device') or 'none'} {facts.get('capability', '')}")
    say(f"driver {facts.get('driver') or 'unknown'}, torch {facts.get('torch', 'unknown')}")
    say(f"wheel {wheel.name if wheel else 'none'}, archs {', '.join(archs) or 'unknown'}")
    say(f"claims {bench.claims}, seed {bench.seed}\n")
    results: tuple[runner.CheckResult, ...] = ()
    lack = (
        runner.without_code(archs, facts["capability"]) if facts["device"] else "no GPU was found"
    )
    if lack:
        say(f"not run: {lack}{'; ' + facts['failed'] if 'failed' in facts else ''}")
    else:
        results = runner.run_checks(
            file,
            bench,
            modules=modules,
            only=options.only.split(",") if options.only else (),
            on_result=lambda result: say(row(result)),
        )
    if options.json:
        written = {**document(results, facts, bench.seed), "not_run": lack}
        options.json.write_text(json.dumps(written, indent=2), encoding="utf-8")
    bad = [result for result in results if result.name not in runner.GOOD]
    right = any(result.name == "right" for result in results)
    return 4 if lack else 0 if right and not bad else 9


def main() -> int:
    """Run as a program."""
    options = _arguments().parse_args()

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as folder:
        try:
            return _checked(options, folder, say)
        except BlackwheelError as error:
            sys.stderr.write(f"{error}\n")
            return int(error.code)


if __name__ == "__main__":
    sys.exit(main())
