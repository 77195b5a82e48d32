"""Imports go one way between packages, in no circle, and into no private module of another."""

from __future__ import annotations

import ast
import functools
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "blackwheel"
LEVELS = (
    {"core"},
    {"stacks", "receipts", "pages"},
    {"sources", "pytorch", "toolchain"},
    {"builder"},
    {"audit"},
    {"smoke", "shelf"},
    {"doctor", "pins"},
    {"pipeline"},
    {"commands"},
)
"""A package imports only packages of an earlier level: docs/architecture.md draws them."""


def module_of(path: Path) -> str:
    """Return the dotted name of a file below the package: `shelf.index`, `audit` for its face."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules() -> dict[str, Path]:
    return {module_of(path): path for path in PACKAGE.rglob("*.py")}


@functools.cache
def imports() -> dict[str, frozenset[str]]:
    """By module: the modules that it imports, also inside of functions."""
    return {name: frozenset(imported(name, path)) for name, path in modules().items()}


def imported(module: str, path: Path) -> set[str]:
    found = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package if node.level else (node.module or "")
        base += f".{node.module}" if node.level and node.module else ""
        if not node.level and base.split(".")[0] != "blackwheel":
            continue
        base = base.removeprefix("blackwheel").strip(".")
        names = {f"{base}.{alias.name}".strip(".") for alias in node.names}
        found |= {name if name in modules() else base for name in names}
    return found - {module, ""}


def level(module: str) -> int:
    package = module.split(".", maxsplit=1)[0]
    found = [number for number, names in enumerate(LEVELS) if package in names]
    assert found, f"{package} has no level"
    return found[0]


def test_no_module_imports_in_a_circle() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("module", sorted(modules()))
def test_module_imports_only_packages_below_its_own(module: str) -> None:
    if module in ("", "__main__"):
        assert {name.split(".")[0] for name in imports()[module]} <= {"commands", "core"}
        return
    own = module.split(".", maxsplit=1)[0]
    others = {name for name in imports()[module] if name.split(".")[0] != own}
    above = sorted(name for name in others if level(name) >= level(module))
    assert not above, f"{module} imports {', '.join(above)}"


@pytest.mark.parametrize("module", sorted(modules()))
def test_nobody_imports_anothers_private_module(module: str) -> None:
    package = module.split(".", maxsplit=1)[0]
    foreign = [name for name in imports()[module] if name.split(".")[0] != package]
    assert not [name for name in foreign if any(part[0] == "_" for part in name.split("."))]


def test_a_package_tells_its_story_and_imports_nothing() -> None:
    for path in PACKAGE.glob("*/__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert len(ast.get_docstring(tree) or "") > 100, f"{path.parent.name} tells nothing"
        assert len(tree.body) == 1, f"{path} holds more than its docstring"


def test_every_package_has_a_level() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set.union(*LEVELS)
