"""Locks parts of the per-user store, which every run on the machine shares."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import filelock

from blackwheel.core.console import Console
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import component

LOOK_SECONDS: float = 10.0
"""After which a run that waits looks again who holds the lock, and whether that one is stopped."""
_USED: Final = "used"
"""The file on which every run holds a shared lock while it uses the store."""


@contextlib.contextmanager
def held(store: Path, name: str, *, project: str, console: Console) -> Iterator[None]:
    """Hold `locks/<name>.lock` in a `with` block; a run that waits says for which project.

    A holder that is stopped is named as such: it would hold the lock for ever.
    """
    folder, name = store / "locks", component(name, where="the name of a lock")
    with used(store, console=console):
        lock = filelock.FileLock(folder / f"{name}.lock")
        holder, said = folder / f"{name}.holder", ""
        while True:
            try:
                lock.acquire(timeout=LOOK_SECONDS if said else 0)
                break
            except filelock.Timeout:
                now = holder_of(store, name) or "another run"
                if now != said:
                    console.say(f"{project}: waiting for {now} ({name})")
                said = now
        try:
            holder.write_text(f"{project} in process {os.getpid()}", encoding="utf-8")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


@contextlib.contextmanager
def used(store: Path, *, console: Console) -> Iterator[None]:
    """Keep `clean` from the store in a `with` block; any number of runs may."""
    with _opened(store) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say(f"waiting for `invoke clean` of {store}")
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def unused(store: Path) -> Iterator[None]:
    """Be alone in the store in a `with` block; raise `store-busy`, which names who uses it."""
    with _opened(store) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            names = sorted(path.stem for path in (store / "locks").glob("*.holder"))
            known = {holder_of(store, name): name for name in names}
            seen = [f"{who} ({name})" for who, name in known.items() if who]
            raise BlackwheelError(
                "store-busy",
                "\n".join(["the store is in use, and nothing of it was removed:", *seen]),
                where=str(store),
                fix="wait for it, or end it; then the same command again",
                code=Exit.BUSY,
            ) from None
        yield


def holder_of(store: Path, name: str) -> str:
    """Return who holds a lock, and whether that process is stopped; empty where nobody says."""
    try:
        text = (store / "locks" / f"{name}.holder").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.fullmatch(r"([^\n]{1,200}) in process ([0-9]{1,10})", text)
    if not found:
        return ""
    state = _state(found[2])
    if state in ("T", "t"):
        hint = f"fg there, or kill -CONT {found[2]}"
        return f"{text}, which is stopped (Ctrl-Z?): {hint}"
    return text if state else ""


@contextlib.contextmanager
def _opened(store: Path) -> Iterator[int]:
    folder = store / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / _USED, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield file
    finally:
        os.close(file)


def _state(pid: str) -> str:
    """Return the letter of a process's state; empty where there is none of that number."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(") ")[2][:1]
