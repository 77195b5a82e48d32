"""Writes progress and messages to stderr, results to stdout; draws a bar only on a terminal."""

# ruff: noqa: PLC0415  rich takes 0.1 s to import: only what draws a bar or a table pays for it.

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from blackwheel.core import tables
from blackwheel.core.actions import Actions
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.plain_text import one_line, printable
from blackwheel.core.progress import Relay, Stage, fitting
from blackwheel.core.units import duration

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType
    from rich.live import Live

BAR_WIDTH: Final = 30
_BAR_LEAST: Final = 6
_RED: Final = "\x1b[1;31m"
_BOLD: Final = "\x1b[1m"
_RESET: Final = "\x1b[0m"
_STYLES: Final = {"done": "green", "failed": "bold red"}
_MARKS: Final = {"done": ("\N{CHECK MARK}", "\x1b[32m"), "failed": ("\N{BALLOT X}", _RED)}


class Console:
    """Output of one process to a person: messages, results, questions and bars.

    A bar is drawn when `err` is a terminal that can move its cursor; NO_COLOR takes the colours.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str],
        out: TextIO | None = None,
        err: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environment = environment
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._clock = clock
        self._stages: list[Stage] = []
        self._live: Live | None = None
        self.relay: Relay | None = None
        """Where another command shows it: gets lines for people and steps, but no results."""
        self._actions = Actions(environment)
        self.is_terminal = self._err.isatty() and environment.get("TERM", "dumb") != "dumb"

    def say(self, line: str) -> None:
        """Write one line to stderr, above the bar if there is one."""
        self._say(printable(line))

    def _say(self, line: str) -> None:
        if self.relay is not None:
            self.relay.said(line)
        elif self._live is not None:
            self._live.console.print(line, soft_wrap=True)
        else:
            with contextlib.suppress(OSError):  # what cannot be said changes nothing that is done
                _write(self._err, line + "\n")

    def error(self, error: BlackwheelError) -> None:
        """Write name, fact, place and cure to stderr."""
        text = printable(str(error))
        if self._coloured(self._err):
            head, newline, rest = text.partition("\n")
            word, colon, name = head.partition(":")
            text = f"{_RED}{word}{colon}{_RESET}{_BOLD}{name}{_RESET}{newline}{rest}"
        self._say(text)
        if self.relay is None:
            self._actions.block(str(error))

    def result(self, text: str) -> None:
        """Write a result to stdout."""
        _write(self._out, printable(text) + "\n")

    def prose(self, text: str) -> None:
        """Write results in sentences to stdout; a terminal gets lines that end between words."""
        text, width = printable(text), self._columns()
        if width:
            text = "\n".join(tables.wrapped(line, width) for line in text.split("\n"))
        _write(self._out, text + "\n")

    def _columns(self) -> int:
        """Return the width of the terminal, 0 where results go elsewhere."""
        named = self._environment.get("COLUMNS", "")
        if not self._out.isatty():
            return 0
        with contextlib.suppress(OSError):
            return (
                int(named)
                if named.isdecimal()
                else os.get_terminal_size(self._out.fileno()).columns
            )
        return 0

    def summary(self, text: str) -> None:
        """Write the result of a whole run to stdout, on GitHub to the step's summary, too."""
        self.result(text)
        self._actions.block(text)

    def json(self, value: Any) -> None:
        """Write one JSON document to stdout; a value that JSON lacks (a path) as its text."""
        self.result(json.dumps(value, indent=2, ensure_ascii=False, default=str))

    def document(self, what: str, **content: Any) -> None:
        """Write a JSON document that names its schema first: `blackwheel.<what>/1`."""
        self.json({"schema": f"blackwheel.{what}/1", **content})

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        narrow: Callable[[int], Sequence[str]] | None = None,
    ) -> None:
        """Write a table to stdout.

        Where it is wider than the terminal: the lines that `narrow` makes for that width, else one
        block a row.
        """
        cells = [[one_line(cell) for cell in row] for row in rows]
        lines = [printable(title)] if title else []
        lines += tables.laid_out(self._rich(self._out), columns, cells, narrow)
        _write(self._out, "\n".join(lines) + "\n")
        self._actions.table(title, columns, rows)

    def ask(self, question: str) -> bool:
        """Ask a person for a yes; without one at a terminal the answer is no."""
        if not (sys.stdin.isatty() and self._err.isatty()):
            return False
        _write(self._err, f"{question} [y/N] ")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextlib.contextmanager
    def stage(self, project: str, text: str) -> Iterator[Stage]:
        """Announce the start and the end of a project's stage, and show its progress between."""
        stage = self.begin(project, text)
        verb = "failed"
        try:
            yield stage
            verb = "done"
        except (KeyboardInterrupt, SystemExit):
            verb = "stopped"
            raise
        finally:
            self.end(stage, verb)

    def begin(self, project: str, text: str) -> Stage:
        """Begin a stage that `end` ends, for stages that run at the same time."""
        stage = Stage(project, text, clock=self._clock, tell=self._tell, relay=self.relay)
        if self.relay is not None:
            self.relay.began(project, text)
        else:
            for line in self._actions.begin(f"{project}: {text}"):
                self._tell(line)
            self._tell(f"{project}: {text}")  # a bar says it on a terminal
        self._show(stage)
        return stage

    def rename(self, stage: Stage, text: str) -> None:
        """Begin a stage anew as another part of the same work."""
        stage.rename(text)
        self._tell(f"{stage.project}: {text}")

    def end(self, stage: Stage, verb: str) -> None:
        """End a stage: `done`, `failed` or `stopped`."""
        self._hide(stage)
        if self.relay is not None:
            self.relay.ended(stage.last_line(verb), verb)
        else:
            for line in self._actions.end():
                self._tell(line)
            self.step(stage.last_line(verb), verb, stage.elapsed)

    def step(self, line: str, verb: str, seconds: float | None = None) -> None:
        """Write the last line of a stage, on a terminal with a mark that tells how it ended."""
        self._actions.step(line, verb, seconds)
        mark, colour = _MARKS.get(verb, ("", ""))
        if not self.is_terminal or not mark or not _can_write(self._err, mark):
            self.say(line)
        elif self._coloured(self._err) and self._live is None:
            self._say(f"{colour}{mark}{_RESET} {printable(line)}")
        elif self._live is not None:
            from rich.text import Text

            text = Text.assemble((mark, _STYLES[verb]), " ", printable(line))
            self._live.console.print(text, soft_wrap=True)
        else:
            self.say(f"{mark} {line}")

    def _tell(self, line: str) -> None:
        if not self.is_terminal:
            self.say(line)

    def _show(self, stage: Stage) -> None:
        self._stages.append(stage)
        if not self.is_terminal or self._live is not None or self.relay is not None:
            return
        from rich.live import Live

        terminal = self._rich(self._err)
        self._live = Live(
            console=terminal,
            get_renderable=lambda: self._bars(terminal.width),
            transient=True,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        # A run that is killed cannot give the cursor back: it is never hidden.
        terminal.show_cursor(True)

    def _hide(self, stage: Stage) -> None:
        self._stages.remove(stage)
        if self._live is not None and not self._stages:
            self._live.stop()
            self._live = None

    def _bars(self, width: int) -> RenderableType:
        """One line a stage: project, bar, and as much of its parts as the width takes."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        lines = []
        for stage in tuple(self._stages):
            room = max(0, width - len(stage.project) - _BAR_LEAST - 3)
            told = stage.parts() if stage.total else [stage.text, *stage.parts()]
            state = fitting([*told[:3], duration(stage.elapsed), *told[3:]], room)
            bar = max(_BAR_LEAST, min(BAR_WIDTH, width - len(stage.project) - len(state) - 3))
            line = Table.grid(padding=(0, 1, 0, 0))
            line.add_row(
                Text(stage.project, style="bold", no_wrap=True, overflow="ellipsis"),
                ProgressBar(
                    total=stage.total or None,
                    completed=stage.done,
                    width=bar,
                    pulse=not stage.total,
                    animation_time=stage.elapsed,
                ),
                Text(state, no_wrap=True, overflow="ellipsis"),
            )
            lines.append(line)
        return Group(*lines)

    def _coloured(self, stream: TextIO) -> bool:
        if self._environment.get("NO_COLOR") or self._environment.get("FORCE_COLOR"):
            return not self._environment.get("NO_COLOR")
        return stream.isatty() and self._environment.get("TERM", "dumb") != "dumb"

    def _rich(self, stream: TextIO) -> RichConsole:
        from rich.console import Console as RichConsole

        return RichConsole(
            file=stream,
            force_terminal=stream.isatty(),
            no_color=not self._coloured(stream),
            width=None if stream.isatty() else 10_000,
            highlight=False,
            markup=False,
            emoji=False,
            _environ=self._environment,
        )


class Quiet(Console):
    """Console for tests and libraries: keeps its lines instead of writing them."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept_out, self._kept_err = io.StringIO(), io.StringIO()
        super().__init__(environment={}, out=self._kept_out, err=self._kept_err, clock=clock)

    @property
    def lines(self) -> list[str]:
        """Lines that went to stderr."""
        return self._kept_err.getvalue().splitlines()

    @property
    def results(self) -> str:
        """Text that went to stdout."""
        return self._kept_out.getvalue()


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _write(stream: TextIO, text: str) -> None:
    """Write at once, in the stream's own encoding; a reader that left (`| head`) is no fault."""
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # else Python fails once more when it ends
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            raise
