"""Imports go one way: along the chain of the stages, and never in a circle."""

from __future__ import annotations

import ast
import functools
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "blackwheel"
CHAIN = (
    *("errors", "archs", "process", "console", "stacks", "sources", "patches", "toolchain"),
    *("torchpin", "plan", "pool", "launcher", "build", "receipts", "audit", "smoke", "index"),
    *("doctor", "pipeline", "__main__"),
)
"""The stages; what lies between them takes the place that its imports give it."""


def module_of(path: Path) -> str:
    """Name a file as the chain does: a package is one module."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, also inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "blackwheel":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("blackwheel."):
            found.add(str(node.module).split(".")[1])
    return found


@functools.cache
def imports() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        graph.setdefault(module_of(path), set()).update(imported(path))
    return {name: wanted - {name} for name, wanted in graph.items()}


def reach(graph: dict[str, set[str]], name: str) -> set[str]:
    found: set[str] = set()
    frontier = [name]
    while frontier:
        frontier += (new := graph.get(frontier.pop(), set()) - found)
        found |= new
    return found


def test_no_module_imports_in_a_circle() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("number", range(len(CHAIN)))
def test_stage_imports_no_later_stage(number: int) -> None:
    graph = imports()
    assert CHAIN[number] in graph
    later = reach(graph, CHAIN[number]) & set(CHAIN[number + 1 :])
    assert not later, f"{CHAIN[number]} imports {', '.join(sorted(later))}"
