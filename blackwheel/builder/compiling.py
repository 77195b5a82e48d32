"""Shows a running compilation: objects done, those that compile now, and the time that is left."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from blackwheel.core.processes import Process, above, processes, watching
from blackwheel.core.progress import Stage
from blackwheel.core.units import duration
from blackwheel.stacks.records import ProjectPin

_NINJA_STEP: Final = re.compile(r"^\[(\d+)/(\d+)\] ")
_EVERY: Final = 2.0
"""Seconds between two looks at the running compilers."""
_SHOWN: Final = 3
_ALMOST: Final = 0.95
"""A running object counts as no more than this part of one."""
_AS_LONG: Final = 1 / 3
"""Of the time that an object has taken, at least this part is still to come: nobody knows more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """One object whose compiler command runs."""

    object: str
    """Name of its file."""
    seconds: float
    """Since its compiler began; since its command began where that waits for memory."""
    waits: bool = False
    """Its compiler has not begun: other objects have the cores or the memory."""


class Progress:
    """Reads ninja's own counter out of the build's output, and the compilers out of /proc.

    The time left is the longer of two: by the pace so far, which knows the load of the machine, and
    by what the whole should take, which knows that the long objects may come last. What comes out
    of the compile cache costs nothing. What runs counts in parts, so that the time goes down while
    nothing is done; an object that takes longer than another never counts as done, and the time
    left grows with it.
    """

    def __init__(
        self,
        pin: ProjectPin,
        stage: Stage,
        *,
        jobs: int,
        compiled: int,
        look: Callable[[], Sequence[Running]] | None = None,
        hits: Callable[[], int] = lambda: 0,
        beside: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self._hits, self._beside = pin.objects, hits, beside
        self._each = pin.cpu_seconds / pin.objects if pin.objects else 0.0
        self._jobs, self._stage, self._clock = jobs, stage, clock
        self._look = look or (lambda: running(os.getpid()))
        self._began_at, self._done = compiled, compiled
        self._began = clock()
        self._seen: Sequence[Running] = ()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the compilers that run, every few seconds while the body runs."""
        if self.total > self._done:  # until ninja has said what it finds to do
            self._show()
        with watching(self.look, every=_EVERY):
            yield

    def line(self, line: str) -> None:
        """Take one line of output."""
        found = _NINJA_STEP.match(line)
        if not found:
            return
        done, steps = int(found[1]), int(found[2])
        self.total = max(self.total, steps)
        self._done = self.total - steps + done
        with contextlib.suppress(OSError):  # a process may end between two looks
            self._seen = self._look()  # what is done is no longer named
        self._show()

    def look(self) -> None:
        """Look at the compilers that run now."""
        self._seen = self._look()
        if self.total:
            self._show()

    def left(self) -> float | None:
        """Return the seconds that the rest takes; None where nothing tells."""
        new, rest = self._done - self._began_at, self.total - self._done
        elapsed = self._clock() - self._began
        at_work = [one for one in self._seen if not one.waits]
        paced = new >= self._jobs
        found = []
        if paced:
            pace = elapsed * self._jobs / (new + _ALMOST * len(at_work) / 2)
            found.append((rest - _parts(at_work, pace)) * pace)
        if self._each:
            each = self._each * (1 - self._hits() / new) if paced else self._each
            spent = elapsed * self._jobs if paced else _parts(at_work, each) * each
            found.append((rest + paced * new) * each - spent)
        longest = max((one.seconds for one in at_work), default=0.0)
        return max(longest * _AS_LONG, *(each / self._jobs for each in found)) if found else None

    def _show(self) -> None:
        self._stage.update(self._done, self.total, self._note(), left=self.left())

    def _note(self) -> str:
        """Say what runs, the oldest first: `a.cu 41 s, b.cu 12 s; 1 waits its turn`.

        Where another build has cores or memory too: `1 waits its turn beside 2 objects of NAME`.
        """
        busy = sorted((o for o in self._seen if not o.waits), key=lambda one: -one.seconds)
        waiting = sum(one.waits for one in self._seen)
        names = [f"{one.object} {duration(one.seconds)}" for one in busy[:_SHOWN]]
        names += [f"and {len(busy) - _SHOWN} more"] if len(busy) > _SHOWN else []
        told = ", ".join(names) or f"{self._jobs} job{'s' * (self._jobs > 1)}"
        if not waiting:
            return told
        holders = self._beside()
        others = f" beside {holders}" if holders else ""
        return f"{told}; {waiting} {'waits its' if waiting == 1 else 'wait their'} turn{others}"


def _parts(at_work: Sequence[Running], each: float) -> float:
    """Return how many objects those that run are worth, where one takes `each` seconds."""
    return sum(min(_ALMOST, one.seconds / each) for one in at_work) if each else 0.0


def running(ancestor: int) -> list[Running]:
    """Return the objects that are compiled below a process, by their launchers' command lines."""
    found = processes()
    # Seconds of each process's oldest child: a launcher has none before its share of memory.
    busy: dict[int, float] = {}
    for one in found.values():
        busy[one.parent] = max(one.seconds, busy.get(one.parent, 0.0))
    launchers = {
        one.number: name
        for one in found.values()
        if (name := _object(one)) and ancestor in {each.number for each in above(one, found)}
    }
    # Behind a compile cache the launcher has its client, and a step of the server waits.
    stalled = {
        one.variable("BLACKWHEEL_REST_OF")
        for one in found.values()
        if one.number not in busy and one.runs("cache_step.py")
    }
    # A launcher is forked once more for the compiler's own namespace: it is the same object.
    return [
        Running(
            object=name,
            seconds=busy.get(number, found[number].seconds),
            waits=number not in busy or name in stalled,
        )
        for number, name in launchers.items()
        if found[number].parent not in launchers
    ]


def _object(one: Process) -> str:
    """Return the file that a launcher's command compiles; empty for any other command."""
    words = one.words
    if not one.runs("launcher.py") or "-c" not in words[2:]:
        return ""
    behind = words[words.index("-c", 2) + 1 :]
    return next((word.rpartition("/")[2] for word in behind if word and word[0] != "-"), "")
