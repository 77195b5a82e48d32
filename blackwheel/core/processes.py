"""Looks at the processes of this machine in /proc, once or every few seconds."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """One process, as it was when it was looked at."""

    number: int
    parent: int
    seconds: float
    """Since it began."""
    words: tuple[str, ...]
    """Its command line."""

    @property
    def folder(self) -> Path:
        """Its folder in /proc."""
        return PROC / str(self.number)

    def runs(self, script: str) -> bool:
        """Tell whether an interpreter runs a script of this name in it."""
        return any(word.rpartition("/")[2] == script for word in self.words[1:5])

    def variable(self, name: str) -> str:
        """Return a variable of its environment; empty where it has none, or lets nobody look."""
        with contextlib.suppress(OSError):
            for pair in (self.folder / "environ").read_bytes().split(b"\0"):
                if pair.startswith(f"{name}=".encode()):
                    return pair.partition(b"=")[2].decode("utf-8", "replace")
        return ""


def processes() -> dict[int, Process]:
    """Return all processes by number; one that ends meanwhile is left out."""
    uptime = float((PROC / "uptime").read_text("ascii").split()[0])
    found = {}
    for folder in PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name, in brackets, may itself hold brackets and blanks.
            fields = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            words = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            number = int(folder.name)
            found[number] = Process(
                number=number,
                parent=int(fields[1]),
                seconds=max(0.0, uptime - int(fields[19]) / _TICKS),
                words=tuple(words),
            )
    return found


def above(one: Process, found: Mapping[int, Process]) -> Iterator[Process]:
    """Yield the processes above one: its parent, that one's parent, and so on."""
    seen = {one.number}
    while one.parent in found and one.parent not in seen:
        seen.add(one.parent)
        one = found[one.parent]
        yield one


@contextlib.contextmanager
def watching(look: Callable[[], None], *, every: float) -> Iterator[None]:
    """Call `look` every few seconds while the body runs; a look that meets an end is skipped."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(every):
            with contextlib.suppress(OSError):
                look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
