"""A build tree goes on only with what its objects were made with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blackwheel.console import Quiet
from blackwheel.continued import begin_anew_unless_same
from blackwheel.workshop import Workshop

MADE = {"torch": "2.11.0 aa", "toolchain": "bb", "compiler": "gcc 12.2.0"}


def begin(store: Path, now: dict[str, str]) -> tuple[bool, list[str]]:
    """Tell whether the tree's object is still there, and what was said."""
    workshop, console = Workshop(root=store / "builds/s/toy/cp312"), Quiet()
    begin_anew_unless_same(
        workshop, now, store=store, slug="s/toy/cp312", project="toy", console=console
    )
    kept = (workshop.src / "one.o").exists()
    for folder in (workshop.src, workshop.work):
        folder.mkdir(exist_ok=True)
    (workshop.src / "one.o").touch()
    workshop.records.write_text('{"source": "one.cu"}\n', encoding="utf-8")
    return kept, console.lines


def test_tree_is_continued_with_the_same(tmp_path: Path) -> None:
    assert begin(tmp_path, MADE) == (False, [])
    assert begin(tmp_path, MADE) == (True, [])


@pytest.mark.parametrize("name", MADE)
def test_tree_of_another_torch_toolkit_or_compiler_begins_anew(tmp_path: Path, name: str) -> None:
    begin(tmp_path, MADE)
    said = f"toy: its build tree was made with another {name}: all is compiled anew"
    assert begin(tmp_path, {**MADE, name: "other"}) == (False, [said])
    assert begin(tmp_path, {**MADE, name: "other"}) == (True, [])
    (history,) = (tmp_path / "history/toy").iterdir()
    assert json.loads(history.read_text(encoding="utf-8")) == {"source": "one.cu"}


@pytest.mark.parametrize("text", [None, "", "{"])
def test_tree_of_which_nobody_knows_begins_anew(tmp_path: Path, text: str | None) -> None:
    begin(tmp_path, MADE)
    path = tmp_path / "builds/s/toy/cp312/made-with.json"
    path.unlink() if text is None else path.write_text(text, encoding="utf-8")
    said = "toy: its build tree was made with nobody knows what: all is compiled anew"
    assert begin(tmp_path, MADE) == (False, [said])
