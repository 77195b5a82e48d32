"""Cuts the power: what a real ext4 had written by then is all that the next start finds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from .. import choices
from ..case import Case
from ..mounts import SkippedError, mounted

SIZE = 24 << 20
LATER = "loop,commit=600,noatime"
"""The kernel writes nothing on its own account while a command runs."""


def power_cut(case: Case) -> None:
    """After success was reported nothing is lost; at any other moment nothing false is there."""
    words = choices.shelf_command(case, writing=True)
    at = case.world.wheels if words[0] == "prune" else case.world.published
    disk, cut = (case.world.base / f"{name}-{case.number}.img" for name in ("disk", "cut"))
    case.cleanups += [disk.unlink, lambda: cut.unlink(missing_ok=True)]
    with disk.open("wb") as sink:
        sink.truncate(SIZE)
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        raise SkippedError("a power cut needs root and mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^resize_inode", str(disk)], check=True)
    mounted(case, at, "-o", LATER, str(disk))
    (at / "lost+found").rmdir()
    subprocess.run(["sync", "--file-system", str(at)], check=True)
    if case.dice.random() < 0.35:
        case.note("the power is cut right after success")
        done = case.run(*words)
        whole = not done.code
    else:
        delay = case.dice.uniform(0.05, 0.9)
        case.note(f"the power is cut after {delay:.3f} s")
        whole = _stopped(case, words, delay)
    before = case.state()
    subprocess.run(["cp", "--sparse=always", str(disk), str(cut)], check=True)
    case.lab.shell.kill_family()
    subprocess.run(["umount", "--lazy", str(at)], check=True)
    _restored(case, cut, at)
    if whole and case.state() != before:
        case.fault(["success was reported, and after the power cut other files are there"])
    case.look()
    case.settle(*words)


def _stopped(case: Case, words: tuple[str, ...], delay: float) -> bool:
    """Hold all processes at a moment; tell whether the command had ended well by then."""
    running: Any = case.start(*words)
    deadline = time.monotonic() + delay
    while time.monotonic() < deadline and not case.lab.shell.poll(running, 0.002):
        pass
    for pid in case.lab.shell.family():
        os.kill(pid, signal.SIGSTOP)
    return running.status == 0


def _restored(case: Case, image: Path, at: Path) -> None:
    place = ["mount", "-o", "loop", str(image), str(at)]
    subprocess.run(place, check=True)  # replays the journal


KINDS = {"power-cut": power_cut}
