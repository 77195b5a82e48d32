"""What nvcc's flags cost on one object: python benchmarks/flags.py, after peers/run.py.

Takes the command of one kernel file out of the tree that `pip wheel` built there, and runs it once
with each variant of its flags, one after the other. Each is kept in WORK/flags.json and not
measured twice. `--toy`: of the toy's tree. Prints a table.
"""

# ruff: noqa: T201  a script for the terminal

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "toys"))
sys.path.insert(0, str(Path(__file__).parent / "peers"))

from bench import CHANGED, Bench
from measure import measured, say

Words = list[str]


def without(words: Words, *names: str) -> Words:
    """Drop options, and the value of those that have one beside them."""
    kept, skip = [], False
    for word in words:
        if not skip and word.partition("=")[0] not in names:
            kept.append(word)
        skip = not skip and word in names and word in ("--threads", "-MF", "--compress-mode")
    return kept


VARIANTS: dict[str, Callable[[Words], Words]] = {
    "as it is built": lambda words: words,
    "--threads 4": lambda words: [*without(words, "--threads"), "--threads", "4"],
    "--split-compile=2": lambda words: [*words, "--split-compile=2"],
    "--compress-mode=size": lambda words: [*words, "--compress-mode=size"],
    "--compress-mode=none": lambda words: [*words, "--compress-mode=none"],
    "no dependency file": lambda words: without(
        words, "-MD", "-MF", "--generate-dependencies-with-compile", "--dependency-output"
    ),
}
"""Each at most once per object: what NVCC_THREADS, vLLM and a fresh build tree would change."""


def main() -> int:
    """Measure what is asked for and not known yet, then print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--only", default="", help=f"some of: {', '.join(VARIANTS)}")
    work = Path.home() / ".cache" / "blackwheel-peers"
    parser.add_argument("--work", type=Path, default=work, help="of peers/run.py (%(default)s)")
    options = parser.parse_args()
    bench = Bench(work=options.work.absolute(), toy=options.toy, jobs=1)
    source = Path(CHANGED[bench.request.project])
    folder, words = command_of(bench, source)
    path = bench.work / "flags.json"
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    target = bench.work / "flags.o"
    words[words.index("-o") + 1] = str(target)
    if "-MF" in words:
        words[words.index("-MF") + 1] = f"{target}.d"
    for name, change in VARIANTS.items():
        if name in kept or (options.only and name not in options.only.split(",")):
            continue
        say(f"{source.name}: {name}")
        target.unlink(missing_ok=True)
        log = bench.log("flags")
        cost = measured(change(words), environment=dict(os.environ), cwd=folder, log=log)
        kept[name] = {**cost.record, "bytes": target.stat().st_size}
        path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(f"{source.name}\n\n| | wall s | CPU s | largest process, GiB | object, MB |")
    print("|---|---|---|---|---|")
    for name, one in kept.items():
        cpu, size = one["user"] + one["system"], one["bytes"] / 1e6
        memory = one["largest_bytes"] / (1 << 30)
        print(f"| {name} | {one['wall']:.1f} | {cpu:.1f} | {memory:.2f} | {size:.2f} |")
    return 0


def command_of(bench: Bench, source: Path) -> tuple[Path, Words]:
    """Return how ninja would compile one source of the tree that pip built, and where."""
    for file in sorted((bench.work / "pip" / "tree").glob("build/temp*/build.ninja")):
        ninja = ("ninja", "-C", str(file.parent), "-t", "commands")
        told = subprocess.run(ninja, check=True, capture_output=True, text=True).stdout
        for line in told.splitlines():
            if re.search(rf"{re.escape(str(source))}(\s|$)", line) and " -o " in line:
                return file.parent, shlex.split(line)
    raise SystemExit(f"{bench.work} has no tree that pip built: peers/run.py --only pip-wheel")


if __name__ == "__main__":
    sys.exit(main())
