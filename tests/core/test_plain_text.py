"""What others wrote reaches a terminal as letters, never as commands."""

from __future__ import annotations

import io
import json

import pytest

from blackwheel.core.console import Console, Quiet
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.plain_text import one_line, printable

HOSTILE = {
    "\x1b[2J": "\\u001b[2J",  # clears the screen
    "\x1b]0;title\x07": "\\u001b]0;title\\u0007",
    "\x9b31m": "\\u009b31m",  # the same in one byte
    "a\rb": "a\\u000db",
    "\u202egnp.exe": "\\u202egnp.exe",  # reads from right to left
    "\u2066x\u2069": "\\u2066x\\u2069",
    "a\u2028b": "a\\u2028b",
    "\udcff": "\\udcff",
    "\U000e0041": "\\udb40\\udc41",  # a tag character
    "\x7f": "\\u007f",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_terminal_obeys_is_spelled(text: str) -> None:
    assert printable(text) == HOSTILE[text]
    assert one_line(text) == HOSTILE[text]


@pytest.mark.parametrize("text", ["", "plain", "größer → ≤", "日本語", "a b"])
def test_letters_stay_as_they_are(text: str) -> None:
    assert printable(text) == one_line(text) == text


def test_name_cannot_draw_a_line_of_its_own() -> None:
    assert printable("a\nb\tc") == "a\nb\tc"
    assert one_line("a\nb\tc") == "a\\u000ab\\u0009c"


@pytest.mark.parametrize("coloured", [False, True])
def test_console_prints_no_escape_of_others(
    coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = io.StringIO(), io.StringIO()
    for stream in (out, err):
        monkeypatch.setattr(stream, "isatty", lambda: coloured)
    console = Console(environment={"TERM": "xterm"}, out=out, err=err)
    evil = "\x1b[31mevil\u202e\x9b"
    console.say(evil)
    console.result(evil)
    console.table(evil, ["library"], [(evil,), ("x" * 200,)])
    console.error(BlackwheelError("evil", evil, where=evil))
    for text in (out.getvalue(), err.getvalue()):
        assert "\x1b[31mevil" not in text
        assert "\u202e" not in text
        assert "\x9b" not in text
        assert "\\u001b[31mevil" in text


def test_json_with_such_letters_is_still_json() -> None:
    console = Quiet()
    console.json({"name": "a\x9b\u202e\nb"})
    assert json.loads(console.results) == {"name": "a\x9b\u202e\nb"}
    assert "\x9b" not in console.results
