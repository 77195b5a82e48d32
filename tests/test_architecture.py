"""docs/architecture.md fits the tree; run as a program, this file rewrites its module list."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "blackwheel"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- modules -->\n", "<!-- end of modules -->\n"
PATH = re.compile(r"`([a-z_]+(?:/[a-z_]+)*)(\.py|/)`")


def levels() -> tuple[set[str], ...]:
    """The levels that tests/test_layers.py holds."""
    tree = ast.parse((ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LEVELS":
            return tuple(ast.literal_eval(node.value))
    raise AssertionError("test_layers.py has no LEVELS")


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def named() -> set[str]:
    """Paths that the page names, of the package or of the checkout: `audit/kernels.py`, `docs/`."""
    text = PAGE.read_text(encoding="utf-8")
    return {"".join(found) for found in PATH.findall(text)}


def listing() -> str:
    """Every module with the first line of its docstring, by package in the order of levels."""
    lines = []
    for package in (name for level in levels() for name in sorted(level)):
        lines += [f"**{package}**: {first(PACKAGE / package / '__init__.py')}", ""]
        lines += ["| module | |", "|---|---|"]
        paths = [path for path in modules() if path.is_relative_to(PACKAGE / package)]
        for path in sorted(paths, key=lambda path: (len(path.parts), path)):
            lines.append(
                f"| `{path.relative_to(PACKAGE)}` | {first(path).replace('|', chr(92) + '|')} |"
            )
        lines.append("")
    return "\n".join(lines)


def first(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def listed() -> str:
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def test_every_module_and_folder_that_the_page_names_exists() -> None:
    assert len(named()) > 60
    places = (PACKAGE, ROOT)
    assert not [
        name for name in sorted(named()) if not any((top / name).exists() for top in places)
    ]


def test_page_names_every_package_at_its_level() -> None:
    rows = re.findall(r"^\| (\d) \| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    numbered = {(number, name) for number, names in enumerate(levels(), 1) for name in names}
    assert {(int(number), name) for number, name in rows} == numbered


def test_page_lists_every_module_with_its_first_line() -> None:
    assert listed() == listing(), "python3 tests/test_architecture.py writes the list again"


def test_page_says_where_to_change_at_least_thirty_things() -> None:
    part = PAGE.read_text(encoding="utf-8").partition("\n## Where do I change")[2]
    rows = part.partition("\n## ")[0].split("\n")
    assert sum(bool(PATH.search(row)) for row in rows if row.startswith("| ")) >= 30


def test_record_of_the_page_is_defined_where_it_says() -> None:
    text = PAGE.read_text(encoding="utf-8").partition("\n## The data")[2].partition("\n## ")[0]
    rows = re.findall(
        r"^\| `(\w+)`[^|]* \| `([\w/]+\.py)` \| `([\w/]+\.py)` \|", text, re.MULTILINE
    )
    assert len(rows) >= 12
    for record, defined, _ in rows:
        tree = ast.parse((PACKAGE / defined).read_text(encoding="utf-8"))
        assert record in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + listing() + END + after, encoding="utf-8")
