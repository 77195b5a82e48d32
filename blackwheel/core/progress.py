"""Measures the progress of one stage of one project, and words it for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from blackwheel.core.units import duration, size

QUIET_SECONDS: Final = 60.0
"""On a pipe, a stage says nothing for this long unless another tenth is done."""
LEAST_SECONDS: Final = 5.0
"""On a pipe, a stage says nothing for this long in any case."""
_LEAST_CUT: Final = 8
"""Fewer letters of a part say nothing."""
_BYTES: Final = {"KiB": 1 << 10, "MiB": 1 << 20}
"""A note that begins with one of these says what `done` and `total` count."""


class Relay(Protocol):
    """Hands lines and steps to the command that started this process, and shows them there."""

    def said(self, line: str) -> None:
        """Take one line for people."""

    def began(self, project: str, text: str) -> None:
        """Take the beginning of a stage."""

    def moved(self, done: int, total: int, note: str, left: float | None) -> None:
        """Take a step, as `Stage.update` does."""

    def ended(self, line: str, verb: str) -> None:
        """Take the last line of a stage, and `done`, `failed` or `stopped`."""


def seconds_left(*, done: int, total: int, began_at: int, elapsed: float) -> float | None:
    """Return the time that the rest takes at the pace so far; None until the pace is known.

    `began_at` is what was done already when the stage began: a resumed build has no pace from it.
    """
    if done <= began_at or total <= 0 or elapsed <= 0:
        return None
    return elapsed / (done - began_at) * max(0, total - done)


def fitting(parts: Sequence[str], width: int) -> str:
    """Return the first of `parts` that fit into `width` columns, two spaces between them.

    Of the last one, the files that compile now, the beginning is better than nothing.
    """
    text = ""
    for part in filter(None, parts):
        longer = f"{text}  {part}" if text else part
        if len(longer) > width:
            room = width - len(text) - 3
            if text and part == parts[-1] and room >= _LEAST_CUT:
                return f"{text}  {part[:room].rstrip(' ,')}\N{HORIZONTAL ELLIPSIS}"
            break
        text = longer
    return text


class Stage:
    """One running stage of one project; `Console.stage` makes it."""

    def __init__(
        self,
        project: str,
        text: str,
        *,
        clock: Callable[[], float],
        tell: Callable[[str], None],
        relay: Relay | None = None,
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
        self._relay = relay
        self._started = self._said = clock()
        self._tenth = 0

    def update(self, done: int, total: int, note: str = "", *, left: float | None = None) -> None:
        """Report the progress, with jobs and memory in `note`.

        `left` is the seconds that remain, where earlier builds tell them better than the pace.
        """
        if self._began_at is None:
            self._began_at = done
            self._tenth = done * 10 // total if total else 0
        self.done, self.total, self._note, self._left = done, total, note, left
        if self._relay is not None:
            self._relay.moved(done, total, note, left)
            return
        tenth = done * 10 // total if total else 0
        now = self._clock()
        silent = now - self._said
        due = silent >= (LEAST_SECONDS if tenth > self._tenth else QUIET_SECONDS)
        if done < total and due:
            self._tenth, self._said = tenth, now
            self._tell(f"{self.project}: {self.text}: {', '.join(filter(None, self.parts()))}")

    def rename(self, text: str) -> None:
        """Begin anew as another part of the same work: `download and install`, then `compile`."""
        self.text, self._began_at, self._tenth = text, None, 0
        self.done, self.total, self._note, self._left = 0, 0, "", None

    def conclude(self, text: str) -> None:
        """Set the text that the last line of the stage adds: `73 objects, 183 MiB`."""
        self._conclusion = text

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._started

    def parts(self) -> list[str]:
        """Return `12/73`, `16 %`, `42 min left` and the note, the most important first."""
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
        unit, _, rest = self._note.partition(", ")
        many = _BYTES.get(unit, 0)
        return [
            f"{size(self.done * many)} of {size(self.total * many)}"
            if many
            else f"{self.done}/{self.total}",
            f"{100 * self.done // self.total} %",
            "" if left is None else f"{duration(left)} left",
            rest if many else self._note,
        ]

    def last_line(self, verb: str) -> str:
        """Return the closing line: `flash-attn: compile: done in 8 min 11 s, 73 objects`."""
        at = f"at {self.done}/{self.total}" if self.total and self.done < self.total else ""
        tail = self._conclusion if verb == "done" else at
        return f"{self.project}: {self.text}: {verb} {'in' if verb == 'done' else 'after'} " + (
            ", ".join(filter(None, (duration(self.elapsed), tail)))
        )
