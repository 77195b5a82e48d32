"""Touches memory once: a virtual machine may grow as it is used. memory.py GIB SECONDS."""

# ruff: noqa: T201  a script for the terminal

import mmap
import multiprocessing
import sys
import time
from pathlib import Path

PROCESSES = 4
POPULATE_WRITE = 23  # MADV_POPULATE_WRITE


def touch(bytes_: int, until: float, done, barrier) -> None:
    """Hold this much, 256 MiB at a time, until the others have theirs or the time is over."""
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")  # before any other
    held = []
    while len(held) << 28 < bytes_ and time.monotonic() < until:
        one = mmap.mmap(-1, 1 << 28, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            one.madvise(POPULATE_WRITE)
        except OSError:
            break
        held.append(one)
        with done.get_lock():
            done.value += 1
    while not barrier.is_set() and time.monotonic() < until:
        time.sleep(0.2)


if __name__ == "__main__":
    wanted, until = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
    began, done, barrier = time.monotonic(), multiprocessing.Value("i", 0), multiprocessing.Event()
    each = (wanted << 30) // PROCESSES
    workers = [
        multiprocessing.Process(target=touch, args=(each, until, done, barrier))
        for _ in range(PROCESSES)
    ]
    for one in workers:
        one.start()
    while (
        done.value < wanted * 4 and time.monotonic() < until and any(w.is_alive() for w in workers)
    ):
        time.sleep(0.2)
    barrier.set()
    for one in workers:
        one.join()
    print(f"{done.value / 4:.0f} GiB touched in {time.monotonic() - began:.0f} s")
