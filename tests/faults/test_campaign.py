"""The short form of `nox -s faults`: one of each kind that does not build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from campaign import report
from campaign.__main__ import LONG
from campaign.kinds import all_kinds

ROOT = Path(__file__).parents[2]
SECONDS = 900


def campaign(base: Path, *words: str) -> subprocess.CompletedProcess[str]:
    folders = ("tests/faults", "tests/toys", "tests/toys/cuda")
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / one) for one in folders)}
    return subprocess.run(
        [sys.executable, "-m", "campaign", "--base", str(base), *words],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.slow
def test_short_campaign_finds_nothing_wrong(tmp_path: Path) -> None:
    done = campaign(tmp_path / "base", "--short", "--results", str(tmp_path / "results"))
    assert done.returncode == 0, done.stderr
    assert ", 0 wrong, seed 16\n" in done.stdout
    kinds = {line.split(" | ")[0] for line in report.page([tmp_path / "results"]).splitlines()}
    wanted = {f"| {name}" for name in all_kinds() if name not in LONG}
    assert wanted <= kinds, "each kind was tried, or says why not"
    assert not list((tmp_path / "base").glob("world-*")), "the worlds are gone"


def test_wrong_outcome_ends_the_campaign_with_1_and_names_injection_and_fault(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "planted"
    folder.mkdir()
    text = (
        "from campaign.kinds import broken\n"
        "def planted(case):\n"
        "    world = case.begin('shelf')\n"
        "    next(iter(world.wheels.glob('toy/*.receipt.json'))).unlink()\n"
        "    case.look()\n"
        "broken.KINDS['planted'] = planted\n"
    )
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    folders = (
        str(folder),
        *(str(ROOT / one) for one in ("tests/faults", "tests/toys", "tests/toys/cuda")),
    )
    done = subprocess.run(
        [sys.executable, "-m", "campaign", "--base", str(tmp_path / "base"), "--only", "planted:0"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "WRONG planted:0" in done.stderr
    assert "has no whole receipt: " in done.stderr
    assert done.stdout == "1 injected, 1 wrong, seed 16\n"


def test_resumed_campaign_leaves_out_what_ended_right_and_tries_the_rest_again(
    tmp_path: Path,
) -> None:
    results = tmp_path / "results.jsonl"
    row = {"kind": "clock", "number": 1, "seed": 16, "skipped": "", "wrong": []}
    later = [
        {**row, "wrong": ["a fault"]},
        {**row, "number": 2, "wrong": ["a fault"]},
        {**row, "number": 3, "seed": 17},
        row,
    ]
    results.write_text("".join(f"{json.dumps(one)}\n" for one in later), encoding="utf-8")
    assert report.right(results, 16) == {("clock", 1)}
    assert report.right(tmp_path / "nothing", 16) == set()


def test_table_is_written_anew_and_what_a_person_wrote_below_it_stays(tmp_path: Path) -> None:
    row = {"kind": "clock", "number": 1, "seed": 16, "skipped": "", "wrong": [], "cpu": 60.0}
    row |= {"part": "toy", "notes": ["clock +9 s"], "revision": "abc"}
    again = {**row, "number": 2, "part": "quickstart: sync", "wrong": ["a fault"]}
    results, page = tmp_path / "results.jsonl", tmp_path / "faults.md"
    results.write_text("".join(f"{json.dumps(one)}\n" for one in (row, again)), encoding="utf-8")
    page.write_text(f"# old\n\n{report.BY_HAND}\nmended: this\n", encoding="utf-8")
    text = report.page([results]) + report.by_hand(page)
    assert "\n| clock | quickstart: sync; toy | 2 | 1 | 2 | 1 | 1 | 16 |\n" in text
    assert "injections that were run at it: abc (2)." in text
    assert text.endswith(f"\n{report.BY_HAND}\nmended: this\n")
    assert report.by_hand(tmp_path / "nothing") == ""
