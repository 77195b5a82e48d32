"""Starts nox sessions in lanes, and shows their steps, and a bar for each.

A session is handed one file (`session_file`) and answers with another (`session_records`). What nox
and the tools below it print goes to a log.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from blackwheel.core import process
from blackwheel.core.progress import Stage
from blackwheel.core.redact import masked, secrets_of
from blackwheel.core.site import Site
from blackwheel.pipeline import session_file
from blackwheel.pipeline.session_file import Order
from blackwheel.pipeline.session_records import (
    Ended,
    Made,
    Progress,
    Reader,
    Record,
    Said,
    StageBegan,
    StageEnded,
)
from blackwheel.pipeline.todo import Work

_LOOK_SECONDS: Final = 0.25
"""Between two looks at the progress of sessions that say nothing else; a bar is drawn as often."""

_TAIL: Final = 30
"""Lines of a log that are shown where a session fails without an error of ours."""


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

    def __init__(self, one: Session) -> None:
        self.item = one.item
        self.text = ""
        """What the whole of it is called, between its stages."""
        self.log = one.store / "logs" / f"{one.name}.log"
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._sink = self.log.open("w", encoding="utf-8", buffering=1)
        self._secrets = secrets_of(one.environment)
        self.file = session_file.hand(one.store, one.name, one.order)
        self.argv = (*one.command, str(self.file))
        self._reader = Reader(session_file.records_of(self.file))
        self._wheel: Path | None = None
        self._code = 0

    def shown(self) -> Iterator[Record]:
        """Read the new records; keep the results, and yield those for people."""
        for record in self._reader.read():
            if isinstance(record, Made):
                self._wheel = record.wheel
            elif isinstance(record, Ended):
                self._code = record.code or self._code
            else:
                yield record

    @property
    def named(self) -> bool:
        """The command inside has told its exit code: its error has been said."""
        return self._code != 0

    def outcome(self, ended: int) -> Outcome:
        """Return the result, by the code that the command inside told: nox's own may be another."""
        for _ in self.shown():
            pass
        return Outcome(item=self.item, code=ended and (self._code or ended), wheel=self._wheel)

    def keep(self, line: str) -> None:
        """Keep a line of nox or of the tools below it: it explains a failure that nobody named."""
        line = masked(line, self._secrets)
        self.tail.append(line)
        self._sink.write(line + "\n")

    def close(self) -> None:
        """Remove its files but for the log."""
        self._sink.close()
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


def run(
    site: Site, lanes: Mapping[str, Sequence[Session]], *, keep_going: bool
) -> tuple[int, list[Outcome]]:
    """Run lanes side by side; return the exit code of the first failure, and all that passed."""
    waiting = {name: list(sessions) for name, sessions in lanes.items()}
    found = Lanes(site=site, waiting=waiting, keep_going=keep_going)
    if waiting:
        found.run()
    return found.code, found.done


@dataclass(kw_only=True)
class Lanes:
    """Sessions side by side: each lane runs its own one after another, with one bar."""

    site: Site
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
                    for running in tuple(self._running):
                        self._look(running)
                    if isinstance(event, str):
                        self._running[name][0].keep(event)
                    elif event is not None:
                        self._ended(name, event)
        except (KeyboardInterrupt, SystemExit):
            stopped = "stopped"
            raise
        finally:
            for one, stage in self._running.values():
                one.close()
                self.site.console.end(stage, stopped)

    def _next(self, name: str) -> None:
        """Start the next session of a lane."""
        if not self.waiting[name]:
            return
        one = self.waiting[name].pop(0)
        running = Running(one)
        what = one.name.partition("-")[0]
        running.text = f"{what} for Python {one.item.request.python}"
        stage = self.site.console.begin(name or one.item.request.project, running.text)
        self._running[name] = running, stage
        self._group.start(name, running.argv, environment=one.environment, cwd=self.site.checkout)

    def _look(self, name: str) -> None:
        """Show the new records of a session."""
        one, stage = self._running[name]
        console, prefix = self.site.console, f"{one.item.request.project}: "
        for record in one.shown():
            if isinstance(record, Progress):
                stage.update(record.done, record.total, record.note, left=record.left)
            elif isinstance(record, StageBegan):
                console.rename(stage, record.text)
            elif isinstance(record, StageEnded):
                line = record.line.removeprefix(prefix)
                console.step(f"{stage.project}: {line}", record.verb)
                stage.rename(one.text)
            elif isinstance(record, Said):
                console.say(self._marked(name, record.line))

    def _marked(self, name: str, line: str) -> str:
        """Say whose line it is, where several say some; an error keeps its form."""
        one, stage = self._running[name]
        prefix = f"{one.item.request.project}: "
        if line.startswith(prefix):
            return f"{stage.project}: {line.removeprefix(prefix)}"
        return f"{stage.project}: {line}" if len(self.waiting) > 1 else line

    def _ended(self, name: str, ended: int) -> None:
        self._look(name)
        one, stage = self._running.pop(name)
        try:
            outcome = one.outcome(ended)
            if outcome.code and not one.named and not self.code:
                for line in one.tail:
                    self.site.console.say(line)
                self.site.console.say(f"log: {one.log}")
        finally:
            one.close()
        code = outcome.code
        stage.rename(one.text)
        stopping = bool(self.code) and not self.keep_going
        self.site.console.end(stage, "done" if not code else "stopped" if stopping else "failed")
        if not code:
            self.done.append(outcome)
        self.code = self.code or code
        if self.keep_going or not self.code:
            self._next(name)
        elif not stopping and self._running:
            names = ", ".join(self._running)
            self.site.console.say(
                f"{names}: stopped, because {name} failed; what was compiled is kept"
                " (--keep-going lets it end)"
            )
            self._group.stop()
