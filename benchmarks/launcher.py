"""What a call of the compiler launcher costs: python benchmarks/launcher.py.

Runs `/bin/true -c a.cu -o a.o` with and without the launcher, in turn, and an empty Python. Prints
the median and the lower quartile of CPU and wall milliseconds; 40 calls of each, seconds in all.
"""

# ruff: noqa: T201  a script for the terminal

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from blackwheel.builder import memory_pool, workspace

CALLS = 40


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        script = workspace.lay_out_launcher(here / "bin")
        locks = memory_pool.locks({"BLACKWHEEL_POOL": folder})
        (here / "pool.txt").write_text(memory_pool.settings(locks, 4, {}), encoding="utf-8")
        told = {
            "BLACKWHEEL_RECORDS": str(here / "objects.jsonl"),
            "BLACKWHEEL_EXPECTED": str(here / "pool.txt"),
        }
        compiler = ("/bin/true", "-c", "a.cu", "-o", "a.o")
        python = (sys.executable, "-I", "-S")
        kinds = {
            "/bin/true alone": compiler,
            "an empty Python": (*python, "-c", ""),
            "behind the launcher": (*python, str(script), *compiler),
        }
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        for _ in range(CALLS):
            for name, argv in kinds.items():
                seen[name].append(_cost(argv, {**os.environ, **told}))
    print("| | CPU ms, median (lower quartile) | wall ms |\n|---|---|---|")
    for name, costs in seen.items():
        print(f"| {name} | {_told([c for c, _ in costs])} | {_told([w for _, w in costs])} |")


def _cost(argv: tuple[str, ...], environment: dict[str, str]) -> tuple[float, float]:
    """Run once; return milliseconds of CPU and of wall time."""
    began = time.perf_counter()
    process = subprocess.Popen(argv, env=environment)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    wall = time.perf_counter() - began
    return 1000 * (usage.ru_utime + usage.ru_stime), 1000 * wall


def _told(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({statistics.quantiles(values, n=4)[0]:.1f})"


if __name__ == "__main__":
    main()
