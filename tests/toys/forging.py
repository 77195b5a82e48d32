"""Every leaf of a receipt, changed one at a time, all digests computed again: a forger's work."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, Final

from blackwheel.receipts import document as receipts
from blackwheel.shelf.verify_leaves import SAID

ALSO: Final = {"smoke.seed": "smoke.checks.*", "smoke.guard": "smoke.libraries.*"}
"""Leaves of which a line of SAID speaks under another name."""
HEX = re.compile(r"[0-9a-f]{40,64}")
Path = tuple[str | int, ...]


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield path and value of all that holds nothing more; an empty list or object, too."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))
    else:
        yield path, value


def other(value: Any) -> Any:
    """Another value of the same kind, as a careful forger chooses it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        if HEX.fullmatch(value):
            return ("1" if value[0] == "0" else "0") + value[1:]
        return f"{value}x"
    if isinstance(value, list):
        return ["x"]
    return {"x": "x"} if isinstance(value, dict) else "x"


def placed(document: Any, path: Path, value: Any) -> Any:
    """A copy with another value at one place."""
    made = copy.deepcopy(document)
    inner = made
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return made


def forged_sections(document: receipts.Document) -> Iterator[tuple[str, receipts.Document]]:
    """Yield each leaf of a section, `stage.name`, and the receipt with it changed, chain whole."""
    held = {stage: dict(section) for stage, section in receipts.sections(document).items()}
    about = receipts.subject(document)
    for path, value in leaves(held):
        changed = placed(held, path, other(value))
        yield ".".join(map(str, path)), receipts.receipt(*about, changed)


def forged_rest(document: receipts.Document) -> Iterator[tuple[str, receipts.Document]]:
    """Yield each leaf that is none of a section, and the receipt with it changed."""
    inside = ("externalParameters", "internalParameters", "annotations", "builder", "metadata")
    for path, value in leaves(document):
        if not any(name in path for name in inside):
            yield ".".join(map(str, path)), placed(document, path, other(value))


def without_sections(document: receipts.Document) -> Iterator[tuple[str, receipts.Document]]:
    """Yield each leaf of a section, and the receipt without it, chain whole."""
    held = {stage: dict(section) for stage, section in receipts.sections(document).items()}
    for path, _ in leaves(held):
        changed = copy.deepcopy(held)
        inner: Any = changed
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]
        yield ".".join(map(str, path)), receipts.receipt(*receipts.subject(document), changed)


def is_said(path: str) -> bool:
    """Tell whether a leaf, by its path below its section, is on the list of verify_leaves."""
    named = ALSO.get(path, path)
    return any(
        fnmatchcase(named, pattern) or named == pattern.removesuffix(".*") for pattern, _ in SAID
    )


def pattern(name: str) -> str:
    """A name with numbers, patches and file names left out: what stands in docs/forgeries.md."""
    name = re.sub(r"toy[_-]cuda/_kernels\S*?\.so", "LIBRARY", name)
    name = re.sub(r"toy[_-]cuda-1\.0\S*?\.whl", "WHEEL", name)
    name = re.sub(r"\b000\d-[\w.-]*patch", "PATCH", name)
    name = re.sub(r"key\.parts\.\S+", "key.parts.*", name)
    name = re.sub(r"\btorch/lib/\S+\.so", "torch/lib/*.so", name)
    name = re.sub(r"py3\d+", "py3X", name)
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)
