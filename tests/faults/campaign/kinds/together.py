"""Runs two and four commands at once on one shelf and one store."""

from __future__ import annotations

import time

from .. import choices
from ..case import WALL, Case

READERS = (("verify", "toy"), ("status",), ("build-wheels", "--stack", "toy"))


def together(case: Case) -> None:
    """All of them end well or say whom they wait for, and the state is that of one alone."""
    words = choices.any_command(case, writing=True, together=True)
    count = case.dice.choice([2, 2, 3, 4])
    others = [words] * (count - 1)
    if words[0] in ("publish", "prune") and case.dice.random() < 0.5:
        others[0] = case.dice.choice(READERS)
    running, moments = [], []
    for one in [words, *others]:
        running.append(case.start(*one))
        moments.append(case.dice.choice([0, 1]) * case.dice.uniform(0, 0.3))
        time.sleep(moments[-1])
    case.note(f"moments {[round(one, 3) for one in moments]}")
    done = [case.lab.shell.ended(one, seconds=WALL) for one in running]
    for one in done:
        case.judge(one)
        if one.code and one.words[0] != "verify":
            case.fault([f"{one.words[0]} ended with {one.code}: {one.said[-300:]}"])
    case.settle(*words)


KINDS = {"together": together}
