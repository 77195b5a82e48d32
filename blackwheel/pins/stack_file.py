"""Rewrites a pin of a stack file: comments stay, and the file is old or new as a whole."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

import tomlkit
from tomlkit.items import Table

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.pins import changes
from blackwheel.stacks import loader, records
from blackwheel.stacks.records import (
    GitPin,
    LockedWheel,
    ProjectPin,
    ToolchainPin,
    TorchPin,
    TorchWheel,
)

PLAIN: Final = ("version", "runtime", "cuda", "git_version")
PLACE: Final = ("index", "channel")
"""Where wheels are looked for: a torch.toml names it only where the stack file says otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edited:
    """One file of a stack, before and after a pin moved."""

    path: Path
    before: str
    after: str


def rewrite(name: str, constraints: Path, torch: TorchPin) -> tuple[Edited, ...]:
    """Write a torch into the files of a stack; return those that changed.

    The new text is loaded as a stack before it replaces the old. Raises `cannot-write-pin`.
    """
    path, own = constraints / f"{name}.toml", loader.torch_file(name, constraints)
    before = path.read_text(encoding="utf-8")
    if not own.is_file():
        texts = {path: (before, edited(before, torch))}
    else:
        text = own.read_text(encoding="utf-8")
        table = loader.file_table(name, constraints).get("torch", {})
        document = tomlkit.parse(before)
        _describe(document, str(tomlkit.parse(text).get("version")), torch.version)
        told = tomlkit.dumps(document)
        texts = {path: (before, told), own: (text, _apart(text, torch, table))}
    _require_same(name, constraints, {file: after for file, (_, after) in texts.items()}, torch)
    changed = [
        Edited(path=file, before=was, after=is_)
        for file, (was, is_) in reversed(texts.items())
        if was != is_
    ]
    changes.write({one.path: one.after.encode() for one in changed})
    return tuple(changed)


def edited(text: str, torch: TorchPin) -> str:
    """Return the text of a stack file with this torch in it."""
    document = tomlkit.parse(text)
    table = document["torch"]
    assert isinstance(table, Table)  # noqa: S101  the caller loaded the stack
    _describe(document, str(table.get("version", torch.version)), torch.version)
    installed = torch.source == "installed"
    place = [key for key in PLACE if not installed and (key in table or getattr(torch, key))]
    _put_torch(table, torch, place)
    return _spaced(tomlkit.dumps(document))


def _apart(text: str, torch: TorchPin, told: Mapping[str, Any]) -> str:
    """Return the text of a torch.toml with this torch; `told` is what the stack file says of it."""
    document = tomlkit.parse(text)
    place = [key for key in PLACE if getattr(torch, key) != told.get(key, "")]
    for key in PLACE:
        if key in document and key not in place:
            document.remove(key)
    _put_torch(document, torch, place)
    return _spaced(tomlkit.dumps(document))


def _describe(document: Any, before: str, after: str) -> None:
    """Name the new version in the description, where it names the old one as a whole."""
    if told := document.get("description"):
        word = rf"(?<![\w.]){re.escape(before)}(?![\w.]*\d)"
        _set(document, "description", re.sub(word, after, str(told)))


def _put_torch(table: Any, torch: TorchPin, place: Sequence[str]) -> None:
    for key in (*PLAIN[:3], *place, *PLAIN[3:]):
        _set(table, key, getattr(torch, key))
    if "cxx11_abi" in table or not torch.cxx11_abi:
        _set(table, "cxx11_abi", torch.cxx11_abi)
    if torch.source == "installed":
        _set(table, "libraries", dict(sorted(torch.libraries.items())))
        return
    if "wheels" not in table:
        table.add("wheels", tomlkit.table(is_super_table=True))
    wheels: Any = table["wheels"]
    for tag in [tag for tag in wheels if tag not in torch.wheels]:
        wheels.remove(tag)
    for tag, wheel in torch.wheels.items():
        if tag not in wheels:
            wheels.add(tag, tomlkit.table())
        _fill(wheels[tag], wheel)


def _spaced(text: str) -> str:
    """Add the empty line that tomlkit leaves out between an added table and the next one."""
    last = r'^((?:sha256|size|tree|commit|url|told_by|requires_python|"torch/.*") = .*\n)(?=\[)'
    return re.sub(last, r"\1\n", text, flags=re.MULTILINE)


def _set(table: Any, key: str, value: Any) -> None:
    if table.get(key) != value:
        table[key] = value
        if isinstance(value, list):
            table[key].multiline(True)


def _fill(table: Any, wheel: TorchWheel) -> None:
    fields = _fields(wheel)
    for key in [key for key in table if key != "family" and key not in fields]:
        table.remove(key)
    for key, value in fields.items():
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
            for key, value in known.items():
                _set(row, key, value)
            family.append(row)
        table.add("family", family)


def _fields(wheel: LockedWheel) -> dict[str, Any]:
    """Return the keys of a wheel that say something, lists for tuples."""
    fields = {**asdict(wheel), "requires": list(wheel.requires), "family": None}
    return {key: value for key, value in fields.items() if value}


def edited_project(
    text: str, project: str, before: ProjectPin, pin: ProjectPin, renamed: Mapping[str, str]
) -> str:
    """Return the text of a stack file with this pin of a project in it.

    `renamed` are refs that comments of nested pins may quote: `v4.4.2` → `v4.5.0`.
    """
    document = tomlkit.parse(text)
    table: Any = document["projects"][project]
    if before.version != str(document.get("torch", {}).get("version")):
        _describe(document, before.version, pin.version)
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
        if "archive" in row and known[row["path"]].archive is None:
            row.remove("archive")
        _requote(row, renamed)
    return _spaced(tomlkit.dumps(document))


def with_toolchain(text: str, before: ToolchainPin, pin: ToolchainPin) -> str:
    """Return the text of a stack file with this toolkit in it; its comments stay."""
    document = tomlkit.parse(text)
    table: Any = document.get("toolchain")
    if table is None:  # it was that of the stack below
        document["toolchain"] = tomlkit.item({key: v for key, v in asdict(pin).items() if v})
        return _spaced(tomlkit.dumps(document))
    for key in ("cuda", "nvcc"):
        if key in table or getattr(pin, key) != getattr(before, key):
            _set(table, key, getattr(pin, key))
    if pin.requirements != before.requirements:
        _put(table, "requirements", pin.requirements)
    _describe(document, f"CUDA {before.cuda}", f"CUDA {pin.cuda}")
    return tomlkit.dumps(document)


def _set_source(table: Any, pin: GitPin) -> None:
    """Set what moves of a git source; the keys stay in their order."""
    _set(table, "url", pin.url)
    for key, value in (("commit", pin.commit), ("tree", pin.tree)):
        if not value:
            if key in table:
                table.remove(key)
        elif key in table or "sparse" not in table:
            _set(table, key, value)
        else:
            after = table["sparse"]  # both belong above it, and a table only grows at its end
            table.remove("sparse")
            table.add(key, value)
            table.add("sparse", after)


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
    with _copy(constraints, {constraints / f"{name}.toml": text}) as folder:
        for other in loader.names(folder):
            if loader.own_table(other, folder).get("extends") == name:
                loader.load(other, folder)
        return loader.load(name, folder)


@contextlib.contextmanager
def _copy(constraints: Path, texts: Mapping[Path, str]) -> Iterator[Path]:
    """Yield a copy of the stack files, some of them with another text."""
    with tempfile.TemporaryDirectory(prefix="blackwheel-pin-") as folder:
        for path in (*constraints.glob("*.toml"), *constraints.glob("*/torch.toml")):
            target = Path(folder) / path.relative_to(constraints)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
        for path, text in texts.items():
            (Path(folder) / path.relative_to(constraints)).write_text(text, encoding="utf-8")
        yield Path(folder)


def _require_same(name: str, constraints: Path, texts: Mapping[Path, str], torch: TorchPin) -> None:
    """Raise `cannot-write-pin` unless the new texts load as exactly this torch."""
    with _copy(constraints, texts) as folder:
        found = loader.load(name, folder).torch
    if found != torch:
        raise BlackwheelError(
            "cannot-write-pin",
            "the stack file would not hold the torch that was seen",
            where=f"constraints/{name}.toml",
            fix="write [torch] as one table of its own, as constraints/report-2025-10.toml does",
            code=Exit.CONFIG,
        )
