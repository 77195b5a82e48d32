"""Tells for whom a build waits: whose objects hold the cores and memory of this machine."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from blackwheel.builder.inside import memory
from blackwheel.core.processes import Process, above, processes, watching
from blackwheel.core.units import size

LOOK: Final = 10.0
"""Seconds between two looks; what waits at two of them in a row is said."""
_SESSION: Final = re.compile(r"/sessions/(?:build-)?(.+?)-[^-/]*\.json$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """Objects on this machine that wait for a share of a pool, or hold one."""

    own_running: int
    own_waiting: int
    others: tuple[tuple[str, int], ...]
    """Builds that hold shares, and how many objects of each compile."""
    unseen: int
    """Shares of processes that may not be looked into: those of another user."""
    free: int
    """Bytes that are free, as a pool counts them."""

    @property
    def holders(self) -> str:
        """Text that names the other builds that hold shares: `2 objects of stable-toy-cp312`."""
        holders = [f"{n} object{'s' * (n > 1)} of {name}" for name, n in self.others]
        if self.unseen:
            holders.append(f"{self.unseen} object{'s' * (self.unseen > 1)} of another user's build")
        return " and ".join(holders)

    def __str__(self) -> str:
        """Return the reason of the wait, for a line of progress."""
        if self.holders:
            return f"waits for {self.holders}: they have the cores, or the memory"
        return f"waits for memory: other programs left {size(self.free)} free"


def seen(pools: Sequence[tuple[Path, str]], *, own: int) -> Seen:
    """Look at the processes that have a pool's file open; `own` is the process of this build."""
    places = {(state.st_dev, state.st_ino) for path, _ in pools if (state := _state(path))}
    found = processes()
    parents = {one.parent for one in found.values()}
    holds = {one.number for one in found.values() if any(_opened(one.folder, places))}
    launched: Counter[int] = Counter()
    waiting: Counter[int] = Counter()
    stalled: Counter[int] = Counter()
    names: dict[int, str] = {}
    for one in found.values():
        if one.number not in holds or one.parent in holds:
            continue  # a compiler has the file from its launcher
        build, name = _build_of(one, found, own)
        names[build] = name
        busy, step = one.number in parents, one.runs("cache_step.py")
        if busy and not step:
            launched[build] += 1
        elif not busy:
            waiting[build] += 1
            stalled[build] += step  # its launcher seems to compile
    running = {build: count - stalled[build] for build, count in launched.items()}
    return Seen(
        own_running=running.get(own, 0),
        own_waiting=waiting[own],
        others=tuple((names[b], n) for b, n in sorted(running.items()) if b != own and n > 0),
        unseen=max(0, memory.holders(pools[-1][0]) - launched.total()),
        free=memory.free_bytes(pools[0][1]),
    )


@contextlib.contextmanager
def said(
    pools: Sequence[tuple[Path, str]], say: Callable[[str], None]
) -> Iterator[Callable[[], str]]:
    """While the body runs, say for whom this build waits whenever it has waited for a while.

    Yields a function that names the builds beside which its objects waited at the last look.
    """
    if not pools:
        yield lambda: ""
        return
    watch = _Watch(pools, say)
    with watching(watch.look, every=LOOK):
        yield lambda: watch.beside


class _Watch:
    """Says a reason once, until the build has compiled again."""

    def __init__(self, pools: Sequence[tuple[Path, str]], say: Callable[[str], None]) -> None:
        self._pools, self._say = pools, say
        self._waited, self._unseen = False, 0
        self._told = ""
        self.beside = ""
        """The builds beside which objects of this one wait; empty where none waits."""

    def look(self) -> None:
        """Look once; what waited at the look before, too, is said."""
        now = seen(self._pools, own=os.getpid())
        # A process that begins or ends just now is not seen whole.
        steady = replace(now, unseen=min(now.unseen, self._unseen))
        self.beside = steady.holders if now.own_waiting else ""
        waits = bool(now.own_waiting and not now.own_running)
        reason = str(steady) if waits and self._waited else ""
        if reason and reason != self._told:
            self._say(reason)
        self._waited, self._unseen, self._told = waits, now.unseen, reason


def _opened(folder: Path, places: set[tuple[int, int]]) -> Iterator[bool]:
    with contextlib.suppress(OSError):  # of another user, or ended
        for file in (folder / "fd").iterdir():
            state = _state(file)
            yield bool(state and (state.st_dev, state.st_ino) in places)


def _state(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _build_of(one: Process, found: Mapping[int, Process], own: int) -> tuple[int, str]:
    """Return the process of a build, and its name: `stable-toy-cp312`."""
    for step in (one, *above(one, found)):
        if step.number == own:
            return own, "this build"
        named = [match[1] for word in step.words if (match := _SESSION.search(word))]
        if named and "build" in step.words:
            return step.number, named[0]
    return 0, "a build that nobody started"
