"""No moment of a SIGKILL to invoke or nox leaves a process: the real noxfile and package.

The work is `bench serving` of a server that never answers: it imports as a build does, and waits.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from starved import left_over

ROOT = Path(__file__).parents[2]
WITHIN = 2.0
SEED = int(os.environ.get("BLACKWHEEL_SEED", "16"))
TASKS = """
import os, sys
from pathlib import Path
from invoke import task
from blackwheel.core import process

@task
def wait(_context, url):
    nox = [sys.executable, "-m", "nox", "-f", {noxfile!r}, "-R", "-s", "bench", "--"]
    serving = [*nox, "serving", "--url", url]
    with process.Together() as group:
        group.start("nox", serving, environment=os.environ, cwd=Path.cwd())
        for _, event in group.events():
            print(event) if isinstance(event, str) else sys.exit(event)
"""


@pytest.fixture
def silent() -> Iterator[str]:
    """Address of a server that accepts and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def family(mark: str) -> dict[int, str]:
    """Process numbers and command lines of what was started with this mark."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
            marked = mark.encode() in (entry / "environ").read_bytes()
        except OSError:
            continue
        if marked and words:
            found[int(entry.name)] = words.replace(b"\0", b" ").decode()
    return found


def start(here: Path, mark: str, url: str) -> subprocess.Popen[bytes]:
    here.mkdir(parents=True, exist_ok=True)
    (here / "tasks.py").write_text(TASKS.format(noxfile=str(ROOT / "noxfile.py")))
    variables = {**os.environ, "BLACKWHEEL_TEST": mark, "BLACKWHEEL_HOME": str(here / "store")}
    variables |= {"PYTHONPATH": str(ROOT), "BLACKWHEEL_STACK": "quickstart"}
    return subprocess.Popen(
        [sys.executable, "-m", "invoke", "wait", "--url", url],
        cwd=here,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def found(mark: str, word: str, seconds: float = 600) -> int:
    """Wait for a process of the family by a word of its command line."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for pid, line in sorted(family(mark).items()):
            if word in line:
                return pid
        time.sleep(0.005)
    raise AssertionError(f"no {word} within {seconds} s: {family(mark)}")


MOMENTS = [
    pytest.param(top, start_of, delay, id=f"{top}-{start_of.split()[-1]}-{delay:.3f}")
    for dice in [random.Random(SEED)]  # noqa: S311  moments, not secrets
    for top, start_of, longest in (
        ("-m invoke", "-m nox", 0.3),
        ("-m nox", "-m blackwheel", 0.05),
        ("-m invoke", "-m blackwheel", 0.4),
        ("-m nox", "-m blackwheel", 0.8),
    )
    for delay in [dice.uniform(0, longest)]
]


@pytest.mark.parametrize(("top", "start_of", "delay"), MOMENTS)
def test_a_kill_at_any_moment_leaves_no_process(
    tmp_path: Path, silent: str, top: str, start_of: str, delay: float
) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    first = start(tmp_path / "toy", mark, silent)
    try:
        found(mark, start_of)
        time.sleep(delay)
        os.kill(found(mark, top), signal.SIGKILL)

        def alive() -> dict[int, str]:
            first.poll()
            return family(mark)

        left = left_over(alive, WITHIN)
        assert not left, family(mark)
    finally:
        for pid in family(mark):
            os.kill(pid, signal.SIGKILL)
        first.wait()
