"""A command's end: streams that cannot be written, and a stop in a moment that raises nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from blackwheel.core.errors import Exit

STOPPED_IN_A_DESTRUCTOR = """
import os, sys, signal, time
from blackwheel.core import entry

class Thing:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        for _ in range(1000):
            pass

def act(site):
    del_me = Thing()
    del del_me
    time.sleep(5)

sys.exit(entry.run(act{more}))
"""
SPEAKS = """
import sys
from blackwheel.core import entry

def act(site):
    site.console.say("progress")
    site.console.result("result")

sys.exit(entry.run(act))
"""


def run(code: str, prepare: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=prepare,
    )


@pytest.mark.parametrize(
    ("name", "code", "more", "said"),
    [
        ("SIGTERM", 143, "", "stopped"),
        (
            *("SIGINT", 130, ", stopped=entry.KEPT"),
            "stopped; what was compiled is kept: the same command continues",
        ),
    ],
)
def test_stop_that_comes_in_a_destructor_stops_all_the_same(
    name: str, code: int, more: str, said: str
) -> None:
    done = run(STOPPED_IN_A_DESTRUCTOR.format(name=name, more=more))
    assert done.returncode == code, done.stderr
    assert done.stderr == f"{said}\n"


def _to(number: int, path: str, flags: int) -> Callable[[], None]:
    return lambda: os.dup2(os.open(path, flags), number) and None


@pytest.mark.parametrize(
    "prepare", [_to(2, os.devnull, os.O_RDONLY), _to(2, "/dev/full", os.O_WRONLY)]
)
def test_progress_that_cannot_be_written_changes_nothing(prepare: Callable[[], None]) -> None:
    done = run(SPEAKS, prepare)
    assert (done.returncode, done.stdout) == (0, "result\n")


def test_result_that_cannot_be_written_is_an_error_by_name() -> None:
    done = run(SPEAKS, _to(1, "/dev/full", os.O_WRONLY))
    assert done.returncode == Exit.MACHINE
    assert done.stderr.startswith("progress\nerror: disk-full\n  No space left on device: ")
    assert "Traceback" not in done.stderr
