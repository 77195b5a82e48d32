"""Gives folders for a while; those that a killed run left go when the next one asks for its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """Give an empty folder that is removed at the end of the `with` block.

    Its own process holds a lock on it: a folder of this prefix that nobody holds is removed. One
    process at a time removes and makes them: a new folder is held before another one looks.
    """
    with contextlib.ExitStack() as held:
        with _held(parent, wait=True):
            for left in parent.glob(f"{prefix}*"):
                with contextlib.suppress(OSError), _held(left):
                    shutil.rmtree(left)
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            held.enter_context(_held(folder))
        yield folder


@contextlib.contextmanager
def _held(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder; raise BlockingIOError where another process does and this one cannot wait."""
    follow = 0 if wait else os.O_NOFOLLOW
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | follow | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)  # a process that was forked has the handle, too
    finally:
        os.close(handle)
