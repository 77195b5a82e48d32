"""First lines of public docstrings have the form of CONTRIBUTING.md: a verb, and the thing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "blackwheel"
COLUMNS = 100
QUESTIONS = (
    "What Which Who Whose Where When Why How Whether May Must Can Could Would Should Does Is"
)
ARTICLES = "A An The Each Every All It Its One This That These In On Of At By For With"
NO_NOUN = re.compile(r"\b[Ww]hat\b")
"""A relative clause without its noun: `Return what is free` for `Return the free bytes`."""
CODE = re.compile(r"`[^`]*`")

Kind = Literal["module", "function", "value", "class"]


@dataclass(frozen=True, kw_only=True)
class Docstring:
    name: str
    kind: Kind
    """`value`: a property, which is named and does nothing."""
    first: str
    column: int


def docstrings() -> Iterator[Docstring]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield from found_in(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))


def found_in(text: str, name: str) -> Iterator[Docstring]:
    tree = ast.parse(text)
    yield Docstring(name=name, kind="module", first=first_line(tree), column=3)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
            yield from named(node, name)


def named(node: ast.FunctionDef | ast.ClassDef, where: str) -> Iterator[Docstring]:
    kind: Kind = "class" if isinstance(node, ast.ClassDef) else "function"
    if any("property" in ast.unparse(one) for one in node.decorator_list):
        kind = "value"
    column = node.col_offset + 7
    name = f"{where}:{node.name}"
    yield Docstring(name=name, kind=kind, first=first_line(node), column=column)
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.FunctionDef) and child.name[0] != "_":
                yield from named(child, name)


def first_line(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def faults(one: Docstring) -> list[str]:
    """Say what of the form a first line lacks."""
    words = re.findall(r"[\w'-]+", one.first) or [""]
    found = []
    if not one.first.endswith("."):
        found.append("ends without a period")
    if one.column + len(one.first) > COLUMNS:
        found.append(f"is longer than {COLUMNS} columns")
    if not re.match(r"[A-Z]", one.first):
        found.append("begins without a capital word")
    if words[0] in QUESTIONS.split():
        found.append("begins like a question")
    if NO_NOUN.search(CODE.sub("", one.first)):
        found.append("has `what` in the place of a noun")
    if one.kind in ("module", "function"):
        if words[0] in ARTICLES.split() or words[1:2] == ["of"]:
            found.append("begins with no verb")
        third_person = bool(re.search(r"[^s]s$", words[0]))
        if third_person != (one.kind == "module"):
            form = "`Reads`" if one.kind == "module" else "`Read`"
            found.append(f"begins with no verb of the form {form}")
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_first_lines_of_a_module_begin_with_a_verb_and_name_the_thing(path: Path) -> None:
    text, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
    wrong = [
        f"{one.name}: {one.first!r} {' and '.join(found)}"
        for one in found_in(text, name)
        if (found := faults(one))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("kind", "first", "fault"),
    [
        ("module", "May a build tree be continued: only sometimes.", "question"),
        ("module", "Read wheels.", "`Reads`"),
        ("module", "The torch identity.", "no verb"),
        ("module", "Bytes of torch's libraries.", "no verb"),
        ("function", "Reads a wheel.", "`Read`"),
        ("function", "The wheels on a shelf.", "no verb"),
        ("function", "Digest of a file.", "no verb"),
        ("function", "`120a`.", "capital"),
        ("function", "Return what is free.", "noun"),
        ("function", "Return the free bytes", "period"),
        ("function", f"Return {'x' * 100}.", "longer"),
        ("class", "What an audit found.", "question"),
        ("value", "Where it lies.", "question"),
        ("class", "", "period"),
    ],
)
def test_line_of_another_form_is_refused(kind: Kind, first: str, fault: str) -> None:
    found = faults(Docstring(name="x", kind=kind, first=first, column=7))
    assert any(fault in text for text in found), found
