"""What a stack says of a project is compared with the files of a new release."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from blackwheel.pins import looked_at
from blackwheel.stacks import loader
from blackwheel.stacks.records import Contract

if TYPE_CHECKING:
    from blackwheel.sources.rebase import Rebased

CONSTRAINTS = Path(__file__).parents[2] / "constraints"
STABLE = loader.load("stable", CONSTRAINTS).projects["vllm"]
FLOOR = "if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS {})\n  message(FATAL_ERROR no)\nendif()\n"


def series(*patches: str) -> Rebased:
    held = [SimpleNamespace(content=text.encode()) for text in patches]
    return cast("Rebased", SimpleNamespace(series=SimpleNamespace(patches=held)))


def tree(root: Path, *, reads: str, floor: str, source: str) -> Path:
    (root / "csrc").mkdir(parents=True)
    (root / "setup.py").write_text(f"os.environ[{reads!r}]\n", encoding="utf-8")
    (root / "CMakeLists.txt").write_text(FLOOR.format(floor), encoding="utf-8")
    (root / "csrc" / source).write_text("", encoding="utf-8")
    return root


def test_variables_contracts_and_compiler_of_the_new_release_are_looked_at(tmp_path: Path) -> None:
    contract = Contract(library="_C*.so", older=("old.cu",), why="it is so")
    pin = replace(STABLE, variables={"OLD_NAME": "1"}, contract=(contract,), gcc="11.3")
    old = tree(tmp_path / "old", reads="OLD_NAME", floor="11.3", source="old.cu")
    new = tree(tmp_path / "new", reads="NEW_NAME", floor='"13"', source="new.cu")
    assert list(looked_at.notes(pin, old, new, series())) == [
        "variables.OLD_NAME: the new release reads no variable of that name",
        "contract of _C*.so: old.cu is no file of the new release",
        "gcc: a check of the new release wants 13, the stack says 11.3",
    ]
    read = series("+x = os.environ['OLD_NAME']\n")
    assert list(looked_at.notes(replace(pin, gcc="13", contract=()), old, new, read)) == []
    assert list(looked_at.notes(pin, old, old, series())) == []
