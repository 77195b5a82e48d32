"""Builds side by side: real processes, their lines, their ends, what a failure does to others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from blackwheel.core import progress
from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site
from blackwheel.pipeline import sessions
from blackwheel.pipeline.session_file import build_order
from blackwheel.pipeline.sessions import Lanes, Session
from blackwheel.pipeline.todo import Work
from blackwheel.stacks import loader
from blackwheel.stacks.key import Key
from blackwheel.stacks.pythons import Python
from blackwheel.stacks.request import Request

CONSTRAINTS = Path(__file__).parents[2] / "constraints"
STACK = loader.load("torch211", CONSTRAINTS)
LOOP = "trap 'say bye; exit 143' TERM; say here; touch up; while :; do sleep 0.05; done"
SAY = """say() { echo "{\\"record\\": \\"said\\", \\"line\\": \\"$1\\"}" >> $RECORDS; }"""


def session(folder: Path, script: str, *, project: str = "vllm", python: str = "3.12") -> Session:
    """What a build session is here: a shell script, whose RECORDS and `say` are the session's."""
    request = Request(stack=STACK, project=project, python=python, archs=STACK.archs)
    item = Work(
        request=request,
        python=Python(version=python, where=python),
        key=Key(digest=f"{project}{python}", parts=()),
        shelved=None,
        reasons=("for the test",),
    )
    return Session(
        item=item,
        name=f"build-{project}-{python}",
        command=("/bin/sh", "-c", f'RECORDS="${{1%.json}}.jsonl"; {SAY}\n{script}', "session"),
        order=build_order(item, CONSTRAINTS),
        store=folder,
        environment=os.environ,
    )


def lanes(folder: Path, keep_going: bool = False, **scripts: list[Session]) -> tuple[Lanes, Quiet]:
    console = Quiet()
    made = Lanes(
        site=Site(checkout=folder, store=folder, environment=dict(os.environ), console=console),
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
    second = session(tmp_path, "[ -e a ] && say 'flash-attn: again'", project="flash-attn")
    other = session(tmp_path, meet.format(mine="b", other="a"))
    made, console = lanes(tmp_path, flash_attn=[first, second], vllm=[other])
    made.run()
    assert made.code == 0, console.lines
    assert {one.item.key.digest for one in made.done} == {
        "flash-attn3.11",
        "flash-attn3.12",
        "vllm3.12",
    }
    assert console.lines.index("flash-attn: again") > console.lines.index(
        "flash-attn: build for Python 3.12"
    )


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that is told each tenth, however soon."""
    monkeypatch.setattr(progress, "LEAST_SECONDS", 0.0)


@pytest.mark.usefixtures("talkative")
def test_lines_bear_the_name_of_their_lane_and_steps_move_its_bar(tmp_path: Path) -> None:
    step = (
        '{\\"record\\": \\"progress\\", \\"done\\": $n, \\"total\\": 4, \\"note\\": \\"2 jobs\\"}'
    )
    script = (
        "say 'vllm: log: /x'; printf half; printf ' a line\\n'; echo nox > /dev/stderr; say half;"
        f" for n in 1 2 3; do echo \"{step}\" >> $RECORDS; sleep 0.6; done; printf 'no end'"
    )
    made, console = lanes(
        tmp_path, **{"vllm 3.12": [session(tmp_path, script)], "vllm 3.13": [session(tmp_path, "")]}
    )
    made.run()
    mine = [line for line in console.lines if line.startswith("vllm 3.12: ")]
    assert mine[:3] == [
        "vllm 3.12: build for Python 3.12",
        "vllm 3.12: log: /x",
        "vllm 3.12: half",
    ]
    # On a pipe each tenth is told, once, as of a build that runs alone; a bar would move here.
    assert [line.partition(" %")[0] for line in mine[3:5]] == [
        "vllm 3.12: build for Python 3.12: 2/4, 50",
        "vllm 3.12: build for Python 3.12: 3/4, 75",
    ]
    assert mine[3].endswith(" left, 2 jobs")
    assert mine[5].startswith("vllm 3.12: build for Python 3.12: done in ")


def test_what_nox_prints_goes_to_a_log_and_is_shown_where_nobody_named_a_failure(
    tmp_path: Path,
) -> None:
    fails = "echo 'nox > Session build failed'; printf 'last words' >&2; exit 1"
    made, console = lanes(tmp_path, vllm=[session(tmp_path, fails)])
    made.run()
    log = tmp_path / "logs" / "build-vllm-3.12.log"
    words = ["nox > Session build failed", "last words"]
    assert log.read_text().splitlines() == words
    assert console.lines[1:4] == [*words, f"log: {log}"]
    named = """say 'error: no-room'; echo '{"record": "ended", "code": 4}' >> $RECORDS; """ + fails
    made, console = lanes(tmp_path, vllm=[session(tmp_path, named)])
    made.run()
    assert (made.code, console.lines[1], len(console.lines)) == (4, "error: no-room", 3)


@pytest.mark.usefixtures("talkative")
def test_stages_of_a_session_become_the_text_of_its_bar_and_a_line_each(tmp_path: Path) -> None:
    records = (
        {"record": "began", "text": "download and install"},
        {"record": "progress", "done": 0, "total": 2, "note": "of 2 GiB", "left": None},
        {"record": "progress", "done": 1, "total": 2, "note": "of 2 GiB", "left": 1.0},
        {"record": "stage-ended", "line": "packages: install: done in 9 s", "verb": "done"},
        {"record": "began", "text": "compile"},
        {"record": "progress", "done": 2, "total": 4, "note": "2 jobs", "left": 19.0},
        {"record": "progress", "done": 3, "total": 4, "note": "2 jobs", "left": 9.0},
        {"record": "stage-ended", "line": "vllm: compile: done in 9 s", "verb": "done"},
    )
    script = "".join(f"echo '{json.dumps(one)}' >> $RECORDS; sleep 0.6; " for one in records)
    made, console = lanes(tmp_path, vllm=[session(tmp_path, script)])
    made.run()
    assert console.lines[:-1] == [
        "vllm: build for Python 3.12",
        "vllm: download and install",
        "vllm: download and install: 1/2, 50 %, 1.0 s left, of 2 GiB",
        "vllm: packages: install: done in 9 s",
        "vllm: compile",
        "vllm: compile: 3/4, 75 %, 9.0 s left, 2 jobs",
        "vllm: compile: done in 9 s",
    ]
    assert console.lines[-1].startswith("vllm: build for Python 3.12: done in ")


def test_secret_of_the_environment_reaches_no_log(tmp_path: Path) -> None:
    one = session(tmp_path, "echo got hunter2hunter2")
    variables = {**one.environment, "INDEX_PASSWORD": "hunter2" * 2}
    made, _ = lanes(tmp_path, vllm=[replace(one, environment=variables)])
    made.run()
    assert "hunter2" not in (tmp_path / "logs" / "build-vllm-3.12.log").read_text()


def test_failure_stops_the_other_lanes_and_starts_nothing_more(tmp_path: Path) -> None:
    ended = """echo '{"record": "ended", "code": 8}' >> $RECORDS"""
    failing = session(tmp_path, f"until [ -e up ]; do sleep 0.05; done; {ended}; exit 1")
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
    assert {one.item.key.digest for one in made.done} == {"flash-attn3.12", "vllm3.12"}


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
    holds = session(tmp_path, "sleep 60 & echo $! > left; say last; exit 9", project="flash-attn")
    silent = session(tmp_path, "exec > /dev/null 2>&1; sleep 0.2")
    made, console = lanes(tmp_path, keep_going=True, flash_attn=[holds], vllm=[silent])
    began = time.monotonic()
    made.run()
    os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)
    assert time.monotonic() - began < 30
    assert (made.code, [one.item.key.digest for one in made.done]) == (9, ["vllm3.12"])
    assert "flash-attn: last" in console.lines


def test_each_session_is_handed_a_file_that_is_gone_when_it_has_ended(tmp_path: Path) -> None:
    for name in ("one", "two"):
        keep = f'test -s "$1" && test -e $RECORDS && cp "$1" {name}'
        made, console = lanes(tmp_path, vllm=[session(tmp_path, keep)], other=[])
        made.run()
        assert made.code == 0, console.lines
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert list((tmp_path / "sessions").iterdir()) == []


def test_wheel_of_a_session_is_what_it_recorded(tmp_path: Path) -> None:
    record = """echo '{"record": "made", "wheel": "/x/a.whl"}' >> $RECORDS"""
    made, _ = lanes(tmp_path, vllm=[session(tmp_path, record)], other=[session(tmp_path, "")])
    made.run()
    assert sorted(str(one.wheel) for one in made.done) == ["/x/a.whl", "None"]


def test_record_that_is_none_ends_all_of_them(tmp_path: Path) -> None:
    bad = session(tmp_path, 'echo \'{"record": "done"}\' >> $RECORDS; sleep 30')
    made, _ = lanes(tmp_path, vllm=[bad], other=[session(tmp_path, "sleep 30")])
    began = time.monotonic()
    with pytest.raises(BlackwheelError, match="bad-session-record"):
        made.run()
    assert time.monotonic() - began < 20
    assert list((tmp_path / "sessions").iterdir()) == []


def test_failed_code_of_what_ran_is_taken_and_noxs_own_where_none_was_recorded(
    tmp_path: Path,
) -> None:
    for record, ended, code in (("8", 1, 8), ("0", 3, 3), ("8", 0, 0), ("", 143, 143)):
        line = f"""echo '{{"record": "ended", "code": {record}}}' >> $RECORDS;""" if record else ""
        running = sessions.Running(session(tmp_path, ""))
        script = f"{line} exit {ended}"
        running.argv = (*session(tmp_path, script).command, str(running.file))
        done = subprocess.run(running.argv, check=False, cwd=tmp_path)
        assert running.outcome(done.returncode).code == code
        running.close()
