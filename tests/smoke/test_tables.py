"""A broken file of kernel checks is refused before a build, with every fault and its line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.smoke.checks import tables

ROOT = Path(__file__).parents[2]
GOOD = """\
from .helper import borrowed

def scale(kit): ...

CHECKS = {"scale": scale, "borrowed": borrowed}
CLAIMS: dict = {"passes": ("TOY_PASSES", "fwd,bwd")}
NEEDS = {"*": ("passes", "fwd"), "scale": ("passes", "bwd")}
UNSEEN = {"scale": "no GPU has run it yet"}
"""


def checks(folder: Path, text: str = GOOD, helper: str = "def borrowed(kit): ...\n") -> Path:
    place = folder / "patches" / "toy"
    place.mkdir(parents=True, exist_ok=True)
    (place / "helper.py").write_text(helper, encoding="utf-8")
    (place / "checks.py").write_text(text, encoding="utf-8")
    return place / "checks.py"


def refused(file: Path) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        tables.require(file)
    return caught.value


def test_good_file_holds_and_its_tables_are_read(tmp_path: Path) -> None:
    file = checks(tmp_path)
    tables.require(file)
    assert tables.table_of(file, "CHECKS") == {"scale": "scale", "borrowed": "borrowed"}
    assert tables.table_of(file, "CLAIMS") == {"passes": ("TOY_PASSES", "fwd,bwd")}
    assert tables.table_of(file, "LOST") == {}


def test_syntax_error_is_named_with_its_line_and_nothing_is_run(tmp_path: Path) -> None:
    text = GOOD.replace("def scale(kit): ...", "raise SystemExit(7)\n\ndef scale(kit) ...")
    file = checks(tmp_path, text)
    for found in (refused(file), _refused_table(file)):
        assert str(found) == (
            "error: bad-checks\n"
            "  1 fault:\n"
            "  line 5: expected ':'\n"
            "  where: patches/toy/checks.py\n"
            "  fix:   correct what is named above; docs/add-a-project.md shows the form"
        )
        assert found.code == Exit.CONFIG


def _refused_table(file: Path) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        tables.table_of(file, "CHECKS")
    return caught.value


def test_syntax_error_of_a_file_beside_it_is_refused_too(tmp_path: Path) -> None:
    found = refused(checks(tmp_path, helper="def borrowed(kit:\n"))
    assert found.where == "patches/toy/helper.py"
    assert "line 1: '(' was never closed" in found.fact


def test_all_faults_of_the_tables_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace('"scale": scale, ', '"scale": scal, ').replace('("passes", "fwd")', '"fwd"')
    text = text.replace('{"scale": "no', '{"scales": "no')
    assert refused(checks(tmp_path, text)).fact.splitlines() == [
        "3 faults:",
        "CHECKS: 'scale': no function scal; did you mean 'scale'?",
        "NEEDS: '*': two words are wanted",
        "UNSEEN: no check 'scales'; did you mean 'scale'?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (GOOD[GOOD.index("CHECKS") :], "", "CHECKS: missing, or it names no check"),
        ('{"scale": scale, "borrowed": borrowed}', "dict(scale=scale)", "a dict of literals"),
        ('"borrowed": borrowed}', '"scale": borrowed}', "CHECKS: 'scale' is there twice"),
        ('"borrowed": borrowed}', '"borrowed": print("x")}', "the name of a function is wanted"),
        ('"borrowed": borrowed}', "**{}}", "a dict of literals is wanted"),
        ('("TOY_PASSES", "fwd,bwd")', "open('x')", "CLAIMS: open('x') is no literal"),
        ('("TOY_PASSES", "fwd,bwd")', '("TOY_PASSES",)', "CLAIMS: 'passes': two words are wanted"),
        ('"*": ("passes"', '"*": ("pass"', "NEEDS: '*': no claim 'pass'; did you mean 'passes'?"),
        ('"*": (', '"scal": (', "NEEDS: no check 'scal'; did you mean 'scale'?"),
        ("def scale", f"x = {'(' * 400}1{')' * 400}\ndef scale", "too many nested parentheses"),
        ("def scale", "# \0\ndef scale", "null bytes"),
        ("def scale", f"# {'x' * (1 << 20)}\ndef scale", "longer than 1048576 bytes"),
    ],
)
def test_each_fault_is_named(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert GOOD.count(old) == 1
    assert fault in refused(checks(tmp_path, GOOD.replace(old, new))).fact


def test_checks_of_the_tree_hold() -> None:
    files = sorted((ROOT / "patches").glob("*/checks.py"))
    assert len(files) >= 2
    for file in files:
        tables.require(file)


def test_program_that_runs_checks_ends_with_the_error_and_no_traceback(tmp_path: Path) -> None:
    file = checks(tmp_path, GOOD.replace("def scale(kit)", "def scale(kit"))
    argv = [sys.executable, "-m", "blackwheel.smoke.checks", "--checks", str(file)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.CONFIG
    assert done.stderr.startswith("error: bad-checks\n")
    assert "Traceback" not in done.stderr
