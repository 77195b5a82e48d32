"""Writes docs/commands.md from tasks.py, noxfile.py and the exit codes, as `invoke --help` has it.

`python3 docs/make/commands.py`, in the environment that has Invoke.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from blackwheel.commands.verbs import spelled

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "commands.md"
BEGIN, END = "<!-- {} -->\n", "<!-- end of {} -->\n"
EXAMPLE = re.compile(r", e\.g\. (?P<command>invoke .+?)\.?$")

GROUPS = {
    "Start": ("doctor", "stacks", "build-wheels", "install"),
    "Build": ("plan", "clone", "apply-patches", "check-patches", "refresh-patches"),
    "Look": ("audit", "verify", "status", "report", "explain"),
    "Share": ("publish", "sign", "new-key", "serve-index", "lock-consumer", "dockerfiles"),
    "Maintain": ("outdated", "pin", "prune", "clean"),
}
"""A command that the code does not have yet is not written."""


def tasks(root: Path = ROOT) -> dict[str, Any]:
    """Return the tasks by the names that people type."""
    module = loaded(root / "tasks.py")
    return {str(name): module.namespace[name] for name in module.namespace.task_names}


def loaded(path: Path) -> ModuleType:
    """Run a file as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(found: dict[str, Any]) -> str:
    """Return every command with its options, by group; raise ValueError for one without a group."""
    if strange := set(found) - {name for names in GROUPS.values() for name in names}:
        raise ValueError(f"in no group of docs/make/commands.py: {sorted(strange)}")
    lines = []
    for group, names in GROUPS.items():
        lines += [f"## {group}", ""]
        for name in names:
            if name in found:
                lines += [*command(name, found[name]), ""]
    return "\n".join(lines)


def command(name: str, task: Any) -> list[str]:
    """Return the section of one command."""
    text = " ".join((task.__doc__ or "").split("\n\n")[0].split())
    example = EXAMPLE.search(text)
    lines = [f"### `invoke {name}`", EXAMPLE.sub(".", text)]
    if example:
        lines += ["```", example["command"], "```"]
    if task.options:
        lines += ["| option | |", "|---|---|"]
        lines += [
            f"| `{spelled(name, one)}` | {one.help.replace('|', chr(92) + '|')} |"
            for name, one in task.options.items()
        ]
    return lines


def sessions(root: Path = ROOT) -> str:
    """Return the nox sessions with the first line of their docstrings."""
    tree = ast.parse((root / "noxfile.py").read_text(encoding="utf-8"))
    lines = ["| session | |", "|---|---|"]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(
            "nox.session" in ast.unparse(one) for one in node.decorator_list
        ):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            lines.append(f"| `nox -s {node.name}` | {first} |")
    return "\n".join(lines) + "\n"


def exit_codes(root: Path = ROOT) -> str:
    """Return the exit codes with the docstring below each."""
    tree = ast.parse((root / "blackwheel" / "core" / "errors.py").read_text(encoding="utf-8"))
    (kind,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Exit")
    lines = ["| exit code | cause |", "|---|---|"]
    for node, after in zip(kind.body, [*kind.body[1:], None], strict=True):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            number = str(node.value.value)
            told = text_of(after) or {"0": "Done, or nothing to do."}[number]
            lines.append(f"| {number} | {told} |")
    return "\n".join(lines) + "\n"


def text_of(node: ast.stmt | None) -> str:
    """Return a statement that is a text alone, on one line."""
    value = node.value if isinstance(node, ast.Expr) else None
    text = value.value if isinstance(value, ast.Constant) else None
    return " ".join(text.split()) if isinstance(text, str) else ""


def parts(root: Path = ROOT) -> Iterable[tuple[str, str]]:
    """Yield what the page has between its marks."""
    yield "commands", commands(tasks(root))
    yield "sessions", sessions(root)
    yield "exit codes", exit_codes(root)


def listed(name: str, text: str) -> str:
    """Return what a page's text has between the marks of this name."""
    return text.partition(BEGIN.format(name))[2].partition(END.format(name))[0]


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    for mark, made in parts():
        before, after = page.partition(BEGIN.format(mark))[0], page.partition(END.format(mark))[2]
        page = before + BEGIN.format(mark) + made + END.format(mark) + after
    PAGE.write_text(page, encoding="utf-8")
