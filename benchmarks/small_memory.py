"""Objects that together need more than a cgroup has: python benchmarks/small_memory.py (root).

Makes a cgroup of 8 GB without swap and builds flash-attention's two backward objects of head dim
128 in it (6 GiB each), first by `pip wheel`, which the kernel kills, then by this project, which
waits; both with the same source, pins and jobs. `--toy`: processes that take 200 MB each in a
group of 300 MB, by ninja alone and behind the launcher; seconds. Version 1 and 2 of cgroups.
"""

# ruff: noqa: T201  a script for the terminal

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "toys"))
sys.path.insert(0, str(Path(__file__).parent / "peers"))

from bench import Bench, steps
from contenders import Pip
from measure import say

from blackwheel.builder import memory_pool, workspace
from blackwheel.builder.memory_pool import Expected

STACK = """\
extends = "stable"
description = "backward of head dim 128, bf16: two objects of 6 GiB"
build = ["flash-attn"]
locks = "stable"
[projects.flash-attn]
variant = "backward128"
objects = 3
cpu_seconds = 240
[projects.flash-attn.variables]
FLASH_ATTN_PASSES = "bwd"
FLASH_ATTN_HEAD_DIMS = "128"
FLASH_ATTN_DTYPES = "bf16"
"""
EATER = """
import sys, time
taken = bytearray(200 << 20)
for page in range(0, len(taken), 4096):
    taken[page] = 1
time.sleep(1)
open(sys.argv[-1], "w").close()
"""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A cgroup with a limit, made for one command."""

    folder: Path
    version: int

    def run(
        self, argv: Sequence[str | Path], environment: Mapping[str, str], cwd: Path, log: Path
    ) -> int:
        """Run a command inside of it, with all that it starts."""
        enter = f'echo $$ >"{self.folder}/cgroup.procs" && exec "$@"'
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as sink:
            return subprocess.run(
                ["sh", "-c", enter, "sh", *map(str, argv)],
                env=dict(environment),
                cwd=cwd,
                stdout=sink,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode

    @property
    def kills(self) -> int:
        """How many of its processes the kernel killed for want of memory."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        found = re.search(r"^oom_kill (\d+)$", (self.folder / name).read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    @property
    def peak(self) -> int:
        """The most bytes that it held, file cache included."""
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        return int((self.folder / name).read_text())


@contextlib.contextmanager
def group(limit: int) -> Iterator[Group]:
    """Make a cgroup below this process's own (version 1) or at the top (version 2)."""
    lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    own = next((x.split(":", 2)[2] for x in lines if x.split(":", 2)[1] == "memory"), None)
    version = 2 if own is None else 1
    top = Path("/sys/fs/cgroup") if own is None else Path(f"/sys/fs/cgroup/memory{own}")
    folder = (top if top.is_dir() else Path("/sys/fs/cgroup/memory")) / f"blackwheel-{os.getpid()}"
    folder.mkdir()
    try:
        if version == 2:
            (folder / "memory.max").write_text(str(limit))
            (folder / "memory.swap.max").write_text("0")
        else:
            (folder / "memory.limit_in_bytes").write_text(str(limit))
            with contextlib.suppress(OSError):  # a kernel that does not count swap
                (folder / "memory.memsw.limit_in_bytes").write_text(str(limit))
        yield Group(folder=folder, version=version)
    finally:
        for _ in range(100):
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)


def main() -> int:
    """Build twice; 0 when the first was killed and the second completed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--jobs", type=int, default=3, help="compilers at once (%(default)s)")
    parser.add_argument("--limit", type=float, default=8, help="GB, 10^9 bytes (%(default)s)")
    parser.add_argument("--only", choices=("pip", "blackwheel"))
    work = Path.home() / ".cache" / "blackwheel-peers"
    parser.add_argument("--work", type=Path, default=work, help="shared with peers/ (%(default)s)")
    options = parser.parse_args()
    if options.toy:
        with tempfile.TemporaryDirectory() as folder:
            results = toys(Path(folder))
    else:
        results = real(options)
    for name, code, kills, peak, seconds, objects in results:
        print(
            f"{name}: ended with {code} after {seconds:.0f} s, {objects} objects compiled,"
            f" {kills} processes killed, at most {peak / (1 << 30):.2f} GiB"
        )
    return int(any((name == "blackwheel") == bool(code) for name, code, *_ in results))


Result = tuple[str, int, int, int, float, int]


def toys(here: Path) -> list[Result]:
    """Three processes of 200 MB by ninja, as they are and behind the launcher."""
    (here / "eater.py").write_text(EATER, encoding="utf-8")
    results = []
    for name in ("ninja", "blackwheel"):
        with group(300 << 20) as made:
            environment = dict(os.environ)
            eater = f"{sys.executable} -I -S {here}/eater.py"
            if name == "blackwheel":
                launcher = workspace.lay_out_launcher(here / "bin")
                eater = f"{sys.executable} -I -S {launcher} {eater}"
                pools = ((memory_pool._file(here / "pool"), str(made.folder)),)
                known = {f"{n}.cu": Expected(peak_bytes=210 << 20, cpu_seconds=1) for n in "abc"}
                text = memory_pool.settings(pools, 3, known)
                (here / "pool.txt").write_text(text, encoding="utf-8")
                environment["BLACKWHEEL_EXPECTED"] = str(here / "pool.txt")
            lines = ["rule c", f"  command = {eater} -c $in -o $out"]
            lines += [f"build {name}-{n}.o: c {n}.cu" for n in "abc"]
            (here / "build.ninja").write_text("\n".join(lines) + "\n", encoding="utf-8")
            for n in "abc":
                (here / f"{n}.cu").touch()
            began = time.monotonic()
            argv = (shutil.which("ninja") or "ninja", "-j3")
            code = made.run(argv, environment, here, here / "log")
            seconds = time.monotonic() - began
            objects = len(list(here.glob(f"{name}-*.o")))
            results.append((name, code, made.kills, made.peak, seconds, objects))
    return results


def real(options: argparse.Namespace) -> list[Result]:
    """The two objects of 6 GiB, and flash_api.cpp."""
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(work=options.work.absolute(), toy=False, jobs=options.jobs)
    (bench.checkout.root / "constraints" / "backward128.toml").write_text(STACK, encoding="utf-8")
    bench.choose("backward128")
    pip, results = Pip(bench), []
    if not (pip.env / "bin" / "pip").exists():
        say("an environment for pip wheel")
        pip.environment()
    tree = bench.work / "pip" / "backward128"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(bench.tree(), tree)
    program = (sys.executable, "-m", "invoke", "build-wheels", "--stack", "backward128")
    wheel = ("wheel", "-v", "--no-build-isolation", "--no-deps", "-w", bench.work / "out", tree)
    path = f"{pip.env}/bin:{bench.cuda}/bin:{bench.environment['PATH']}"
    runs = {
        "pip": ((pip.env / "bin" / "pip", *wheel), {**bench.variables, "PATH": path}),
        "blackwheel": ((*program, "--again", "--jobs", str(options.jobs)), {}),
    }
    for name, (argv, variables) in runs.items():
        if options.only in (None, name):
            say(f"{name}: {options.jobs} jobs in {options.limit} GB")
            log = bench.log(f"small-memory-{name}")
            with group(round(options.limit * 1e9)) as made:
                began = time.monotonic()
                environment = {**bench.environment, **variables}
                code = made.run(argv, environment, bench.checkout.root, log)
                seconds = time.monotonic() - began
                objects = finished(log) if name == "pip" else len(recorded(bench))
                results.append((name, code, made.kills, made.peak, seconds, objects))
    return results


def finished(log: Path) -> int:
    """Return how many objects ninja saw end, by its own counter."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return max((int(done) for done, _ in steps(text)), default=0)


def recorded(bench: Bench) -> list[str]:
    """Return the objects that this project's launcher saw compiled."""
    path = bench.store / "builds" / bench.request.slug / "work" / "objects.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line["object"] for line in map(json.loads, lines) if line["exit"] == 0]


if __name__ == "__main__":
    sys.exit(main())
