"""Writes a run for GitHub Actions: folded groups in the log, and the summary of the step.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions has both forms.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from blackwheel.core.plain_text import one_line, printable

LEAST_SECONDS: Final = 5.0
"""A step that took less is not in the summary, unless it failed."""
_MARKS: Final = {"done": "\N{WHITE HEAVY CHECK MARK}", "failed": "\N{CROSS MARK}"}


class Actions:
    """Groups and summary of one process; outside of GitHub Actions nothing of it is written."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.on = environment.get("GITHUB_ACTIONS") == "true"
        file = environment.get("GITHUB_STEP_SUMMARY", "")
        self._summary = Path(file) if self.on and file else None
        self._open = 0

    def begin(self, title: str) -> list[str]:
        """Return the lines before a stage; stages inside of it or beside it make no group."""
        self._open += 1
        return [f"::group::{one_line(title)}"] if self.on and self._open == 1 else []

    def end(self) -> list[str]:
        """Return the lines after a stage."""
        self._open -= 1
        return ["::endgroup::"] if self.on and self._open == 0 else []

    def step(self, line: str, verb: str, seconds: float | None) -> None:
        """Add a stage that ended; None is the time of a session's, which its line tells."""
        if verb != "done" or seconds is None or seconds >= LEAST_SECONDS:
            self._add(f"- {_MARKS.get(verb, verb)} {_text(line)}")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table of results."""
        lines = [f"**{_text(title)}**", ""] if title else []
        lines += [_row([name or " " for name in columns]), _row(["---"] * len(columns))]
        self._add("\n".join(["", *lines, *map(_row, rows), ""]))

    def block(self, text: str) -> None:
        """Add results or an error as they were written."""
        body = printable(text).rstrip("\n").replace("```", "'''")
        self._add(f"\n```text\n{body}\n```\n")

    def _add(self, text: str) -> None:
        if self._summary:
            with contextlib.suppress(OSError), self._summary.open("a", encoding="utf-8") as file:
                file.write(text + "\n")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_text, cells))} |"


def _text(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    shown = one_line(text)
    for mark in "\\`*_[]<>|#":
        shown = shown.replace(mark, f"\\{mark}")
    return shown
