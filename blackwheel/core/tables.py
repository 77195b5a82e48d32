"""Lays out tables for a terminal or a pipe; rows become blocks where no table fits."""

# ruff: noqa: PLC0415  rich takes 0.1 s to import: only a command that draws a table pays for it.

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

_GAP: Final = 2
_WORDS: Final = re.compile(r"^\s+\S+|\S+")
"""Words of a cell; what it is indented by belongs to the first."""


def wrapped(line: str, width: int, first: str = "", rest: str = "  ") -> str:
    """Return a line broken between words; `first` and `rest` stand before its lines."""
    return textwrap.fill(
        line,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=False,
    )


def laid_out(
    rich: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    narrow: Callable[[int], Sequence[str]] | None = None,
) -> list[str]:
    """Return the lines of a table.

    Where it is wider than the terminal, `narrow` makes its lines. Without it cells break between
    words; where words alone are too wide, each row is a block of its own.
    """
    from rich.table import Table
    from rich.text import Text

    words = [
        max((len(word) for cell in column for word in _WORDS.findall(cell)), default=0)
        for column in zip(columns, *rows, strict=True)
    ]
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column, least in zip(columns, words, strict=True):
        table.add_column(column, no_wrap=True, min_width=least)
    for row in rows:
        table.add_row(*map(Text, row))
    wanted = rich.measure(table, options=rich.options.update(width=10_000)).maximum
    if wanted > rich.width:
        if narrow:
            return list(narrow(rich.width))
        if sum(words) + _GAP * len(words) > rich.width:
            blocks = [[f"{c}: {v}" for c, v in zip(columns, row, strict=True) if v] for row in rows]
            return [line for block in blocks for line in ("", *block)]
        for one in table.columns:
            one.no_wrap = False
    with rich.capture() as captured:
        rich.print(table, crop=False, overflow="ignore")
    return [line.rstrip() for line in captured.get().splitlines()]
