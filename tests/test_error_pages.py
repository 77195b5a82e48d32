"""docs/errors.md has every error of the code, with cause and cure."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_scripts import script

ROOT = Path(__file__).parents[1]


errors = script("errors")


def checkout(folder: Path, body: str) -> Path:
    """Make a checkout of errors.py and one module."""
    core = folder / "blackwheel" / "core"
    core.mkdir(parents=True)
    (core / "errors.py").write_bytes((ROOT / "blackwheel" / "core" / "errors.py").read_bytes())
    head = "from blackwheel.core.errors import BlackwheelError, Exit\n\n"
    (folder / "blackwheel" / "one.py").write_text(head + body, encoding="utf-8")
    (folder / "tasks.py").write_text("", encoding="utf-8")
    return folder


def test_page_has_every_error_that_the_code_raises() -> None:
    assert errors.listed() == errors.table(), "python3 docs/make/errors.py writes the table again"
    assert errors.listed().count("\n| `") > 150


def test_words_are_said_only_of_errors_that_the_code_raises() -> None:
    assert not set(errors.SAID) - set(errors.raised())


def test_error_of_a_function_that_takes_the_name_is_found_where_the_function_is_called(
    tmp_path: Path,
) -> None:
    body = """
def refused(name, fact, *, fix="ask"):
    return BlackwheelError(name, fact, fix=fix, code=Exit.AUDIT)

def act(line):
    raise refused("too-long" if line else "too-short", f"{line.name} has no end")
"""
    found = errors.rows(errors.raised(checkout(tmp_path, body)), {"Exit.AUDIT": 8})
    assert found == [
        ("too-long", "LINE has no end", "ask", "8"),
        ("too-short", "LINE has no end", "ask", "8"),
    ]


def test_name_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    body = 'raise BlackwheelError(NAMES[0], "a fact", fix="a cure", code=Exit.USAGE)\n'
    with pytest.raises(ValueError, match=r"one\.py:3: the name of an error is not readable"):
        errors.raised(checkout(tmp_path, body))


def test_error_without_a_cure_is_refused(tmp_path: Path) -> None:
    body = 'raise BlackwheelError("no-words", "a fact", code=Exit.USAGE)\n'
    found = errors.raised(checkout(tmp_path, body))
    with pytest.raises(ValueError, match=r"say them in errors\.toml: \['no-words'\]"):
        errors.rows(found, {"Exit.USAGE": 2})
