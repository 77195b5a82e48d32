"""Locks parts of the per-user store, which every run on the machine shares."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from blackwheel.core.console import Console
from blackwheel.core.files import component


@contextlib.contextmanager
def held(store: Path, name: str, *, project: str, console: Console) -> Iterator[None]:
    """Hold `locks/<name>.lock` in a `with` block; a run that waits says for which project."""
    folder, name = store / "locks", component(name, where="the name of a lock")
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / f"{name}.lock")
    holder = folder / f"{name}.holder"
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        console.say(f"{project}: waiting for {_text(holder) or 'another run'} ({name})")
        lock.acquire()
    try:
        holder.write_text(f"{project} in process {os.getpid()}", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
