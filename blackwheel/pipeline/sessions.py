"""Starts nox sessions: one on this terminal, or several at the same time in lanes.

A session is handed one file (`session_file`) and answers with another (`session_records`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from blackwheel.core import process
from blackwheel.core.console import Console
from blackwheel.core.progress import Stage
from blackwheel.core.site import Site
from blackwheel.pipeline import session_file
from blackwheel.pipeline.session_file import Order
from blackwheel.pipeline.session_records import Made, Progress, Reader
from blackwheel.pipeline.todo import Work

_LOOK_SECONDS: Final = 0.25
"""Between two looks at the progress of sessions that say nothing else; a bar is drawn as often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One nox session, for one piece of work."""

    item: Work
    name: str
    """Of its file: `build-stable-PROJECT-cp312`."""
    command: tuple[str, ...]
    """Gets the path of the session's file as its last word."""
    order: Order
    store: Path
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A session that has ended: the exit code of the command inside, and the wheel it made."""

    item: Work
    code: int
    wheel: Path | None = None


class Running:
    """A session whose files exist until `close`."""

    def __init__(self, one: Session, *, beside: bool = False) -> None:
        self.item = one.item
        self.file = session_file.hand(one.store, one.name, replace(one.order, beside=beside))
        self.argv = (*one.command, str(self.file))
        self._reader = Reader(session_file.records_of(self.file))
        self._wheel: Path | None = None
        self._code = 0

    def progress(self) -> Progress | None:
        """Read the new records; return the newest progress, if one is among them."""
        last = None
        for record in self._reader.read():
            if isinstance(record, Progress):
                last = record
            elif isinstance(record, Made):
                self._wheel = record.wheel
            else:
                self._code = record.code or self._code
        return last

    def outcome(self, ended: int) -> Outcome:
        """Return the result; nox's own code is 1 for every code of the command inside."""
        self.progress()
        return Outcome(item=self.item, code=ended and (self._code or ended), wheel=self._wheel)

    def close(self) -> None:
        """Remove its files."""
        session_file.remove(self.file)


def session(site: Site, name: str, item: Work, order: Order) -> Session:
    """Return a session and its command."""
    request = item.request
    words = [name.partition("(")[0], request.stack.name, request.project, request.tag]
    return Session(
        item=item,
        name="-".join(words),
        command=(sys.executable, "-m", "nox", "--session", name, "--", "--session-file"),
        order=order,
        store=site.store,
        environment=site.environment,
    )


def alone(site: Site, one: Session) -> Outcome:
    """Run one session on this terminal; return how the command inside ended."""
    with closing(Running(one)) as running:
        argv = running.argv
        ended = process.hand_over(argv, environment=one.environment, cwd=site.checkout)
        return running.outcome(ended)


def run(
    site: Site, lanes: Mapping[str, Sequence[Session]], *, keep_going: bool
) -> tuple[int, list[Outcome]]:
    """Run lanes side by side; return the exit code of the first failure, and all that passed."""
    if len(lanes) > 1:
        waiting = {name: list(sessions) for name, sessions in lanes.items()}
        beside = Lanes(
            console=site.console, cwd=site.checkout, waiting=waiting, keep_going=keep_going
        )
        beside.run()
        return beside.code, beside.done
    code, done = 0, []
    for one in (one for sessions in lanes.values() for one in sessions):
        outcome = alone(site, one)
        if outcome.code == 0:
            done.append(outcome)
        code = code or outcome.code
        if outcome.code and not keep_going:
            break
    return code, done


@dataclass(kw_only=True)
class Lanes:
    """Sessions side by side: each lane runs its own one after another, with one bar."""

    console: Console
    cwd: Path
    waiting: Mapping[str, list[Session]]
    """By lane: `flash-attn`, or `flash-attn 3.12` where its Pythons run side by side."""
    keep_going: bool
    """Else a failure stops the others: they keep what they compiled."""
    code: int = 0
    """Of the first that failed."""
    done: list[Outcome] = field(default_factory=list)
    _running: dict[str, tuple[Running, Stage]] = field(default_factory=dict)
    _group: process.Together = field(default_factory=process.Together)

    def run(self) -> None:
        """Run all to their end; `code` and `done` tell how."""
        stopped = "failed"
        try:
            with self._group:
                for name in self.waiting:
                    self._next(name)
                for name, event in self._group.events(every=_LOOK_SECONDS):
                    self._look()
                    if isinstance(event, str):
                        self._line(name, event)
                    elif event is not None:
                        self._ended(name, event)
        except (KeyboardInterrupt, SystemExit):
            stopped = "stopped"
            raise
        finally:
            for one, stage in self._running.values():
                one.close()
                self.console.end(stage, stopped)

    def _next(self, name: str) -> None:
        """Start the next session of a lane."""
        if not self.waiting[name]:
            return
        one = self.waiting[name].pop(0)
        running = Running(one, beside=True)
        stage = self.console.begin(name, f"build for Python {one.item.request.python}")
        self._running[name] = running, stage
        self._group.start(name, running.argv, environment=one.environment, cwd=self.cwd)

    def _look(self) -> None:
        """Move the bars to where the builds are."""
        for one, stage in self._running.values():
            step = one.progress()
            if step:
                stage.update(step.done, step.total, step.note, left=step.left)

    def _line(self, name: str, line: str) -> None:
        """Show a line of a session."""
        one, _ = self._running[name]
        self.console.say(f"{name}: {line.removeprefix(f'{one.item.request.project}: ')}")

    def _ended(self, name: str, ended: int) -> None:
        one, stage = self._running.pop(name)
        try:
            outcome = one.outcome(ended)
        finally:
            one.close()
        code = outcome.code
        stopping = bool(self.code) and not self.keep_going
        self.console.end(stage, "done" if not code else "stopped" if stopping else "failed")
        if not code:
            self.done.append(outcome)
        self.code = self.code or code
        if self.keep_going or not self.code:
            self._next(name)
        elif not stopping and self._running:
            names = ", ".join(self._running)
            self.console.say(
                f"{names}: stopped, because {name} failed; what was compiled is kept"
                " (--keep-going lets it end)"
            )
            self._group.stop()
