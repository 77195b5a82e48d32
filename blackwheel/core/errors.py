"""Defines the root error (name, fact, place, cure) and an exit code for each kind of cause."""

from __future__ import annotations

import difflib
from enum import IntEnum


class Exit(IntEnum):
    """Exit code of each kind of cause."""

    OK = 0
    FAULT = 1
    """A defect of blackwheel itself."""
    USAGE = 2
    """The command line: unknown stack, project, arch, option."""
    CONFIG = 3
    """A stack file, lock file or patch series does not hold."""
    MACHINE = 4
    """This machine lacks something: compiler, Python, toolkit, disk."""
    SOURCE = 5
    """A source could not be had, or is not what was pinned."""
    PATCH = 6
    """A patch does not apply or may not."""
    BUILD = 7
    """The upstream build failed."""
    AUDIT = 8
    """The finished wheel breaks its contract."""
    SMOKE = 9
    """The wheel does not import or a kernel is wrong."""
    INDEX = 10
    """The shelf or an index refused."""
    TORCH = 11
    """The torch identity is not locked or is another one."""
    BUSY = 12
    """Another run holds what this one needs."""
    AWAY = 13
    """An index did not answer, or not in time: the same command again."""
    READBACK = 14
    """An index took an upload and does not give the same wheel back."""
    SIGNATURE = 15
    """A signature is missing, foreign or broken, or its key cannot be used."""
    STOPPED = 130
    """Stopped by the user; what a build compiled is kept."""


class BlackwheelError(Exception):
    """An error as a person reads it: name, fact, where, fix.

    `name` is a stable kebab-case word, `fact` one or more lines of what was seen, `where` the file,
    key or command it was seen in, `fix` the command or edit that mends it. Nobody changes them on
    the way up: whoever knows more adds a note (`add_note`), or it is an argument of what raises.
    """

    def __init__(
        self, name: str, fact: str, *, where: str = "", fix: str = "", code: Exit = Exit.FAULT
    ) -> None:
        super().__init__(name, fact)
        self.name = name
        self.fact = fact
        self.where = where
        self.fix = fix
        self.code = code

    def __str__(self) -> str:
        lines = [f"error: {self.name}"]
        lines += [f"  {line}" for line in self.fact.splitlines()]
        notes = "\n".join(getattr(self, "__notes__", ()))
        for label, text in (("where:", self.where), ("fix:  ", self.fix), ("note: ", notes)):
            if text:
                first, *rest = text.splitlines()
                lines.append(f"  {label} {first}")
                lines += [f"         {line}" for line in rest]
        return "\n".join(lines)


def nearest(word: str, known: list[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known word, or nothing."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean '{found[0]}'?" if found else ""
