"""What is shown of a running compilation: real processes in /proc, and the test's own clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blackwheel.builder.compiling import Progress, Running, running
from blackwheel.core.console import Quiet
from blackwheel.core.processes import processes
from blackwheel.core.progress import Stage
from blackwheel.stacks import loader

ROOT = Path(__file__).parents[2]
LAUNCHER = """
import os, subprocess, sys, time
if "waits" in sys.argv:
    time.sleep(60)
if os.fork():
    os.wait()
subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"])
"""


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    file = tmp_path / "launcher.py"
    file.write_text(LAUNCHER)
    return file


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for one in processes:
        os.killpg(one.pid, signal.SIGKILL)
        one.wait()


def settled(names: set[str], waiting: set[str]) -> list[Running]:
    """Wait until these are seen, those of them wait, and half a second changes nothing."""
    held = 0
    for _ in range(400):
        seen = running(os.getpid())
        waits = {one.object for one in seen if one.waits}
        held = held + 1 if ({one.object for one in seen}, waits) == (names, waiting) else 0
        if held == 10:
            return seen
        time.sleep(0.05)
    raise AssertionError(running(os.getpid()))


def test_compilers_of_this_build_are_seen_and_those_that_wait(
    launcher: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    python = [sys.executable, "-I", "-S", str(launcher), "nvcc", "-o", "x.o"]
    for command in (
        [*python, "-c", "-c", "src/kernel.cu"],
        [*python, "-c", "/src/api.cpp", "waits"],
        [*python, "-shared", "waits"],  # a link compiles nothing
        ["/bin/sh", "-c", f"sleep 60; {launcher} -c no.cu"],
    ):
        started.append(subprocess.Popen(command, start_new_session=True))
    seen = settled({"kernel.cu", "api.cpp"}, {"api.cpp"})
    assert len(seen) == 2, "a launcher and its fork are one"
    assert all(0 <= one.seconds < 60 for one in seen)
    assert running(started[-1].pid) == []  # below it runs no launcher


def test_time_of_an_object_begins_when_it_has_its_memory(
    launcher: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    late = launcher.with_name("late") / launcher.name
    late.parent.mkdir()
    late.write_text(f"import time\ntime.sleep(1)\n{LAUNCHER}")
    command = [sys.executable, "-I", "-S", str(late), "nvcc", "-c", "src/late.cu"]
    started.append(subprocess.Popen(command, start_new_session=True))
    (seen,) = settled({"late.cu"}, set())
    whole = processes()[started[0].pid].seconds
    assert 0 <= seen.seconds <= whole - 0.9


def test_object_whose_step_behind_the_compile_cache_waits_for_memory_waits(
    launcher: Path, tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    python = [sys.executable, "-I", "-S"]
    step = tmp_path / "cache_step.py"
    step.write_text(LAUNCHER)
    for command, source in (
        ([*python, str(launcher), "nvcc", "-c", "src/hit.cu"], "hit.cu"),
        ([*python, str(launcher), "nvcc", "-c", "src/miss.cu"], "miss.cu"),
        ([*python, str(step), "cicc", "a.ii"], "hit.cu"),  # it compiles
        ([*python, str(step), "cicc", "a.ii", "waits"], "miss.cu"),
    ):
        own = {**os.environ, "BLACKWHEEL_REST_OF": source}
        started.append(subprocess.Popen(command, start_new_session=True, env=own))
    settled({"hit.cu", "miss.cu"}, {"miss.cu"})


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def progress(
    clock: Clock, *seen: Running, objects: int = 10, each: float = 100.0, hits: int = 0
) -> Progress:
    """Two jobs; an object should take `each` seconds."""
    stack = loader.load("quickstart", ROOT / "constraints")
    pin = replace(stack.projects["flash-attn"], objects=objects, cpu_seconds=round(objects * each))
    stage = Stage("flash-attn", "compile", clock=clock, tell=Quiet().say)
    made = Progress(
        pin, stage, jobs=2, compiled=0, look=lambda: seen, hits=lambda: hits, clock=clock
    )
    made.look()
    return made


def at_work(seconds: float, *, waits: bool = False, name: str = "a.cu") -> Running:
    return Running(object=name, seconds=seconds, waits=waits)


def test_time_left_goes_down_while_nothing_is_done_yet(clock: Clock) -> None:
    assert progress(clock).left() == pytest.approx(500)
    assert progress(clock, at_work(50), at_work(50)).left() == pytest.approx(450)
    assert progress(clock, at_work(900), at_work(900)).left() == pytest.approx(405)
    assert progress(clock, at_work(50), at_work(50, waits=True)).left() == pytest.approx(475)


def test_time_left_follows_the_pace_of_a_loaded_machine(clock: Clock) -> None:
    found = progress(clock)
    clock.now = 400.0
    found.line("[2/10] nvcc a.cu")
    assert found.left() == pytest.approx(1600)  # 400 s for two at once: four times the expected
    clock.now = 800.0
    found.line("[4/10] nvcc b.cu")
    assert found.left() == pytest.approx(1200)


def test_long_objects_that_come_last_are_expected(clock: Clock) -> None:
    """vLLM 0.28.0 said "12 min left" at 6 % of 74 minutes: its small files come first."""
    found = progress(clock)
    clock.now = 20.0
    found.line("[4/10] nvcc small.cu")
    assert found.left() == pytest.approx(480)
    clock.now = 520.0  # the whole took longer than it should
    found.line("[8/10] nvcc large.cu")
    assert found.left() == pytest.approx(130)


def test_what_comes_out_of_the_cache_is_expected_to_go_on(clock: Clock) -> None:
    found = progress(clock, hits=3)
    clock.now = 20.0
    found.line("[4/10] nvcc hit.cu")
    assert found.left() == pytest.approx(105), "a quarter of the cost, less 20 s of two"


@pytest.mark.parametrize("seconds", [120, 300])
def test_time_left_grows_with_the_last_object_that_overruns(clock: Clock, seconds: float) -> None:
    """Seen: `8 s left` for five minutes, while one object of 132 took seven."""
    found = progress(clock, at_work(seconds), objects=100, each=20)
    clock.now = 1000.0 + seconds
    found.line("[99/100] nvcc a.cu")
    assert found.left() == pytest.approx(seconds / 3)


def test_unknown_cost_tells_no_time_before_the_pace_is_known(clock: Clock) -> None:
    found = progress(clock, each=0)
    assert found.left() is None
    clock.now = 60.0
    found.line("[2/10] nvcc a.cu")
    assert found.left() == pytest.approx(240)


def test_other_lines_change_nothing(clock: Clock) -> None:
    found = progress(clock)
    found.line("ptxas info : 0 bytes gmem")
    assert found.left() == pytest.approx(500)


def test_bar_names_what_compiles_and_how_many_wait(clock: Clock) -> None:
    parts: list[str] = []
    console = Quiet(clock=clock)
    pin = loader.load("quickstart", ROOT / "constraints").projects["flash-attn"]
    seen = [at_work(12, name="b.cu"), at_work(41), at_work(1, waits=True)]
    with console.stage("flash-attn", "compile") as stage:
        Progress(pin, stage, jobs=3, compiled=0, look=lambda: seen, clock=clock).look()
        parts = stage.parts()
    assert parts[-1] == "a.cu 41 s, b.cu 12 s; 1 waits its turn"
    with console.stage("flash-attn", "compile") as stage:
        told = {"look": lambda: seen, "beside": lambda: "2 objects of stable-toy-cp312"}
        Progress(pin, stage, jobs=3, compiled=0, clock=clock, **told).look()  # type: ignore[arg-type]
        parts = stage.parts()
    assert parts[-1].endswith("; 1 waits its turn beside 2 objects of stable-toy-cp312")
    more = [at_work(n, name=f"{n}.cu") for n in range(1, 6)]
    with console.stage("flash-attn", "compile") as stage:
        Progress(pin, stage, jobs=5, compiled=0, look=lambda: more, clock=clock).look()
        parts = stage.parts()
    assert parts[-1] == "5.cu 5.0 s, 4.cu 4.0 s, 3.cu 3.0 s, and 2 more"


def test_object_that_is_done_is_not_named_any_more(clock: Clock) -> None:
    seen = [at_work(41), at_work(12, name="b.cu")]
    pin = loader.load("quickstart", ROOT / "constraints").projects["flash-attn"]
    with Quiet(clock=clock).stage("flash-attn", "compile") as stage:
        shown = Progress(pin, stage, jobs=2, compiled=0, look=lambda: [*seen], clock=clock)
        shown.look()
        del seen[0]
        shown.line("[1/5] c++ a.o")
        assert stage.parts()[-1] == "b.cu 12 s"


def test_compilers_are_looked_at_until_the_end(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blackwheel.builder.compiling._EVERY", 0.01)
    looks: list[None] = []
    pin = loader.load("quickstart", ROOT / "constraints").projects["flash-attn"]
    stage = Stage("flash-attn", "compile", clock=clock, tell=Quiet().say)

    def look() -> list[Running]:
        looks.append(None)
        if len(looks) == 1:
            raise ProcessLookupError
        return []

    found = Progress(pin, stage, jobs=2, compiled=0, look=look, clock=clock)
    with found.shown():
        while len(looks) < 3:
            time.sleep(0.01)
    after = len(looks)
    time.sleep(0.05)
    assert (len(looks), found.left() is not None) == (after, True)
