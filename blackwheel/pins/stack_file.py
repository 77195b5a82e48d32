"""Rewrites a pin of a stack file: comments stay, and the file is old or new as a whole."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

import tomlkit
from tomlkit.items import Table

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import replace
from blackwheel.stacks import loader, records
from blackwheel.stacks.records import GitPin, LockedWheel, ProjectPin, TorchPin, TorchWheel

PLAIN: Final = ("version", "runtime", "cuda", "index", "git_version")


def rewrite(name: str, constraints: Path, torch: TorchPin) -> tuple[str, str]:
    """Write a torch into the file of a stack; return its text before and after.

    The new text is loaded as a stack before it replaces the old. Raises `cannot-write-pin`.
    """
    path = (constraints / f"{name}.toml").resolve()
    before = path.read_text(encoding="utf-8")
    after = edited(before, torch)
    _require_same(name, constraints, after, torch)
    if after != before:
        replace(path, after)
    return before, after


def edited(text: str, torch: TorchPin) -> str:
    """Return the text of a stack file with this torch in it."""
    document = tomlkit.parse(text)
    table = document["torch"]
    assert isinstance(table, Table)  # noqa: S101  the caller loaded the stack
    told = document.get("description", "")
    before = str(table.get("version", torch.version))
    if torch.version not in told and before in told:
        document["description"] = told.replace(before, torch.version)
    installed = torch.source == "installed"
    for key in (key for key in PLAIN if not (installed and key == "index")):
        _set(table, key, getattr(torch, key))
    if "cxx11_abi" in table or not torch.cxx11_abi:
        _set(table, "cxx11_abi", torch.cxx11_abi)
    if installed:
        _set(table, "libraries", dict(sorted(torch.libraries.items())))
        return _spaced(tomlkit.dumps(document))
    if "wheels" not in table:
        table.add("wheels", tomlkit.table(is_super_table=True))
    wheels = table["wheels"]
    assert isinstance(wheels, Table)  # noqa: S101  as the stack's schema has it
    for tag in [tag for tag in wheels if tag not in torch.wheels]:
        wheels.remove(tag)
    for tag, wheel in torch.wheels.items():
        if tag not in wheels:
            wheels.add(tag, tomlkit.table())
        _fill(wheels[tag], wheel)
    return _spaced(tomlkit.dumps(document))


def _spaced(text: str) -> str:
    """Add the empty line that tomlkit leaves out between an added table and the next one."""
    return re.sub(r'^((?:url|"torch/.*") = ".*"\n)(?=\[)', r"\1\n", text, flags=re.MULTILINE)


def _set(table: Any, key: str, value: Any) -> None:
    if table.get(key) != value:
        table[key] = value


def _fill(table: Any, wheel: TorchWheel) -> None:
    for key, value in _fields(wheel).items():
        _set(table, key, value)
    wanted = [_fields(known) for known in wheel.family]
    if table.unwrap().get("family", []) == wanted:
        return
    if "family" in table:
        table.remove("family")
    if wanted:
        family = tomlkit.aot()
        for known in wanted:
            row = tomlkit.table()
            row.update(known)
            family.append(row)
        table.add("family", family)


def _fields(wheel: LockedWheel) -> dict[str, Any]:
    fields = asdict(wheel)
    fields.pop("family", None)
    return fields


def edited_project(
    text: str, project: str, before: ProjectPin, pin: ProjectPin, renamed: Mapping[str, str]
) -> str:
    """Return the text of a stack file with this pin of a project in it.

    `renamed` are refs that comments of nested pins may quote: `v4.4.2` → `v4.5.0`.
    """
    document = tomlkit.parse(text)
    table: Any = document["projects"][project]
    if "description" in document and before.version != str(
        document.get("torch", {}).get("version")
    ):
        word = rf"(?<![\w.]){re.escape(before.version)}(?![\w.]*\d)"
        _set(document, "description", re.sub(word, pin.version, str(document["description"])))
    for key in ("version", "revision"):
        if key in table or getattr(pin, key) != getattr(before, key):
            _set(table, key, getattr(pin, key))
    for key in ("objects", "requirements", "runtime"):
        if getattr(pin, key) != getattr(before, key):
            _put(table, key, getattr(pin, key))
    _set_source(table["source"], pin.source)
    if pin.sdist and "sdist" in table:
        for key, value in asdict(pin.sdist).items():
            _set(table["sdist"], key, value)
    elif "sdist" in table:
        table.remove("sdist")
    known = {nested.path: nested for nested in pin.nested}
    for row in table.get("nested", []):
        _set_source(row, known[row["path"]])
        _requote(row, renamed)
    return tomlkit.dumps(document)


def _set_source(table: Any, pin: GitPin) -> None:
    """Set what moves of a git source; the keys stay in their order."""
    _set(table, "url", pin.url)
    _set(table, "commit", pin.commit)
    if pin.tree:
        if "tree" in table or "sparse" not in table:
            _set(table, "tree", pin.tree)
        else:
            after = table["sparse"]  # tree belongs above it, and a table only grows at its end
            table.remove("sparse")
            table.add("tree", pin.tree)
            table.add("sparse", after)
    elif "tree" in table:
        table.remove("tree")


def _requote(row: Any, renamed: Mapping[str, str]) -> None:
    for key in row:
        item = row.item(key) if hasattr(row, "item") else row[key]
        for was, is_ in renamed.items():
            note = item.trivia.comment
            item.trivia.comment = re.sub(rf"(?<![\w.]){re.escape(was)}(?![\w.])", is_, note)


def _put(table: Any, key: str, value: Any) -> None:
    """Set a number, or change what differs in a list: its lines and comments stay."""
    if not isinstance(value, tuple) or key not in table:
        _set(table, key, list(value) if isinstance(value, tuple) else value)
        return
    array, have = table[key], list(table[key])
    for kind, a, b, c, d in reversed(SequenceMatcher(a=have, b=value).get_opcodes()):
        if kind == "equal":
            continue
        shared = min(b - a, d - c)
        for number in range(shared):
            array[a + number] = value[c + number]
        for number in reversed(range(a + shared, b)):
            del array[number]
        for number in range(shared, d - c):
            array.insert(a + number, value[c + number])


def loaded(name: str, constraints: Path, text: str) -> records.Stack:
    """Load a stack as if its file had this text, and every stack that extends it."""
    with _copy(name, constraints, text) as folder:
        for other in loader.names(folder):
            if loader.own_table(other, folder).get("extends") == name:
                loader.load(other, folder)
        return loader.load(name, folder)


@contextlib.contextmanager
def _copy(name: str, constraints: Path, text: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="blackwheel-pin-") as folder:
        for path in constraints.glob("*.toml"):
            shutil.copyfile(path, Path(folder) / path.name)
        (Path(folder) / f"{name}.toml").write_text(text, encoding="utf-8")
        yield Path(folder)


def _require_same(name: str, constraints: Path, text: str, torch: TorchPin) -> None:
    """Raise `cannot-write-pin` unless the new text loads as exactly this torch."""
    with _copy(name, constraints, text) as folder:
        found = loader.load(name, folder).torch
    if found != torch:
        raise BlackwheelError(
            "cannot-write-pin",
            "the stack file would not hold the torch that was seen",
            where=f"constraints/{name}.toml",
            fix="write [torch] as one table of its own, as constraints/nightly.toml does",
            code=Exit.CONFIG,
        )
