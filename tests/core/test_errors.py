"""An error keeps the words it was raised with; whoever knows more adds a note."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from blackwheel.core.errors import BlackwheelError

PACKAGE = Path(__file__).parents[2] / "blackwheel"


def edits(source: str) -> Iterator[str]:
    """Lines that change a caught error, or that recognise one by the text of its name."""
    for handler in ast.walk(ast.parse(source)):
        if not isinstance(handler, ast.ExceptHandler) or not handler.name:
            continue
        for node in ast.walk(handler):
            places: list[ast.expr] = []
            if isinstance(node, ast.Assign):
                places = node.targets
            elif isinstance(node, ast.AugAssign):
                places = [node.target]
            elif isinstance(node, ast.Compare):
                places = [one for one in (node.left, *node.comparators) if named(one)]
            for place in places:
                if isinstance(place, ast.Attribute) and ast.unparse(place.value) == handler.name:
                    yield f"line {node.lineno}: {ast.unparse(node)}"


def named(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ("name", "fact", "where", "fix")


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_error_is_edited_on_its_way_up_or_recognised_by_its_text(path: Path) -> None:
    assert list(edits(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "error.fix += ' --stack x'",
        "error.fact = 'other'",
        "gone = error.name in ('unknown-stack',)",
        "if 'stale-patch' == error.name: pass",
    ],
)
def test_test_above_sees_them(line: str) -> None:
    source = f"try:\n    f()\nexcept E as error:\n    {line}\n"
    assert len(list(edits(source))) == 1


def test_notes_come_last_and_change_no_field() -> None:
    error = BlackwheelError("stale-patch", "0002 does not apply", where="series", fix="refresh")
    error.add_note("this machine can build: stable")
    error.add_note("there:    a\nnot sent: b")
    assert str(error) == (
        "error: stale-patch\n"
        "  0002 does not apply\n"
        "  where: series\n"
        "  fix:   refresh\n"
        "  note:  this machine can build: stable\n"
        "         there:    a\n"
        "         not sent: b"
    )
    assert (error.fact, error.fix) == ("0002 does not apply", "refresh")
