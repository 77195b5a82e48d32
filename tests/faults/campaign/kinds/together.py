"""Runs two and four commands at once on one shelf and one store."""

from __future__ import annotations

import time

from .. import choices
from ..case import Case

READERS = (("verify", "toy"), ("status",), ("build-wheels", "--stack", "toy"))


def together(case: Case) -> None:
    """All of them end well or say whom they wait for, and the state is that of one alone."""
    writes = case.dice.random() < 0.6
    words = choices.shelf_command(case, writing=True) if writes else choices.source_command(case)
    count = case.dice.choice([2, 2, 3, 4])
    others = [words] * (count - 1)
    if writes and case.dice.random() < 0.5:
        others[0] = case.dice.choice(READERS)
    running = []
    for one in [words, *others]:
        running.append(case.start(*one))
        time.sleep(case.dice.choice([0, 0, 0.05, 0.2]))
    done = [case.lab.shell.ended(one, seconds=240) for one in running]
    for one in done:
        case.judge(one)
        if one.code and one.words[0] != "verify":
            case.fault([f"{one.words[0]} ended with {one.code}: {one.said[-300:]}"])
    case.settle(*words)


KINDS = {"together": together}
