"""Which findings stop whose wheel, and how many of one name are told."""

from __future__ import annotations

import ast
from pathlib import Path

from blackwheel.audit import findings
from blackwheel.audit.findings import ACCEPTED, MOST, Finding, judged

PACKAGE = Path(findings.__file__).parent


def test_foreign_wheel_passes_where_installers_pass_it() -> None:
    found = (Finding(name="not-native", fact="x"), Finding(name="unsafe-path", fact="y"))
    assert [one.fatal for one in judged(found, own=True)] == [True, True]
    assert [one.fatal for one in judged(found, own=False)] == [False, True]


def test_findings_of_one_name_are_counted_from_some_number_on() -> None:
    many = [Finding(name="x", fact=f"{n}") for n in range(10_000)]
    notes = [Finding(name="x", fact=f"{n}", fatal=False) for n in range(MOST)]
    told = judged([*many, *notes], own=True)
    assert len(told) == 2 * MOST + 1
    assert str(told[-1]) == "x: and 9,950 more like these"
    assert told[-1].fatal


def test_finding_is_safe_to_print() -> None:
    found = Finding(name="x", fact="a\nb\x1b[2J", library="c\n\u202e")
    assert str(found) == "x: c\\u000a\\u202e: a\\u000ab\\u001b[2J"


def test_no_name_is_accepted_that_nothing_is_called() -> None:
    outside = {
        value
        for path in PACKAGE.glob("*.py")
        if path.name != "findings.py"
        for value in _texts(path)
    }
    assert sorted(ACCEPTED - outside) == []


def _texts(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
