"""Writes the resolved work of a nox session to one file, which each of its processes reads.

No process resolves it again: no stack file is read, no key computed, no option parsed.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import replace_file
from blackwheel.pipeline.todo import Work
from blackwheel.sources.patch import PatchedTree
from blackwheel.stacks.records import STRICT, Stack

MOST_BYTES: Final = 1 << 20
"""Of a session file; the stack with most in it takes 40 KB."""
_KEPT_SECONDS: Final = 7 * 86_400
"""A killed command leaves its files; no session reads one a week after it was written."""


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class BuildOrder:
    """The work of a session `build` or `plan`: one project for one Python."""

    stack: str
    """Whose environments: noxfile.py names their folder by it."""
    python: str
    """The word that nox finds the interpreter by."""
    project: str
    lock: Path
    """The hashed pins of the build environment."""
    work: Work
    tree: PatchedTree | None = None
    """None where the session is to make it."""
    jobs: int = 0
    again: bool = False
    proofs: bool = False
    """Plan without each patch, too."""
    schema: Literal[1] = 1


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class SmokeGroup:
    """Wheels that are smoked together in one environment."""

    stack: str
    python: str
    """`3.12`."""
    where: str
    """A path, or the version."""
    here: bool
    """Else this Python is smoked by a session of its own."""
    wheels: tuple[Path, ...]
    locks: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class SmokeOrder:
    """The work of a session `smoke`."""

    stack: str
    python: str
    groups: tuple[SmokeGroup, ...]
    stacks: dict[str, Stack]
    """By name: those of the groups."""
    require_gpu: bool = False
    schema: Literal[1] = 1


Order = BuildOrder | SmokeOrder
_Kind = TypeVar("_Kind", BuildOrder, SmokeOrder)


def build_order(item: Work, lock: Path, **options: Any) -> BuildOrder:
    """Return the order of a piece of work; `lock` are the pins that an installer gets.

    `options` are further fields of it.
    """
    request = item.request
    return BuildOrder(
        stack=request.stack.name,
        python=item.python.where,
        project=request.project,
        lock=lock,
        work=item,
        **options,
    )


def folder(store: Path) -> Path:
    """Return the folder of the files of running sessions, which only their user may read."""
    place = store / "sessions"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def hand(store: Path, name: str, order: Order) -> Path:
    """Write a file for one session, with an empty one for its records beside it; return it."""
    place = folder(store)
    for old in place.iterdir():
        if time.time() - old.stat().st_mtime > _KEPT_SECONDS:
            old.unlink()
    with tempfile.NamedTemporaryFile(
        dir=place, prefix=f"{name}-", suffix=".json", delete=False
    ) as file:
        path = Path(file.name)
    os.close(os.open(records_of(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    write(path, order)
    return path


def write(path: Path, order: Order) -> None:
    """Write an order whole or not at all, readable for its user alone."""
    data = json.dumps(asdict(order), default=str, indent=1).encode()
    if len(data) > MOST_BYTES:
        raise _bad(path, f"it would hold {len(data)} bytes, more than {MOST_BYTES}")
    replace_file(path, data, mode=0o600)


def read(path: Path, kind: type[_Kind]) -> _Kind:
    """Read an order; raise `bad-session-file` unless this version of blackwheel wrote it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as source:
            mode = os.fstat(source.fileno()).st_mode
            data = source.read(MOST_BYTES + 1)
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from None
    if stat.S_IMODE(mode) & 0o077:
        raise _bad(path, "others than its user may read or write it")
    if len(data) > MOST_BYTES:
        raise _bad(path, f"it holds more than {MOST_BYTES} bytes")
    try:
        return TypeAdapter(kind).validate_json(data)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise _bad(path, "\n".join(faults[:10])) from None


def records_of(path: Path) -> Path:
    """Return the file to which a session's processes append records, if a command reads them."""
    return path.with_suffix(".jsonl")


def remove(path: Path) -> None:
    """Remove the files of a session that has ended."""
    path.unlink(missing_ok=True)
    records_of(path).unlink(missing_ok=True)


def _bad(path: Path, fact: str) -> BlackwheelError:
    return BlackwheelError(
        "bad-session-file",
        fact,
        where=str(path),
        fix="run the command again that started the session: it writes the file anew",
        code=Exit.USAGE,
    )
