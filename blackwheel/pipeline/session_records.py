"""Appends the progress and the results of a session to a file of JSON lines, and reads them.

The processes of a session write, the command that started it reads: objects done, the wheel, and
the exit code.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.stacks.records import STRICT

_AT_ONCE: Final = 1 << 16
_LONGEST: Final = 1 << 14
"""Of a line, in bytes."""
_LINE: Final = 2000
"""Of a text in a record, in characters: six bytes each at most in JSON."""


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Progress:
    """The number of objects that are done, of how many, with jobs and memory in the note."""

    done: int
    total: int
    note: str = ""
    left: float | None = None
    """Seconds, where earlier builds tell them."""
    record: Literal["progress"] = "progress"


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Said:
    """A line for people."""

    line: str
    record: Literal["said"] = "said"


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class StageBegan:
    """The beginning of a stage of the session."""

    text: str
    record: Literal["began"] = "began"


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class StageEnded:
    """The end of a stage, as its line says it."""

    line: str
    verb: str
    record: Literal["stage-ended"] = "stage-ended"


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Made:
    """An audited wheel with its receipt beside it."""

    wheel: Path
    record: Literal["made"] = "made"


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Ended:
    """The exit code of one process of the session."""

    code: int
    record: Literal["ended"] = "ended"


Record = Progress | Said | StageBegan | StageEnded | Made | Ended
_READER: Final[TypeAdapter[Record]] = TypeAdapter(
    Annotated[Record, Field(discriminator="record")], config=ConfigDict(defer_build=True)
)


def append(path: Path, record: Record) -> None:
    """Append one record to a file that is there; without one, no command reads it."""
    line = json.dumps(asdict(record), default=str).encode() + b"\n"
    with contextlib.suppress(FileNotFoundError):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(handle, line)  # in one piece: it is far shorter than a page of the disk
        finally:
            os.close(handle)


class Recorder:
    """Appends lines and steps to the records: the `Relay` of a session that a command reads."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def said(self, line: str) -> None:
        """Record one line, cut where it is longer than a record may be."""
        for one in line.splitlines() or [""]:
            append(self._path, Said(line=one[:_LINE]))

    def began(self, project: str, text: str) -> None:  # noqa: ARG002  a session has one project
        """Record the beginning of a stage."""
        append(self._path, StageBegan(text=text[:_LINE]))

    def moved(self, done: int, total: int, note: str, left: float | None) -> None:
        """Record a step."""
        append(self._path, Progress(done=done, total=total, note=note[:_LINE], left=left))

    def ended(self, line: str, verb: str) -> None:
        """Record the end of a stage."""
        append(self._path, StageEnded(line=line[:_LINE], verb=verb))


class Reader:
    """Reads a file of records while it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def read(self) -> list[Record]:
        """Return the new records; raise `bad-session-record` for a line that is none."""
        found: list[Record] = []
        with self._path.open("rb") as source:
            source.seek(self._offset)
            while content := source.read(_AT_ONCE):
                self._offset += len(content)
                *lines, self._rest = (self._rest + content).split(b"\n")
                if len(self._rest) > _LONGEST:
                    raise self._bad(f"a line has more than {_LONGEST} bytes")
                found += [self._record(line) for line in lines]
        return found

    def _record(self, line: bytes) -> Record:
        try:
            return _READER.validate_json(line)
        except ValidationError as error:
            raise self._bad(error.errors()[0]["msg"]) from None

    def _bad(self, fact: str) -> BlackwheelError:
        return BlackwheelError(
            "bad-session-record",
            fact,
            where=str(self._path),
            fix="run the same command again: what was compiled is kept",
            code=Exit.FAULT,
        )
