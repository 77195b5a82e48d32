"""Reads the tables of a file of kernel checks, without running it, and refuses a broken file.

Standard library only: on a machine with a GPU and torch nothing of blackwheel's need be installed.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from blackwheel.core.errors import BlackwheelError, Exit, nearest

MOST_BYTES: Final = 1 << 20
TABLES: Final = ("CHECKS", "CLAIMS", "NEEDS", "UNSEEN")
ANY: Final = "*"
"""In NEEDS: every check that has no line of its own."""


def table_of(file: Path, name: str) -> dict[str, Any]:
    """Read CHECKS (names of functions), CLAIMS, NEEDS or UNSEEN; raise `bad-checks`."""
    assigned = _assigned(_parsed(file))
    if name not in assigned:
        return {}
    try:
        return _table(assigned[name], name)
    except ValueError as error:
        raise _bad(file, [f"{name}: {error}"]) from None


def require(file: Path) -> None:
    """Raise `bad-checks` with every fault of a file of checks, and of each file beside it.

    Called before a build: a check that cannot start is otherwise found after hours, on a GPU.
    """
    tree = _parsed(file)
    for other in sorted(file.parent.glob("*.py")):
        _parsed(other)
    assigned, faults = _assigned(tree), []
    tables: dict[str, dict[str, Any]] = {name: {} for name in TABLES}
    for name in [name for name in TABLES if name in assigned]:
        try:
            tables[name] = _table(assigned[name], name)
        except ValueError as error:
            faults.append(f"{name}: {error}")
    faults += _inconsistencies(tables, _functions(tree)) if not faults else []
    if faults:
        raise _bad(file, faults)


def _parsed(file: Path) -> ast.Module:
    """Parse a file of bounded size; raise `bad-checks`."""
    with file.open("rb") as opened:
        content = opened.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise _bad(file, [f"longer than {MOST_BYTES} bytes"])
    try:
        return ast.parse(content)
    except SyntaxError as error:
        place = f"line {error.lineno}: " if error.lineno else ""
        raise _bad(file, [f"{place}{error.msg}"]) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise _bad(file, [f"not Python: {error}"]) from None


def _assigned(tree: ast.Module) -> dict[str, ast.expr]:
    """Return what is assigned to each name at the top of a file."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {one.id: node.value for one in targets if isinstance(one, ast.Name)}
    return found


def _functions(tree: ast.Module) -> set[str]:
    """Return every name at the top of a file that can be a check: defined there, or imported."""
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            found |= {one.asname or one.name for one in node.names}
    return found


def _table(value: ast.expr, name: str) -> dict[str, Any]:
    """Read one table; raise ValueError for anything but a dict of literals."""
    if not isinstance(value, ast.Dict) or None in value.keys:
        raise ValueError("a dict of literals is wanted: it is read without running the file")
    made: dict[str, Any] = {}
    for key, each in zip(value.keys, value.values, strict=True):
        assert key is not None  # noqa: S101  refused above
        word = _literal(key)
        if not isinstance(word, str):
            raise ValueError(f"{ast.unparse(key)} is no name")
        if word in made:
            raise ValueError(f"'{word}' is there twice")
        if name == "CHECKS" and not isinstance(each, ast.Name):
            raise ValueError(f"'{word}': the name of a function is wanted")
        made[word] = each.id if isinstance(each, ast.Name) else _literal(each)
    return made


def _literal(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"{ast.unparse(value)[:60]} is no literal") from None


def _inconsistencies(tables: dict[str, dict[str, Any]], functions: Collection[str]) -> list[str]:
    """Find what no single table shows."""
    checks, claims = tables["CHECKS"], tables["CLAIMS"]
    faults = [] if checks else ["CHECKS: missing, or it names no check"]
    faults += [
        f"CHECKS: '{name}': no function {function}{nearest(function, sorted(functions))}"
        for name, function in checks.items()
        if function not in functions
    ]
    faults += [f"{name}: {fault}" for name in ("CLAIMS", "NEEDS") for fault in _pairs(tables[name])]
    if not faults:
        for name, (claim, _) in tables["NEEDS"].items():
            if claim not in claims:
                faults.append(f"NEEDS: '{name}': no claim '{claim}'{nearest(claim, list(claims))}")
    for table, others in (("NEEDS", {ANY}), ("UNSEEN", set())):
        for name in tables[table]:
            if name not in checks and name not in others:
                faults.append(f"{table}: no check '{name}'{nearest(name, list(checks))}")
    return faults


def _pairs(table: dict[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        words = value if isinstance(value, tuple) else ()
        if len(words) != 2 or not all(isinstance(word, str) for word in words):
            yield f"'{name}': two words are wanted"


def _bad(file: Path, faults: list[str]) -> BlackwheelError:
    head = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}:"
    return BlackwheelError(
        "bad-checks",
        "\n".join([head, *faults]),
        where=f"{file.parent.parent.name}/{file.parent.name}/{file.name}",
        fix="correct what is named above; docs/add-a-project.md shows the form",
        code=Exit.CONFIG,
    )
