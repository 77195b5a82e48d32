"""Records a command in a terminal, and draws a moment of it as an SVG picture (make.py)."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI, TerminalTheme
from rich.text import Text

COLUMNS, LINES = 100, 40
MOVES = re.compile(r"\x1b\[(?P<count>\d*)(?P<what>[A-K])|\x1b\[\?\d+[hl]|(?P<colour>\x1b\[[\d;]*m)")

FORM = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
"""Without the font that rich would fetch from elsewhere: any font of equal widths does."""

Record = list[tuple[float, str]]
"""What was written, and how many seconds after the beginning."""


def recorded(argv: Sequence[str], *, cwd: Path, columns: int = COLUMNS) -> Record:
    """Run a command in a terminal of that width, and return what it wrote."""
    started = time.monotonic()
    child, terminal = pty.fork()
    if not child:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
        os.chdir(cwd)
        os.execvp(argv[0], argv)  # noqa: S606  the program that is recorded
    record = []
    while data := _read(terminal):
        record.append((time.monotonic() - started, data.decode("utf-8", "replace")))
    os.waitpid(child, 0)
    return record


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the last program closed it
        return b""


def screen(record: Record, until: float) -> list[str]:
    """Return the lines that a reader sees at that second, with their colours."""
    lines, row, colour = [""], 0, ""
    for kind, text in _pieces("".join(data for at, data in record if at <= until)):
        if kind == "colour":
            colour = text
            lines[row] += text
        elif kind == "up":
            row = max(0, row - int(text or 1))
        elif kind == "clear":
            lines[row] = colour
        elif kind == "newline":
            row += 1
            lines += [colour] * (row + 1 - len(lines))
        elif kind == "return":
            pass  # what follows clears the line, or ends it
        else:
            lines[row] += text
    return lines


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"(\r?\n|\r|\x1b\[[\d;?]*[A-Za-z])", text):
        move = MOVES.fullmatch(part)
        if move and move["colour"]:
            yield "colour", part
        elif move and move["what"] == "A":
            yield "up", move["count"]
        elif move and move["what"] == "K":
            yield "clear", ""
        elif part.endswith("\n"):
            yield "newline", ""
        elif part == "\r":
            yield "return", ""
        elif part and not move:
            yield "text", part


def draw(
    lines: Sequence[str],
    target: Path,
    *,
    title: str,
    columns: int = COLUMNS,
    theme: TerminalTheme = MONOKAI,
) -> None:
    """Write the lines as a picture."""
    console = Console(record=True, width=columns, file=io.StringIO())
    for line in lines:
        text = Text.from_ansi(line)
        for part in text.divide(range(columns, len(text), columns)):
            console.print(part, no_wrap=True)
    svg = console.export_svg(title=title, theme=theme, code_format=FORM, unique_id="t")
    kept = [line.rstrip() for line in svg.splitlines() if "<!--" not in line]
    target.write_text("\n".join(kept) + "\n", encoding="utf-8")
