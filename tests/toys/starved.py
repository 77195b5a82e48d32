"""Tells a process that is left over from one that only waits for a core to end on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path


def waited(pid: int) -> float:
    """Return the seconds in which a process was ready to run and had no core."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def left_over(alive: Callable[[], Iterable[int]], seconds: float) -> set[int]:
    """Return the processes that live on after so many seconds, without those spent on a wait for a
    core: a killed process, too, needs one to end. An orphan sleeps or computes, and is found.
    """
    began = time.monotonic()
    before: dict[int, float] = {}
    while pids := set(alive()):
        spent = time.monotonic() - began
        over = {
            pid
            for pid in pids
            if spent - (waited(pid) - before.setdefault(pid, waited(pid))) > seconds
        }
        if over:
            return over
        time.sleep(0.05)
    return set()
