"""Locks of the store: who holds one is named, and clean takes nothing from a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import proved
import pytest

from blackwheel.commands import views
from blackwheel.core import file_lock
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site

HOLD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {toys!r})
import proved
from blackwheel.core import file_lock
file_lock.LOOK_SECONDS = 0.05
site = proved.site_of(Path({root!r}))
class Told:
    def say(self, text):
        print(text, flush=True)
with file_lock.held(site.store, "build-toy", project={project!r}, console=Told()):
    print("held", flush=True)
    time.sleep(600)
"""
Running = subprocess.Popen[str]


def started(root: Path, project: str) -> Running:
    """A process that takes the lock of a build, and tells what it says."""
    toys = str(Path(str(proved.__file__)).parent)
    text = HOLD.format(toys=toys, root=str(root), project=project)
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)


def line_of(process: Running) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Running]:
    process = started(tmp_path, "toy")
    assert line_of(process) == "held"
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return proved.site_of(tmp_path)


def test_run_that_waits_names_the_holder_and_that_it_is_stopped(
    tmp_path: Path, holder: Running
) -> None:
    waiting = started(tmp_path, "other")
    try:
        assert line_of(waiting) == f"other: waiting for toy in process {holder.pid} (build-toy)"
        os.kill(holder.pid, signal.SIGSTOP)
        assert line_of(waiting) == (
            f"other: waiting for toy in process {holder.pid}, which is stopped (Ctrl-Z?):"
            f" fg there, or kill -CONT {holder.pid} (build-toy)"
        )
        os.kill(holder.pid, signal.SIGCONT)
        assert line_of(waiting) == f"other: waiting for toy in process {holder.pid} (build-toy)"
        holder.kill()
        assert line_of(waiting) == "held"
    finally:
        waiting.kill()
        waiting.wait()


def test_holder_that_is_gone_is_nobody(site: Site, holder: Running) -> None:
    assert file_lock.holder_of(site.store, "build-toy") == f"toy in process {holder.pid}"
    holder.kill()
    holder.wait()
    assert file_lock.holder_of(site.store, "build-toy") == ""
    (site.store / "locks" / "build-toy.holder").write_bytes(b"\xff\x1b[31m in process x")
    assert file_lock.holder_of(site.store, "build-toy") == ""


def test_clean_takes_nothing_from_a_run(site: Site, holder: Running) -> None:
    tree = site.store / "builds" / "toy"
    tree.mkdir(parents=True)
    with pytest.raises(BlackwheelError) as caught:
        views.clean(site, yes=True)
    assert caught.value.code == Exit.BUSY
    assert str(caught.value) == (
        "error: store-busy\n"
        "  the store is in use, and nothing of it was removed:\n"
        f"  toy in process {holder.pid} (build-toy)\n"
        f"  where: {site.store}\n"
        "  fix:   wait for it, or end it; then the same command again"
    )
    assert tree.is_dir()
    holder.kill()
    holder.wait()
    views.clean(site, yes=True)
    assert not tree.exists()


def test_run_waits_for_a_clean_that_is_at_work(site: Site, tmp_path: Path) -> None:
    with file_lock.unused(site.store):
        waiting = started(tmp_path, "toy")
        assert line_of(waiting) == f"waiting for `invoke clean` of {site.store}"
    assert line_of(waiting) == "held"
    waiting.kill()
    waiting.wait()


def test_clean_passes_a_linked_folder_and_goes_on(site: Site, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "toy").mkdir(parents=True)
    site.store.mkdir()
    (site.store / "builds").symlink_to(elsewhere)
    (site.store / "nox" / "toy").mkdir(parents=True)
    (site.store / "nox" / "gone").symlink_to(tmp_path / "nowhere")
    views.clean(site, yes=True)
    assert (elsewhere / "toy").is_dir()
    assert not (site.store / "nox").exists()
    assert f"{site.store / 'builds'} is a link" in proved.said(site)


@pytest.mark.skipif(os.geteuid() != 0, reason="chattr needs root")
def test_clean_goes_on_past_files_that_stay(site: Site) -> None:
    stays = site.store / "builds" / "toy" / "a"
    stays.parent.mkdir(parents=True)
    stays.write_text("x")
    (site.store / "nox" / "toy").mkdir(parents=True)
    if subprocess.run(["chattr", "+i", stays], check=False, capture_output=True).returncode:
        pytest.skip("this file system knows no file that stays")
    try:
        with pytest.raises(BlackwheelError, match="could not be removed") as caught:
            views.clean(site, yes=True)
        assert str(stays) in caught.value.fact
        assert not (site.store / "nox").exists()
    finally:
        subprocess.run(["chattr", "-i", stays], check=True)


def test_any_number_of_runs_use_a_store(site: Site) -> None:
    began = time.monotonic()
    with (
        file_lock.used(site.store, console=site.console),
        file_lock.used(site.store, console=site.console),
        pytest.raises(BlackwheelError, match="in use"),
        file_lock.unused(site.store),
    ):
        pass
    assert time.monotonic() - began < 60
