"""A build tree goes on only with what its objects were made with."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from blackwheel.builder import reuse
from blackwheel.builder.reuse import begin_anew_unless_same
from blackwheel.builder.workspace import Workshop
from blackwheel.core.console import Quiet
from blackwheel.toolchain.host_compiler import Compiler

MADE = {"torch": "2.11.0 aa", "toolkit": "bb", "host compiler": "gcc 12.2 cc"}


def begin(store: Path, now: dict[str, str]) -> tuple[bool, list[str]]:
    """Tell whether the tree's object is still there, and what was said."""
    workshop, console = Workshop(root=store / "builds/s/toy/cp312"), Quiet()
    begin_anew_unless_same(
        workshop,
        now,
        store=store,
        slug="s/toy/cp312",
        project="toy",
        objects="build/temp*",
        console=console,
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
    said = f"toy: its build tree was made with other {name}: everything is compiled again"
    assert begin(tmp_path, {**MADE, name: "other"}) == (False, [said])
    assert begin(tmp_path, {**MADE, name: "other"}) == (True, [])
    (history,) = (tmp_path / "history/toy").iterdir()
    assert json.loads(history.read_text(encoding="utf-8")) == {"source": "one.cu"}


@pytest.mark.parametrize("text", [None, "", "{"])
def test_tree_of_which_nobody_knows_begins_anew(tmp_path: Path, text: str | None) -> None:
    begin(tmp_path, MADE)
    path = tmp_path / "builds/s/toy/cp312/made-with.json"
    path.unlink() if text is None else path.write_text(text, encoding="utf-8")
    said = "toy: its build tree does not say what it was made with: everything is compiled again"
    assert begin(tmp_path, MADE) == (False, [said])


def test_tree_with_a_file_of_tomorrow_begins_anew(tmp_path: Path) -> None:
    begin(tmp_path, MADE)
    tomorrow = time.time() + 86400
    os.utime(tmp_path / "builds/s/toy/cp312/src/one.o", (tomorrow, tomorrow))
    said = (
        "toy: its build tree holds files of a later time than now (the clock was set back):"
        " everything is compiled again"
    )
    assert begin(tmp_path, MADE) == (False, [said])
    assert begin(tmp_path, MADE) == (True, [])


def test_other_settings_alone_let_cmake_configure_again_and_keep_the_objects(
    tmp_path: Path,
) -> None:
    begin(tmp_path, {**MADE, "settings": "one"})
    cache = tmp_path / "builds/s/toy/cp312/src/build/temp.linux/vllm/CMakeCache.txt"
    cache.parent.mkdir(parents=True)
    cache.touch()
    assert begin(tmp_path, {**MADE, "settings": "one"}) == (True, [])
    assert cache.exists()
    assert begin(tmp_path, {**MADE, "settings": "two"}) == (True, [])
    assert not cache.exists()


def test_tree_whose_removal_was_cut_short_is_not_continued_when_the_change_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path, MADE)

    def cut_short(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(reuse.shutil, "rmtree", cut_short)
        begin(tmp_path, {**MADE, "torch": "other"})
    said = "toy: its build tree does not say what it was made with: everything is compiled again"
    assert begin(tmp_path, MADE) == (False, [said])


def test_compiler_that_a_wrapper_changes_is_another_one(tmp_path: Path) -> None:
    """It says the same version: only its bytes tell."""
    wrapper = tmp_path / "g++"
    wrapper.write_text('#!/bin/sh\nexec /usr/bin/g++ -DX "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    real, wrapped = (
        reuse._identity(Compiler(path=path, kind="gcc", version="12.2"), {})
        for path in (Path("/usr/bin/g++"), wrapper)
    )
    assert real.split()[1] == wrapped.split()[1] == "12.2"
    assert real.split()[2] != wrapped.split()[2]
    assert real.split()[3] == wrapped.split()[3], "cc1plus"
