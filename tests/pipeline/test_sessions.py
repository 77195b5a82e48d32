"""Builds side by side: real processes, their lines, their ends, what a failure does to others."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from blackwheel.core.console import Quiet
from blackwheel.pipeline.sessions import Lanes, Session
from blackwheel.pipeline.todo import Work
from blackwheel.stacks import loader
from blackwheel.stacks.key import Key
from blackwheel.stacks.pythons import Python
from blackwheel.stacks.request import Request

STACK = loader.load("torch211", Path(__file__).parents[2] / "constraints")
LOOP = "trap 'echo bye; exit 143' TERM; touch up; echo here; while :; do sleep 0.05; done"


def session(folder: Path, script: str, *, project: str = "vllm", python: str = "3.12") -> Session:
    """What a build session is here: a shell script."""
    request = Request(stack=STACK, project=project, python=python, archs=STACK.archs)
    item = Work(
        request=request,
        python=Python(version=python, where=python),
        key=Key(digest=f"{project}{python}", parts=()),
        shelved=None,
        reasons=("for the test",),
    )
    exit_file = folder / f"exit-{project}-{python}"
    return Session(
        item=item,
        argv=("/bin/sh", "-c", script),
        environment={**os.environ, "EXIT": str(exit_file)},
        exit_file=exit_file,
    )


def lanes(folder: Path, keep_going: bool = False, **scripts: list[Session]) -> tuple[Lanes, Quiet]:
    console = Quiet()
    made = Lanes(
        console=console,
        cwd=folder,
        waiting={name.replace("_", "-"): those for name, those in scripts.items()},
        keep_going=keep_going,
    )
    return made, console


def test_lanes_run_at_the_same_time_and_sessions_of_one_lane_one_after_another(
    tmp_path: Path,
) -> None:
    meet = "echo x > {mine}; n=0; until [ -e {other} ]; do n=$((n+1)); [ $n = 200 ] && exit 9;"
    meet += " sleep 0.05; done"
    first = session(tmp_path, meet.format(mine="a", other="b"), project="flash-attn", python="3.11")
    second = session(tmp_path, "[ -e a ] && echo 'flash-attn: again'", project="flash-attn")
    other = session(tmp_path, meet.format(mine="b", other="a"))
    made, console = lanes(tmp_path, flash_attn=[first, second], vllm=[other])
    made.run()
    assert made.code == 0, console.lines
    assert {one.key.digest for one in made.done} == {"flash-attn3.11", "flash-attn3.12", "vllm3.12"}
    assert console.lines.index("flash-attn: again") > console.lines.index(
        "flash-attn: build for Python 3.12"
    )


def test_lines_bear_the_name_of_their_lane_and_steps_move_its_bar(tmp_path: Path) -> None:
    script = (
        "echo 'vllm: log: /x'; printf half; printf ' a line\\n'; echo nox > /dev/stderr;"
        " for n in 1 2 3; do echo \"vllm: compile: $n/4, 25 %, 2 jobs\"; done; printf 'no end'"
    )
    made, console = lanes(
        tmp_path, **{"vllm 3.12": [session(tmp_path, script)], "vllm 3.13": [session(tmp_path, "")]}
    )
    made.run()
    mine = [line for line in console.lines if line.startswith("vllm 3.12: ")]
    assert mine[:4] == [
        "vllm 3.12: build for Python 3.12",
        "vllm 3.12: log: /x",
        "vllm 3.12: half a line",
        "vllm 3.12: nox",
    ]
    # On a pipe each tenth is told, once, as of a build that runs alone; a bar would move here.
    assert [line.partition(" %")[0] for line in mine[4:6]] == [
        "vllm 3.12: build for Python 3.12: 2/4, 50",
        "vllm 3.12: build for Python 3.12: 3/4, 75",
    ]
    assert mine[6] == "vllm 3.12: no end"
    assert mine[7].startswith("vllm 3.12: build for Python 3.12: done in ")


def test_failure_stops_the_other_lanes_and_starts_nothing_more(tmp_path: Path) -> None:
    failing = session(tmp_path, "until [ -e up ]; do sleep 0.05; done; echo 8 > $EXIT; exit 1")
    running = session(tmp_path, LOOP, project="flash-attn", python="3.11")
    never = session(tmp_path, "touch never", project="flash-attn")
    made, console = lanes(tmp_path, flash_attn=[running, never], vllm=[failing])
    made.run()
    assert (made.code, made.done) == (8, []), "the code of what ran inside, not nox's"
    assert not (tmp_path / "never").exists()
    told = [line.partition(" after ")[0] for line in console.lines]
    assert told[-4:] == [
        "vllm: build for Python 3.12: failed",
        "flash-attn: stopped, because vllm failed; what was compiled is kept"
        " (--keep-going lets it end)",
        "flash-attn: bye",
        "flash-attn: build for Python 3.11: stopped",
    ]


def test_keep_going_lets_the_others_end_and_begins_the_next(tmp_path: Path) -> None:
    failing = session(tmp_path, "exit 7", project="flash-attn", python="3.11")
    next_one = session(tmp_path, "touch next", project="flash-attn")
    slow = session(tmp_path, "sleep 0.3")
    made, _ = lanes(tmp_path, keep_going=True, flash_attn=[failing, next_one], vllm=[slow])
    made.run()
    assert made.code == 7
    assert {one.key.digest for one in made.done} == {"flash-attn3.12", "vllm3.12"}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_stop_ends_all_of_them(tmp_path: Path, stop: type[BaseException]) -> None:
    made, console = lanes(
        tmp_path,
        flash_attn=[session(tmp_path, f"echo $$ > one; {LOOP}", project="flash-attn")],
        vllm=[session(tmp_path, f"echo $$ > two; {LOOP}")],
    )
    said = console.say

    def say(line: str) -> None:
        said(line)
        if sum("here" in one for one in console.lines) == 2:
            raise stop

    console.say = say  # type: ignore[method-assign]
    with pytest.raises(stop):
        made.run()
    for name in ("one", "two"):
        assert not Path("/proc", (tmp_path / name).read_text().strip()).exists()


def test_what_a_session_leaves_behind_keeps_nobody_waiting(tmp_path: Path) -> None:
    # nox dies at once when it is asked to; the tool that it runs holds its output open.
    holds = session(tmp_path, "sleep 60 & echo $! > left; echo last; exit 9", project="flash-attn")
    silent = session(tmp_path, "exec > /dev/null 2>&1; sleep 0.2")
    made, console = lanes(tmp_path, keep_going=True, flash_attn=[holds], vllm=[silent])
    began = time.monotonic()
    made.run()
    os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)
    assert time.monotonic() - began < 30
    assert (made.code, [one.key.digest for one in made.done]) == (9, ["vllm3.12"])
    assert "flash-attn: last" in console.lines
