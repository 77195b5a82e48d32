"""Sends signals to each process of a family, from its first moment on."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from .. import choices
from ..case import Case, name_of

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL, signal.SIGQUIT)


def send(case: Case, signum: int, delay: float) -> Any:
    """Return an action: one process of the family gets the signal after so many seconds."""

    def act(running: Any) -> None:
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline and not case.lab.shell.poll(running, 0.002):
            pass
        family = case.lab.shell.family()
        if running.status is None and family:
            chosen = case.dice.choice(sorted(family))
            chosen = running.pid if case.dice.random() < 0.3 else chosen
            case.note(f"{name_of(signum)} after {delay:.3f} s to {family.get(chosen, '')[-60:]}")
            try:
                os.kill(chosen, signum)
            except ProcessLookupError:
                return

    return act


def start_up(case: Case) -> None:
    """A command that is stopped while it still imports leaves nothing and says no traceback."""
    words = choices.any_command(case)
    signum = case.dice.choice(SIGNALS)
    delay = case.dice.uniform(0, 0.8)
    case.run(*words, fresh=True, signals=[signum], during=send(case, signum, delay))
    case.settle(*words)


def under_way(case: Case) -> None:
    """A command that is stopped while it writes leaves a whole shelf and store."""
    words = choices.any_command(case, writing=True)
    signum = case.dice.choice(SIGNALS)
    delay = case.dice.uniform(0.0, 1.2)
    case.run(*words, signals=[signum], during=send(case, signum, delay))
    case.settle(*words)


KINDS = {"signals-at-start": start_up, "signals-under-way": under_way}
