"""One injection: its dice, its world, the commands that it runs, and what was wrong."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from . import invariants
from .commands import Done, Shell
from .worlds import World

WALL = 600.0
"""Seconds after which a command hangs, on a busy machine."""
ENDS = {"audit": (0, 8)}
"""How commands may end that nobody disturbs; all others with 0."""


@dataclass(kw_only=True)
class Lab:
    """What all injections of a process share: one world, one shell, and undisturbed runs."""

    world: World
    shell: Shell
    undisturbed: dict[tuple[str, ...], Undisturbed] = field(default_factory=dict)
    servers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """How a command ends that nobody disturbs: the state, and its output."""

    bytes: Mapping[str, str]
    names: tuple[str, ...]
    done: Done


@dataclass(kw_only=True)
class Case:
    """One injection under way."""

    lab: Lab
    kind: str
    number: int
    seed: int
    part: str = "toy"
    """What the fault was put into: `toy`, or a part of the real chain."""
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    skipped: str = ""
    """Why this machine does not allow the injection."""
    template: str = ""
    cpu: float = 0.0
    last: Done | None = None
    wall: float = 0.0
    extra: Mapping[str, str] = field(default_factory=dict)
    """Variables of each command of this injection."""
    cleanups: list[Callable[[], object]] = field(default_factory=list)
    """Called at the end, whatever happened."""

    def __post_init__(self) -> None:
        self.dice = Random(f"{self.seed}-{self.kind}-{self.number}")  # noqa: S311  moments

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.number}"

    @property
    def world(self) -> World:
        return self.lab.world

    def note(self, text: str) -> None:
        """Say what was done, for whoever reads a wrong outcome."""
        self.notes.append(text)

    def begin(self, template: str) -> World:
        """Put the world into the state of a template."""
        self.template = template
        self.world.put(template)
        return self.world

    def fault(self, found: Sequence[str]) -> None:
        self.wrong += found

    def start(self, *words: str, environment: Mapping[str, str] | None = None, **how: Any) -> Any:
        """Begin a command in this world."""
        self.note(" ".join(words))
        variables = {**self.world.environment, **self.extra, **(environment or {})}
        return self.lab.shell.start(words, variables, **how)

    def run(
        self,
        *words: str,
        signals: Sequence[int] = (),
        during: Callable[[Any], None] | None = None,
        broken: Sequence[Path] = (),
        peak: int = invariants.PEAK,
        nox: bool = False,
        wall: float = WALL,
        mute: bool = False,
        **how: Any,
    ) -> Done:
        """Run a command to its end and check all that must hold after it.

        `during` may act on it once it runs; shelves in `broken` were damaged on purpose; a `mute`
        one cannot name its error.
        """
        running = self.start(*words, **how)
        if during:
            during(running)
        done = self.lab.shell.ended(running, seconds=wall)
        self.judge(done, signals=signals, broken=broken, peak=peak, nox=nox, mute=mute)
        return done

    def judge(
        self,
        done: Done,
        *,
        signals: Sequence[int] = (),
        broken: Sequence[Path] = (),
        peak: int = invariants.PEAK,
        nox: bool = False,
        mute: bool = False,
    ) -> None:
        """Check an ended command and the state that it leaves."""
        self.cpu += done.cpu
        self.last = done
        self.note(f"ended with {done.code}")
        self.fault(invariants.tracebacks(done))
        self.fault(invariants.unnamed_codes(done, signals=signals, nox=nox, mute=mute))
        self.fault(invariants.over_bounds(done, peak=peak))
        self.look(broken=broken)

    def look(self, *, broken: Sequence[Path] = ()) -> None:
        """Check the state: processes, locks, shelves."""
        self.fault(invariants.live_processes(self.lab.shell))
        world = self.world
        self.fault(invariants.held_locks([world.store, world.wheels, world.published, world.tmp]))
        for shelf in world.shelves:
            if not any(shelf == one or shelf.is_relative_to(one) for one in broken):
                self.fault(invariants.wheels_without_receipt(shelf))
                self.fault(invariants.pages_that_lie(shelf))

    def settle(
        self,
        *words: str,
        heal: Callable[[], object] | None = None,
        leftovers: bool = True,
        **how: Any,
    ) -> None:
        """Run a command undisturbed after the fault: it must end as if nothing had ever been.

        `heal` undoes damage that a named error may ask a person to undo.
        """
        reference = self.reference(*words, **how)
        if not heal and self._as_before(reference):
            return
        done = self.run(*words, **{**how, "broken": [self.world.base] if heal else []})
        if done.code and heal:
            heal()
            done = self.run(*words, **how)
        if done.code != reference.done.code:
            tail = " / ".join(done.said.strip().splitlines()[-6:])
            self.fault([f"the rerun ended with {done.code}: {tail[:600]}"])
            return
        self.fault(invariants.other_bytes(reference.bytes, self.state()))
        if leftovers:
            self.fault(invariants.leftovers(reference.names, self.world.names()))

    def _as_before(self, reference: Undisturbed) -> bool:
        """Tell whether a rerun is one that was seen: from the template, or from its own end."""
        world = self.world
        if world.untouched(self.template):
            self.note("nothing was changed")
            return True
        ended = (self.last and self.last.code, self.state(), sorted(world.names()))
        return ended == (reference.done.code, reference.bytes, sorted(reference.names))

    def reference(self, *words: str, **how: Any) -> Undisturbed:
        """Return how this command ends from this template; run it once for that."""
        key = (self.template, *words, *(f"{n}={v}" for n, v in sorted(self.extra.items())))
        if key not in self.lab.undisturbed:
            saved = self.world.base / "templates" / "under-way"
            self.world.keep(saved.name)
            self.world.put(self.template)
            variables = {**self.world.environment, **self.extra, **how.get("environment", {})}
            running = self.lab.shell.start(words, variables)
            done = self.lab.shell.ended(running, seconds=2 * WALL)
            names = tuple(self.world.names())
            if done.code not in ENDS.get(words[0], (0,)):
                self.fault([f"undisturbed it ends with {done.code}: {done.said[-300:]}"])
            self.lab.undisturbed[key] = Undisturbed(bytes=self.state(), names=names, done=done)
            self.world.put(saved.name)
        return self.lab.undisturbed[key]

    def state(self) -> dict[str, str]:
        """Return digests of all that installers read, and of wheels in the store."""
        found = {}
        for top in (self.world.wheels, self.world.published):
            found |= {f"{top.name}/{n}": d for n, d in invariants.shelf_bytes(top).items()}
        for wheel in self.world.store.glob("builds/*/*/*/*/wheel/*.whl"):
            found[f"store/{wheel.name}"] = invariants.digest(wheel)
        return found


def name_of(number: int) -> str:
    return signal.Signals(number).name
