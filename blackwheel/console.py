"""Progress and lines to stderr, results to stdout; a bar on a terminal, plain lines on a pipe."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from blackwheel.errors import BlackwheelError

# ruff: noqa: PLC0415  rich takes 0.1 s to import: only what draws a bar or a table pays for it.
if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType
    from rich.live import Live

QUIET_SECONDS: Final = 30.0
"""On a pipe, a stage says nothing for this long unless another tenth is done."""
BESIDE: Final = "BLACKWHEEL_BESIDE"
"""Set by a run that draws the bars of several builds: each object is told, for it to read."""
BAR_WIDTH: Final = 30
_BAR_LEAST: Final = 6
_RED: Final = "\x1b[1;31m"
_BOLD: Final = "\x1b[1m"
_RESET: Final = "\x1b[0m"


def duration(seconds: float) -> str:
    """`0.4 s`, `42 s`, `8 min 11 s`, `1 h 25 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def size(count: float) -> str:
    """`512 B`, `1.6 KiB`, `183 MiB`, `14 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.1f} {unit}" if unit != "B" and count < 9.95 else f"{round(count)} {unit}"


def seconds_left(*, done: int, total: int, began_at: int, elapsed: float) -> float | None:
    """The time the rest takes at the pace so far; None until the pace is known.

    `began_at` is what was done already when the stage began: a resumed build has no pace from it.
    """
    if done <= began_at or total <= 0 or elapsed <= 0:
        return None
    return elapsed / (done - began_at) * max(0, total - done)


def fitting(parts: Sequence[str], width: int) -> str:
    """The first of `parts` that fit into `width` columns, two spaces between them."""
    text = ""
    for part in filter(None, parts):
        longer = f"{text}  {part}" if text else part
        if len(longer) > width:
            break
        text = longer
    return text


class Stage:
    """One stage of one project while it runs; `Console.stage` makes it."""

    def __init__(
        self,
        project: str,
        text: str,
        *,
        clock: Callable[[], float],
        tell: Callable[[str], None],
        eager: bool = False,
    ) -> None:
        self.project = project
        self.text = text
        self.done = 0
        self.total = 0
        self._note = ""
        self._left: float | None = None
        self._conclusion = ""
        self._began_at: int | None = None
        self._clock = clock
        self._tell = tell
        self._eager = eager
        self._started = self._said = clock()
        self._tenth = 0

    def update(self, done: int, total: int, note: str = "", *, left: float | None = None) -> None:
        """Say how far it is, with jobs and memory in `note`.

        `left` is the seconds that remain, where earlier builds tell them better than the pace.
        """
        if self._began_at is None:
            self._began_at = done
            self._tenth = done * 10 // total if total else 0
        self.done, self.total, self._note, self._left = done, total, note, left
        tenth = done * 10 // total if total else 0
        now = self._clock()
        due = self._eager or tenth > self._tenth or now - self._said >= QUIET_SECONDS
        if done < total and due:
            self._tenth, self._said = tenth, now
            self._tell(f"{self.project}: {self.text}: {', '.join(filter(None, self.parts()))}")

    def conclude(self, text: str) -> None:
        """Set what the last line of the stage adds: `73 objects, 183 MiB`."""
        self._conclusion = text

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._started

    def parts(self) -> list[str]:
        """`12/73`, `16 %`, `42 min left`, the note: the most important first."""
        if not self.total:
            return [str(self.done) if self.done else "", self._note]
        left = self._left
        if left is None:
            left = seconds_left(
                done=self.done,
                total=self.total,
                began_at=self._began_at or 0,
                elapsed=self.elapsed,
            )
        return [
            f"{self.done}/{self.total}",
            f"{100 * self.done // self.total} %",
            "" if left is None else f"{duration(left)} left",
            self._note,
        ]

    def last_line(self, verb: str) -> str:
        """`flash-attn: compile: done in 8 min 11 s, 73 objects`."""
        at = f"at {self.done}/{self.total}" if self.total and self.done < self.total else ""
        tail = self._conclusion if verb == "done" else at
        return f"{self.project}: {self.text}: {verb} {'in' if verb == 'done' else 'after'} " + (
            ", ".join(filter(None, (duration(self.elapsed), tail)))
        )


class Console:
    """What a person sees; one for a process.

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
        self._beside = BESIDE in environment
        self.is_terminal = self._err.isatty() and environment.get("TERM", "dumb") != "dumb"

    def say(self, line: str) -> None:
        """Write one line to stderr, above the bar if there is one."""
        if self._live is not None:
            self._live.console.print(line, soft_wrap=True)
        else:
            _write(self._err, line + "\n")

    def error(self, error: BlackwheelError) -> None:
        """Write name, fact, place and cure to stderr."""
        text = str(error)
        if self._coloured(self._err):
            head, newline, rest = text.partition("\n")
            word, colon, name = head.partition(":")
            text = f"{_RED}{word}{colon}{_RESET}{_BOLD}{name}{_RESET}{newline}{rest}"
        self.say(text)

    def result(self, text: str) -> None:
        """Write what was asked for to stdout."""
        _write(self._out, text + "\n")

    def json(self, value: Any) -> None:
        """Write one JSON document to stdout; what JSON has no form for (a path) as its text."""
        self.result(json.dumps(value, indent=2, ensure_ascii=False, default=str))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table to stdout; where it is wider than the terminal, one block a row."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            table.add_column(column, no_wrap=True)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        rich = self._rich(self._out)
        lines = [title] if title else []
        wanted = rich.measure(table, options=rich.options.update(width=10_000)).maximum
        if wanted > rich.width:
            for row in rows:
                lines += ["", *(f"{c}: {v}" for c, v in zip(columns, row, strict=True) if v)]
        else:
            with rich.capture() as captured:
                rich.print(table, crop=False, overflow="ignore")
            lines += [line.rstrip() for line in captured.get().splitlines()]
        self.result("\n".join(lines))

    def ask(self, question: str) -> bool:
        """Ask a person for a yes; without one at a terminal the answer is no."""
        if not (sys.stdin.isatty() and self._err.isatty()):
            return False
        _write(self._err, f"{question} [y/N] ")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextlib.contextmanager
    def stage(self, project: str, text: str, *, objects: bool = False) -> Iterator[Stage]:
        """Say that a stage of a project begins and ends, and show between them how far it is.

        With `objects` each step is told to a run that draws the bars of several builds.
        """
        stage = self.begin(project, text, eager=objects and self._beside)
        verb = "failed"
        try:
            yield stage
            verb = "done"
        except (KeyboardInterrupt, SystemExit):
            verb = "stopped"
            raise
        finally:
            self.end(stage, verb)

    def begin(self, project: str, text: str, *, eager: bool = False) -> Stage:
        """Begin a stage that `end` ends, for what runs beside others."""
        stage = Stage(project, text, clock=self._clock, tell=self._tell, eager=eager)
        self.say(f"{project}: {text}")
        self._show(stage)
        return stage

    def end(self, stage: Stage, verb: str) -> None:
        """End a stage: `done`, `failed` or `stopped`."""
        self._hide(stage)
        self.say(stage.last_line(verb))

    def _tell(self, line: str) -> None:
        if not self.is_terminal:
            self.say(line)

    def _show(self, stage: Stage) -> None:
        self._stages.append(stage)
        if not self.is_terminal or self._live is not None:
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
            state = fitting([*stage.parts(), duration(stage.elapsed)], room)
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
        return (
            stream.isatty()
            and self._environment.get("TERM", "dumb") != "dumb"
            and not self._environment.get("NO_COLOR")
        )

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
    """A console for tests and libraries: keeps what it would write."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept_out, self._kept_err = io.StringIO(), io.StringIO()
        super().__init__(environment={}, out=self._kept_out, err=self._kept_err, clock=clock)

    @property
    def lines(self) -> list[str]:
        """What went to stderr."""
        return self._kept_err.getvalue().splitlines()

    @property
    def results(self) -> str:
        """What went to stdout."""
        return self._kept_out.getvalue()


def _write(stream: TextIO, text: str) -> None:
    """Write at once, in the stream's own encoding; a reader that left (`| head`) is no fault."""
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
