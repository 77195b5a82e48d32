"""The launcher that plans, and what two plans differ in."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from launching import LAUNCHER

from blackwheel.builder.arch_diff import effects
from blackwheel.builder.arch_plan import (
    ArchPlan,
    PlannedObject,
    compiled_texts,
    content,
    groups,
    parse,
)


def compile_as_planned(here: Path, source: Path) -> list[dict[str, object]]:
    """Run `g++ -c` behind the launcher in plan mode; return what it noted."""
    notes = here.parent / "notes.jsonl"
    argv = ["g++", "-c", str(source), "-o", "out/one.o"]
    environment = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(here.parent / "tmp"),
        "BLACKWHEEL_PLAN": str(notes),
    }
    (here / "out").mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [*LAUNCHER, *argv],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def test_planned_object_is_noted_and_left_empty_and_still_links_and_packs(tmp_path: Path) -> None:
    here = tmp_path / "build"
    source = tmp_path / "never.cpp"
    source.write_text("this is no C++\n")
    (note,) = compile_as_planned(here, source)
    assert note["source"] == str(source)
    assert note["object"] == str(here / "out" / "one.o")
    whole = ["-Wl,--whole-archive", "libone.a", "-Wl,--no-whole-archive"]
    for argv in (
        ["ar", "qc", "libone.a", "out/one.o"],
        ["g++", "-shared", "-o", "a.so", *whole],
        ["g++", "-shared", "-o", "one.so", "out/one.o"],
        ["strip", "--strip-unneeded", "one.so"],
    ):
        subprocess.run(argv, cwd=here, check=True)


@pytest.mark.parametrize("where", ["build/CMakeFiles/CMakeScratch/TryCompile-x", "elsewhere"])
def test_trials_of_the_compiler_are_compiled_for_real(tmp_path: Path, where: str) -> None:
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    source = (tmp_path if "CMakeFiles" in where else tmp) / "trial.cpp"
    source.write_text("int trial() { return 1; }\n")
    assert compile_as_planned(tmp_path / where, source) == []
    told = subprocess.run(
        ["nm", "out/one.o"], cwd=tmp_path / where, capture_output=True, text=True, check=True
    )
    assert "trial" in told.stdout


def an_object(source: str, *archs: str, missing: tuple[str, ...] = ()) -> PlannedObject:
    return PlannedObject(
        target="_C", source=source, archs=archs, missing=missing, command=" ".join(archs)
    )


FULL = ArchPlan(
    objects=(
        an_object("csrc/marlin/one.cu", "sm_120a"),
        an_object("csrc/marlin/other.cu", "sm_120a"),
        an_object("csrc/main.cpp"),
    ),
    lists=(("Marlin", "12.0a"),),
    metadata=("Name: toy", "Requires-Dist: torch===2.11.0"),
    files={"toy/__init__.py": "1"},
    texts={"csrc/main.cpp": "1", "csrc/marlin/one.cu": "1"},
)
PTX = tuple(replace(o, archs=("compute_80", "sm_80"), command="") for o in FULL.objects[:2])


@pytest.mark.parametrize(
    ("without", "found"),
    [
        (FULL, ()),
        (
            replace(FULL, objects=(*PTX, FULL.objects[2])),
            ("archs: _C: 2 objects sm_120a → compute_80 PTX, sm_80",),
        ),
        (
            replace(FULL, objects=FULL.objects[1:]),
            ("objects: _C: 1 object of sm_120a only with it",),
        ),
        (
            replace(FULL, objects=(*FULL.objects, an_object("csrc/fa3.cu"))),
            ("objects: _C: 1 object of no arch only without it",),
        ),
        (
            replace(FULL, objects=(*FULL.objects[:2], replace(FULL.objects[2], command="-O0"))),
            ("flags: 1 object with another command line",),
        ),
        (
            replace(FULL, metadata=("Name: toy", "Requires-Dist: torch")),
            ("metadata: Requires-Dist: torch===2.11.0 → Requires-Dist: torch",),
        ),
        (
            replace(FULL, files={"hopper/__init__.py": "2"}),
            (
                "wheel: only with it: toy/__init__.py",
                "wheel: only without it: hopper/__init__.py",
            ),
        ),
        (replace(FULL, files={"toy/__init__.py": "2"}), ("wheel: other bytes: toy/__init__.py",)),
        (
            replace(FULL, texts={**FULL.texts, "csrc/main.cpp": "2"}),
            ("compiled text: csrc/main.cpp",),
        ),
        (
            replace(FULL, failure="x\nRuntimeError: no such arch\nERROR Backend exited"),
            ("configure: succeeds → fails: RuntimeError: no such arch",),
        ),
    ],
)
def test_what_a_patch_changes(without: ArchPlan, found: tuple[str, ...]) -> None:
    assert effects(FULL, without) == found


def test_groups_share_target_folder_and_archs() -> None:
    found = [(group.sources, group.archs, group.count) for group in groups(FULL.objects)]
    assert found == [("csrc/main.cpp", (), 1), ("csrc/marlin/o*.cu", ("sm_120a",), 2)]


def test_plan_survives_the_store() -> None:
    assert parse(json.loads(json.dumps(content(FULL)))) == FULL


def test_texts_follow_includes_by_name(tmp_path: Path) -> None:
    for name, text in {
        "csrc/a.cu": '#include "deep/b.h"\n#include <vector>\n',
        "include/deep/b.h": "# include <c.cuh>\n",
        "other/c.cuh": "",
        "other/b.h": "",
        "unused.h": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = compiled_texts(tmp_path, ["csrc/a.cu", "csrc/gone.cu"])
    assert sorted(found) == ["csrc/a.cu", "include/deep/b.h", "other/c.cuh"]
