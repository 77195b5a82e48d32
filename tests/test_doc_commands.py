"""Every line of the pages that begins with `invoke` is one that the program reads."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest
from doc_scripts import script

from blackwheel.commands import words
from blackwheel.core.errors import BlackwheelError

ROOT = Path(__file__).parents[1]
TASKS = script("commands").tasks()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def typed(text: str) -> list[str]:
    """The lines of a page's code blocks that begin with `invoke`."""
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    found = re.findall(r"^ *(?:- run: )?invoke ([a-z].*)$", blocks, re.MULTILINE)
    return [line for line in found if not line.startswith("-")]


def until_a_pipe(line: str) -> list[str]:
    """The words of a line, less its comment and what a shell does with its output."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    return list(itertools.takewhile(lambda word: not set(word) <= set("|&;<>"), lexer))


def refused(line: str) -> str:
    """The name of the error for a line; empty where it is read."""
    verb, *rest = until_a_pipe(line)
    if verb not in TASKS:
        return f"no command {verb}"
    try:
        words.read("invoke", verb, TASKS[verb].options, rest)
    except BlackwheelError as error:
        return error.name
    return ""


def test_pages_hold_no_command_that_is_refused() -> None:
    lines = {line: page.name for page in PAGES for line in typed(page.read_text("utf-8"))}
    assert len(lines) > 40
    assert {f"{page}: {line}": why for line, page in lines.items() if (why := refused(line))} == {}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("publish --to /srv --yess", "unknown-option"),
        ("bulid-wheels", "no command bulid-wheels"),
        ("audit", "word-missing"),
        ("plan --stack stable   # a comment", ""),
        ("plan --arch '9.0;12.0a' > plan.txt && echo done", ""),
    ],
)
def test_line_that_is_typed_wrong_is_found(line: str, name: str) -> None:
    assert refused(line) == name
