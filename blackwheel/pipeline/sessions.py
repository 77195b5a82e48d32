"""Starts nox sessions: one on this terminal, or several at the same time in lanes."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from blackwheel.core import process
from blackwheel.core.console import Console
from blackwheel.core.entry import EXIT_FILE
from blackwheel.core.progress import BESIDE, Stage
from blackwheel.core.site import Site
from blackwheel.pipeline.todo import Work

_PROGRESS: Final = re.compile(r"compile: (\d+)/(\d+)(?:,|$)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One nox session, for one piece of work."""

    item: Work
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    exit_file: Path
    """Where the command inside leaves its exit code: nox ends with 1 whatever that was."""

    def code(self, ended: int) -> int:
        """Return the exit code of the command inside, and remove its file."""
        if ended and self.exit_file.exists():
            ended = int(self.exit_file.read_text(encoding="ascii"))
        self.exit_file.unlink(missing_ok=True)
        return ended


def session(site: Site, name: str, item: Work, options: Sequence[str]) -> Session:
    """Return a session and its command."""
    exit_file = site.store / f"exit-{item.key.digest[:16]}"
    exit_file.parent.mkdir(parents=True, exist_ok=True)
    exit_file.unlink(missing_ok=True)
    words = ["--stack", item.request.stack.name, "--python", item.python.where, *options]
    return Session(
        item=item,
        argv=(sys.executable, "-m", "nox", "--session", name, "--", *words),
        environment={**site.environment, EXIT_FILE: str(exit_file)},
        exit_file=exit_file,
    )


def alone(site: Site, one: Session) -> int:
    """Run one session on this terminal; return the exit code of the command inside."""
    ended = process.hand_over(one.argv, environment=one.environment, cwd=site.checkout)
    return one.code(ended)


def run(
    site: Site, lanes: Mapping[str, Sequence[Session]], *, keep_going: bool
) -> tuple[int, list[Work]]:
    """Run lanes side by side; return the exit code of the first failure, and the finished work."""
    if len(lanes) > 1:
        waiting = {name: list(sessions) for name, sessions in lanes.items()}
        beside = Lanes(
            console=site.console, cwd=site.checkout, waiting=waiting, keep_going=keep_going
        )
        beside.run()
        return beside.code, beside.done
    code, done = 0, []
    for one in (one for sessions in lanes.values() for one in sessions):
        ended = alone(site, one)
        if ended == 0:
            done.append(one.item)
        code = code or ended
        if ended and not keep_going:
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
    done: list[Work] = field(default_factory=list)
    _running: dict[str, tuple[Session, Stage]] = field(default_factory=dict)
    _group: process.Together = field(default_factory=process.Together)

    def run(self) -> None:
        """Run all to their end; `code` and `done` tell how."""
        stopped = "failed"
        try:
            with self._group:
                for name in self.waiting:
                    self._next(name)
                for name, event in self._group.events():
                    if isinstance(event, str):
                        self._line(name, event)
                    else:
                        self._ended(name, event)
        except (KeyboardInterrupt, SystemExit):
            stopped = "stopped"
            raise
        finally:
            for one, stage in self._running.values():
                one.exit_file.unlink(missing_ok=True)
                self.console.end(stage, stopped)

    def _next(self, name: str) -> None:
        """Start the next session of a lane."""
        if not self.waiting[name]:
            return
        one = self.waiting[name].pop(0)
        stage = self.console.begin(name, f"build for Python {one.item.request.python}")
        self._running[name] = one, stage
        environment = {**one.environment, BESIDE: "1"}
        self._group.start(name, one.argv, environment=environment, cwd=self.cwd)

    def _line(self, name: str, line: str) -> None:
        """Show a line of a session, or how far it is."""
        one, stage = self._running[name]
        line = line.removeprefix(f"{one.item.request.project}: ")
        step = _PROGRESS.match(line)
        if step:
            stage.update(int(step[1]), int(step[2]))
        else:
            self.console.say(f"{name}: {line}")

    def _ended(self, name: str, code: int) -> None:
        one, stage = self._running.pop(name)
        code = one.code(code)
        stopping = bool(self.code) and not self.keep_going
        self.console.end(stage, "done" if not code else "stopped" if stopping else "failed")
        if not code:
            self.done.append(one.item)
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
