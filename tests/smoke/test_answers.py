"""The answer of a check's process has its shape, or is none; only torch is installed there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blackwheel.smoke.checks import answers, runner

ROOT = Path(__file__).parents[2]
CASE = {"case": "forward", "error": 0.5, "bound": 1.0}
OUTCOME = {"name": "right", "fact": "", "seconds": 1, "cases": [CASE, {"case": "b", "note": "x"}]}
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import blackwheel.smoke.checks.__main__
own = {"__main__", "blackwheel", *sys.stdlib_module_names}
print(sorted({name.partition(".")[0] for name in sys.modules} - own))
"""


def test_checks_import_the_standard_library_alone() -> None:
    # -S: without site-packages, as on a machine where only torch is installed.
    argv = [sys.executable, "-I", "-S", "-c", PROGRAM, str(ROOT)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"name": "right"',
        b"[" * 100_000,
        b"\xff",
        b'"' + b"x" * answers.MOST_BYTES + b'"',
    ],
    ids=["empty", "a list", "cut", "deep", "no text", "large"],
)
def test_what_is_no_object_is_no_answer(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes(data)
    assert answers.written(tmp_path / "result.json") is None


def test_file_that_is_missing_is_no_answer(tmp_path: Path) -> None:
    assert answers.written(tmp_path / "result.json") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": None},
        {"fact": 1},
        {"seconds": "1"},
        {"seconds": True},
        {"cases": {}},
        {"cases": ["forward"]},
        {"cases": [{"error": 1, "bound": 1}]},
        {"cases": [{**CASE, "error": "small"}]},
        {"cases": [{"case": "a", "error": 0.1}]},
        {"cases": [{"case": "a"}]},
    ],
    ids=str,
)
def test_outcome_of_another_shape_is_none(wrong: dict[str, Any]) -> None:
    assert answers.is_outcome(OUTCOME)
    assert not answers.is_outcome({**OUTCOME, **wrong})


def test_facts_need_every_text() -> None:
    facts = {"torch": "2.11.0", "device": "", "capability": "", "driver": ""}
    assert answers.are_facts({**facts, "cuda": None})
    for name in facts:
        assert not answers.are_facts({**facts, name: None})


@pytest.mark.parametrize("answer", [{}, {**OUTCOME, "cases": None}], ids=["empty", "no cases"])
def test_check_with_an_answer_of_another_shape_is_not_right(
    answer: dict[str, Any], tmp_path: Path
) -> None:
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "with open(sys.argv[3]) as asked, open(json.load(asked)['result'], 'w') as result:\n"
        "    result.write(os.environ['ANSWER'])\n"
    )
    program.chmod(0o755)
    variables = {"ANSWER": json.dumps(answer)}
    bench = runner.Bench(python=program, variables=variables, device="cpu", claims={})
    result = runner.run_check(tmp_path / "checks.py", "forward", bench, modules=[])
    assert (result.name, result.fact) == ("raised", "exit code 0")
    facts = runner.device_facts(bench)
    assert (facts["device"], facts["failed"]) == ("", "torch-failed:  (0)")


def test_worst_of_cases_whose_bound_is_nothing_is_the_one_with_an_error() -> None:
    equal = {"case": "equal", "error": 0.0, "bound": 0.0}
    other = {"case": "other", "error": 0.1, "bound": 0.0}
    result = runner.CheckResult(check="values", name="right", cases=(CASE, equal, other))
    assert result.worst == other
    assert runner.cells(result)[2] == "0.1 of 0"
