"""Closes standard streams, fills them, and hangs them up."""

from __future__ import annotations

import os
from collections.abc import Callable

from .. import choices
from ..case import Case


def _closed(*numbers: int) -> Callable[[], None]:
    def act() -> None:
        for number in numbers:
            os.close(number)

    return act


def _full(*numbers: int) -> Callable[[], None]:
    def act() -> None:
        for number in numbers:
            os.dup2(os.open("/dev/full", os.O_RDWR), number)

    return act


def _unread(*numbers: int) -> Callable[[], None]:
    def act() -> None:
        reader, writer = os.pipe()
        for number in numbers:
            os.dup2(writer, number)
        os.close(reader)
        os.close(writer)

    return act


def _hung_up(*numbers: int) -> Callable[[], None]:
    def act() -> None:
        ours, theirs = os.openpty()
        for number in numbers:
            os.dup2(theirs, number)
        os.close(ours)
        os.close(theirs)

    return act


def _read_only(*numbers: int) -> Callable[[], None]:
    def act() -> None:
        for number in numbers:
            os.dup2(os.open(os.devnull, os.O_RDONLY), number)

    return act


WAYS = {
    "closed": _closed,
    "full": _full,
    "unread": _unread,
    "hung up": _hung_up,
    "read-only": _read_only,
}
SETS = ((0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2), (0, 2))


def streams(case: Case) -> None:
    """What cannot be said does not change what is done."""
    words = choices.any_command(case)
    way = case.dice.choice(sorted(WAYS))
    numbers = SETS[case.number % len(SETS)]
    case.note(f"streams {numbers} {way}")
    case.run(*words, prepare=WAYS[way](*numbers), mute=2 in numbers)
    case.settle(*words)


KINDS = {"streams": streams}
