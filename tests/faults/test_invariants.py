"""Each invariant of the campaign is seen to fail on a planted defect, and holds without it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import proved
import pytest
import starved
from campaign import invariants
from campaign.commands import MARK, Done, Shell

from blackwheel.core.errors import Exit
from blackwheel.shelf import index

NAME = f"toy-1.0+{proved.LABEL}.1-{proved.TAG}-{proved.TAG}-linux_x86_64.whl"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("invariants") / "checkout"
    site = proved.new_checkout(root)
    code = proved.library(tmp_path_factory.mktemp("library"))
    proved.shelve(site, proved.make_wheel(root / "built", "toy", code))
    index.show_all(site.wheels)
    return root


@pytest.fixture
def shelf(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original / "wheels", tmp_path / "wheels")
    return tmp_path / "wheels" / "toy"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path, tmp_path, f"planted-{uuid.uuid4().hex}", {})
    yield made
    made.close()


def done(
    code: int, said: str = "", words: str = "publish", *, cpu: float = 0, peak: int = 0
) -> Done:
    return Done(words=(words,), code=code, said=said, wall=1, cpu=cpu, peak=peak)


def test_whole_shelf_has_no_fault(shelf: Path) -> None:
    assert invariants.wheels_without_receipt(shelf) == []
    assert invariants.pages_that_lie(shelf) == []
    assert invariants.held_locks([shelf]) == []


def test_wheel_without_receipt_is_seen(shelf: Path) -> None:
    receipt = shelf / f"{NAME}.receipt.json"
    text = receipt.read_text("utf-8")
    receipt.unlink()
    (fault,) = invariants.wheels_without_receipt(shelf)
    assert fault.startswith(f"{NAME} has no whole receipt: ")
    receipt.write_text(text.replace("2025-10-20", "2025-10-21"), encoding="utf-8")
    assert len(invariants.wheels_without_receipt(shelf)) == 1, "a receipt that was changed"
    receipt.write_text(text, encoding="utf-8")
    assert invariants.wheels_without_receipt(shelf) == []


def test_page_that_names_a_missing_or_another_file_is_seen(shelf: Path) -> None:
    wheel = shelf / NAME
    data = wheel.read_bytes()
    wheel.unlink()
    assert invariants.pages_that_lie(shelf) == [
        f"toy/index.html names {NAME}, which is missing",
        f"toy/index.json names {NAME}, which is missing",
    ]
    wheel.write_bytes(data + b"\0")
    assert invariants.pages_that_lie(shelf) == [
        f"toy/index.html names {NAME}, which has other bytes",
        f"toy/index.json names {NAME}, which has other bytes",
    ]
    wheel.write_bytes(data)
    (shelf / "simple" / "toy" / "index.json").write_text("{", encoding="utf-8")
    (fault,) = invariants.pages_that_lie(shelf)
    assert fault.startswith("toy/index.json cannot be read: ")


@pytest.mark.parametrize("lock", [fcntl.flock, fcntl.lockf])
def test_held_lock_is_seen_whatever_its_kind(shelf: Path, lock: object) -> None:
    with (shelf / ".lock").open("w") as file:
        lock(file, fcntl.LOCK_EX)  # type: ignore[operator]
        (fault,) = invariants.held_locks([shelf])
        assert fault.startswith(".lock is locked (")
    assert invariants.held_locks([shelf]) == []


def test_live_process_is_seen_though_it_has_left_its_parents_and_its_session(shell: Shell) -> None:
    orphan = "import os, time; os.fork() and os._exit(0); os.setsid(); time.sleep(60)"
    argv = [sys.executable, "-c", orphan]
    subprocess.run(argv, env={**os.environ, MARK: shell.mark}, check=True)
    (fault,) = invariants.live_processes(shell, seconds=0.1)
    assert "lives on: " in fault
    shell.kill_family()
    assert invariants.live_processes(shell) == []


def test_traceback_is_seen() -> None:
    said = 'x\nTraceback (most recent call last):\n  File "x", line 1\nValueError: of something\n'
    assert invariants.tracebacks(done(1, said)) == ["traceback: ValueError: of something"]
    assert invariants.tracebacks(done(1, "error: bad-shelf\n  no Traceback of it\n")) == []
    interrupted = 'Traceback (most recent call last):\n  File "{}/x.py"\nKeyboardInterrupt\n'
    assert invariants.tracebacks(done(-2, interrupted.format("/lib/python3.11/nox"))) == []
    early = done(1, interrupted.format("/lib/python3.11"))
    assert invariants.unnamed_codes(early, signals=[signal.SIGINT]) == []
    assert invariants.unnamed_codes(early, signals=[signal.SIGTERM]) != []
    assert invariants.tracebacks(done(-2, interrupted.format("/a/blackwheel/blackwheel/core")))
    settings = interrupted.replace("KeyboardInterrupt", "OSError: [Errno 24] Too many open files")
    theirs = done(1, settings.format("/lib/site-packages/invoke/config.py"))
    assert invariants.tracebacks(theirs) == invariants.unnamed_codes(theirs) == []
    assert invariants.tracebacks(done(1, settings.format("/a/blackwheel/blackwheel/core")))


def test_exit_code_that_nobody_named_is_seen() -> None:
    assert invariants.unnamed_codes(done(77, "x")) == [
        "exit code 77 is none of core/errors.py's: x"
    ]
    assert invariants.unnamed_codes(done(1, "error: bad-shelf\n")) == [
        "exit code 1 is none of core/errors.py's: error: bad-shelf"
    ]
    assert invariants.unnamed_codes(done(10)) == ["exit code 10 without a named error"]
    assert invariants.unnamed_codes(done(130, "stopped\n")) == [
        "exit code 130 and nobody sent a signal"
    ]
    assert invariants.unnamed_codes(done(-9)) == ["exit code -9 is none of core/errors.py's: "]
    assert invariants.unnamed_codes(done(-9), signals=[signal.SIGKILL]) == []
    assert invariants.unnamed_codes(done(143), signals=[signal.SIGTERM]) == []
    assert invariants.unnamed_codes(done(int(Exit.INDEX), "error: bad-shelf\n")) == []
    assert invariants.unnamed_codes(done(1, "error: no-answer\n"), nox=True) == []


def test_time_and_memory_over_their_bounds_are_seen() -> None:
    assert invariants.over_bounds(done(0, cpu=61)) == ["61 s of CPU, more than 60"]
    assert invariants.over_bounds(done(0, peak=2 << 30)) == [
        "2048 MiB in one process, more than 1024"
    ]
    late = Done(words=("x",), code=-9, said="", wall=300, cpu=0, peak=0, overdue=True)
    assert invariants.over_bounds(late) == ["not ended after 300 s"]


def test_leftover_is_seen_and_a_half_written_file_even_where_every_run_leaves_it() -> None:
    known = ["wheels/toy/index.html", "store/sdists/x.tar.gz.part"]
    assert invariants.leftovers(known, [known[0], "tmp/tmpab12_cde"]) == [
        "left over: tmp/tmpab12_cde"
    ]
    assert invariants.leftovers(known, known) == ["left over: store/sdists/x.tar.gz.part"]
    assert invariants.leftovers(known[:1], [known[0], "store/sessions/a.json"]) == []


def test_other_bytes_after_a_rerun_are_seen(shelf: Path) -> None:
    before = invariants.shelf_bytes(shelf)
    assert f"{NAME}.metadata" in before
    page = shelf / "simple" / "toy" / "index.json"
    listed = json.loads(page.read_bytes())
    listed["files"][0]["upload-time"] = "2026-01-01T00:00:00Z"
    text = page.read_text("utf-8").replace("2025-10-20T12:30:00Z", "2026-01-01T00:00:00Z")
    page.write_text(text, encoding="utf-8")
    assert invariants.other_bytes(before, invariants.shelf_bytes(shelf)) == [], (
        "a moment is no byte"
    )
    with (shelf / NAME).open("ab") as wheel:
        wheel.write(b"\0")
    assert invariants.other_bytes(before, invariants.shelf_bytes(shelf)) == [
        f"after the rerun {NAME} has other bytes"
    ]
    (shelf / NAME).unlink()
    assert invariants.other_bytes(before, invariants.shelf_bytes(shelf)) == [
        f"after the rerun {NAME} is missing"
    ]


def test_process_that_waits_for_a_core_to_end_on_is_not_left_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a machine that is busy a killed process lives on until it gets one: its own clock."""
    began = time.monotonic()
    monkeypatch.setattr(starved, "waited", lambda _: time.monotonic() - began)
    rounds = iter([{7}, {7}, {7}, {7}, {7}, {7}, set()])
    assert starved.left_over(lambda: next(rounds), 0.1) == set()
    monkeypatch.setattr(starved, "waited", lambda _: 3.0)  # it waited before, and not since
    assert starved.left_over(lambda: {7}, 0.1) == {7}
    monkeypatch.undo()
    assert starved.waited(os.getpid()) >= 0 == starved.waited(0)
