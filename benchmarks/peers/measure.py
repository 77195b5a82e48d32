"""Run a command and say what it cost, with everything that it started."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

INTERVAL = 0.5
"""Seconds between two looks at the memory of all processes."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one command cost; CPU and the largest process are the kernel's own figures."""

    wall: float
    user: float
    system: float
    largest_bytes: int
    """The largest resident set of one process."""
    together_bytes: int
    """The largest sum of resident sets that was seen: shared pages count more than once."""

    @property
    def record(self) -> dict[str, Any]:
        """For results.json."""
        return asdict(self)


class FailedError(Exception):
    """A command ended with another code than 0."""


def measured(
    argv: Sequence[str | Path], *, environment: Mapping[str, str], cwd: Path, log: Path
) -> Cost:
    """Run to the end, output to `log`; raise FailedError with its last lines."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        sink.write(f"$ {' '.join(map(str, argv))}\n".encode())
        sink.flush()
        began = time.monotonic()
        process = subprocess.Popen(
            [str(word) for word in argv],
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
        watch = _Watch(process.pid)
        watch.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            process.wait()
            raise
        finally:
            watch.over.set()
        wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:]
        raise FailedError("\n".join([*tail, f"{argv[0]} ended with {process.returncode}: {log}"]))
    return Cost(
        wall=round(wall, 2),
        user=round(usage.ru_utime, 2),
        system=round(usage.ru_stime, 2),
        largest_bytes=usage.ru_maxrss * 1024,
        together_bytes=watch.most,
    )


class _Watch(threading.Thread):
    """Adds up the resident sets of a process and of all its descendants, again and again."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.most, self.over = pid, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(INTERVAL):
            self.most = max(self.most, _resident(self.pid))


def _resident(top: int) -> int:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            text = _text(entry / "stat")
            if text:
                parent = int(text[text.rindex(")") + 2 :].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    total, left = 0, [top]
    while left:
        pid = left.pop()
        words = _text(Path(f"/proc/{pid}/statm")).split()
        total += int(words[1]) if words else 0
        left += children.get(pid, [])
    return total * os.sysconf("SC_PAGE_SIZE")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def say(line: str) -> None:
    """Progress, to stderr."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()
