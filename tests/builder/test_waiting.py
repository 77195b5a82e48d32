"""A build that gets no core or memory says whose objects have them: real launchers and locks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import within
from launching import LAUNCHER

from blackwheel.builder import memory_pool, waiting
from blackwheel.builder.memory_pool import Expected

STARTER = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[3:]))"


@pytest.fixture
def pools(tmp_path: Path) -> tuple[tuple[Path, str], ...]:
    """A pool of 10 GB."""
    for name, text in (("max", 10 << 30), ("current", 0), ("stat", "inactive_file 0")):
        (tmp_path / f"memory.{name}").write_text(f"{text}\n", encoding="utf-8")
    made = ((memory_pool._file(tmp_path / "pool"), str(tmp_path)),)
    known = {"one.cu": Expected(peak_bytes=6 << 30, cpu_seconds=5)}
    (tmp_path / "pool.txt").write_text(memory_pool.settings(made, 8, known), encoding="utf-8")
    return made


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path, pools: object) -> Iterator[Start]:
    """Start an object of 6 GB that compiles until the file `enough` is there."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(build: str = "") -> subprocess.Popen[bytes]:
        code = "import pathlib, time\n" + f"enough = pathlib.Path({str(tmp_path / 'enough')!r})\n"
        code += "while not enough.exists():\n    time.sleep(0.05)"
        argv = [*LAUNCHER, sys.executable, "-c", code, "-c", "one.cu", "-o", "one.o"]
        if build:
            session = f"/home/me/store/sessions/build-{build}-x7_a.json"
            argv = [sys.executable, "-c", STARTER, "build", session, *argv]
        environment = {
            "PATH": os.environ["PATH"],
            "BLACKWHEEL_EXPECTED": str(tmp_path / "pool.txt"),
        }
        running.append(subprocess.Popen(argv, env=environment, cwd=tmp_path))
        return running[-1]

    yield begin
    (tmp_path / "enough").touch()
    for process in running:
        process.wait(timeout=60)


def look(pools: tuple[tuple[Path, str], ...]) -> waiting.Seen:
    return waiting.seen(pools, own=os.getpid())


def test_build_that_has_nothing_running_names_the_build_that_has(
    pools: tuple[tuple[Path, str], ...], start: Start
) -> None:
    start("stable-vllm-cp312")
    assert within(20, lambda: look(pools).others == (("stable-vllm-cp312", 1),))
    start()
    assert within(20, lambda: look(pools).own_waiting == 1)
    now = look(pools)
    assert (now.own_running, now.unseen) == (0, 0)
    assert str(now) == (
        "waits for 1 object of stable-vllm-cp312: they have the cores, or the memory"
    )


def test_build_that_compiles_waits_for_nobody(
    pools: tuple[tuple[Path, str], ...], start: Start
) -> None:
    start()
    assert within(20, lambda: look(pools).own_running == 1)
    start()
    assert within(20, lambda: look(pools).own_waiting == 1)
    assert look(pools).others == ()


def test_share_of_a_process_that_is_not_seen_is_another_users(
    pools: tuple[tuple[Path, str], ...], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("other-toy-cp311")
    assert within(20, lambda: look(pools).others != ())
    monkeypatch.setattr(waiting, "_opened", lambda *_: iter(()))  # no right to look
    assert str(look(pools)) == (
        "waits for 1 object of another user's build: they have the cores, or the memory"
    )


def test_memory_that_other_programs_have_is_said_as_such(
    pools: tuple[tuple[Path, str], ...],
) -> None:
    assert str(look(pools)) == "waits for memory: other programs left 10 GiB free"


def test_reason_is_said_once_and_only_after_a_while(
    pools: tuple[tuple[Path, str], ...],
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "LOOK", 0.2)
    said: list[str] = []
    start("stable-vllm-cp312")
    assert within(20, lambda: look(pools).others != ())
    with waiting.said(pools, said.append):
        start()
        assert within(20, lambda: bool(said))
        time.sleep(1)
        assert len(said) == 1 and said[0].startswith("waits for 1 object of stable-vllm-cp312:")
        (tmp_path / "enough").touch()
    with waiting.said((), said.append) as beside:
        assert beside() == ""
    assert len(said) == 1


def test_other_builds_are_named_while_objects_wait_beside_them(
    pools: tuple[tuple[Path, str], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while this build compiles: that its other objects wait is their doing, too."""
    both = waiting.Seen(
        own_running=1, own_waiting=81, others=(("a", 2), ("b", 1)), unseen=0, free=0
    )
    looks = iter(
        [both, replace(both, unseen=1), replace(both, unseen=1), replace(both, own_waiting=0)]
    )
    monkeypatch.setattr(waiting, "seen", lambda *_, **__: next(looks))
    said: list[str] = []
    watch = waiting._Watch(pools, said.append)
    found = []
    for _ in range(4):
        watch.look()
        found.append(watch.beside)
    named = "2 objects of a and 1 object of b"
    assert found == [named, named, f"{named} and 1 object of another user's build", ""]
    assert said == []


def test_holder_that_is_not_seen_whole_at_one_look_is_no_other_user(
    pools: tuple[tuple[Path, str], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that took its share between two readings, then one that stays unseen."""
    whole = waiting.Seen(own_running=0, own_waiting=1, others=(("x", 1),), unseen=0, free=0)
    looks = iter([whole, replace(whole, unseen=1), whole, *[replace(whole, unseen=1)] * 2])
    monkeypatch.setattr(waiting, "seen", lambda *_, **__: next(looks))
    said: list[str] = []
    watch = waiting._Watch(pools, said.append)
    for _ in range(4):
        watch.look()
    assert said == ["waits for 1 object of x: they have the cores, or the memory"]
    watch.look()
    assert len(said) == 2 and "and 1 object of another user's build" in said[1]
