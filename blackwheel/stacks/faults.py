"""Reads TOML into typed records; names all faults of a file at once, each with its key path."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from blackwheel.core.errors import BlackwheelError, Exit, nearest
from blackwheel.core.records import adapter

Record = TypeVar("Record")
MOST_BYTES: Final = 1 << 20
"""Of a TOML file; the largest stack file has 15 KB."""


class FaultsError(Exception):
    """A table does not hold; `faults` names every reason."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(*faults)
        self.faults = faults


def table_of(path: Path, *, most: int = MOST_BYTES) -> dict[str, Any]:
    """Parse a TOML file of at most so many bytes; raise FaultsError."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise FaultsError([f"longer than {most} bytes"])
    try:
        return tomllib.loads(content.decode("utf-8"))
    except ValueError as error:  # also a number of 5,000 digits
        raise FaultsError([f"not TOML: {error}"[:300]]) from None
    except RecursionError:
        raise FaultsError(["not TOML: nested without an end"]) from None


def record_of(kind: type[Record], table: object) -> Record:
    """Make the record of a table; raise FaultsError."""
    try:
        found: Record = adapter(kind).validate_python(table)
        return found
    except ValidationError as error:
        raise FaultsError([_fault(item, kind) for item in error.errors()]) from None


def refusal(
    name: str, faults: Iterable[str], *, where: str, fix: str = "correct the keys named above"
) -> BlackwheelError:
    """Return the error that lists the faults of one file."""
    lines = list(faults)
    head = f"{len(lines)} fault{'s' if len(lines) > 1 else ''}:"
    return BlackwheelError(name, "\n".join([head, *lines]), where=where, fix=fix, code=Exit.CONFIG)


def _fault(item: Any, kind: type) -> str:
    """One line for one pydantic error, with the key path and the nearest known key."""
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{path}: unknown key{nearest(str(item['loc'][-1]), _keys(kind, item['loc'][:-1]))}"
    if item["type"] in ("missing", "missing_argument"):
        return f"{path}: missing"
    shown = f"{item['input']!r}"[:200]
    if item["type"] == "string_pattern_mismatch":
        return f"{path}: {shown} does not match {item['ctx']['pattern']}"
    if item["type"] == "value_error":
        return f"{path}: {item['ctx']['error']}, not {shown}"
    return f"{path}: {item['msg'][0].lower()}{item['msg'][1:]}, not {shown}"


def _keys(kind: Any, loc: Sequence[Any]) -> list[str]:
    """Return the keys of the record that lies at `loc` in this one."""
    for part in loc:
        if dataclasses.is_dataclass(kind):
            kind = get_type_hints(kind).get(part)
        else:  # dict[str, X] or tuple[X, ...]
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0] if get_args(kind) else None
        if get_origin(kind) in (Union, UnionType):
            kind = get_args(kind)[0]
    return [one.name for one in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
