"""A run that is killed at a chosen step, to see what it leaves."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence


def forked(call: Callable[[], object], *, kill_at: int = 0) -> tuple[int, Callable[[], int]]:
    """Run `call` in a child that kills itself at its n-th step on the file system.

    Returns the child's id, and a reader of the number of its steps for after its end.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, lambda: int(os.read(reader, 20) or b"0")
    steps = 0

    def step(event: str, _: tuple[object, ...]) -> None:
        nonlocal steps
        if event.startswith(("open", "os.", "subprocess.")):
            steps += 1
            if steps == kill_at:
                signal.raise_signal(signal.SIGKILL)

    sys.addaudithook(step)
    try:
        call()
        os.write(writer, str(steps).encode())
        os._exit(0)
    finally:
        os._exit(1)


def killed(
    call: Callable[[], object],
    points: Callable[[int], Sequence[int]],
    *,
    before: Callable[[], object],
    after: Callable[[], object],
) -> None:
    """Run `call` once, then kill it at `points` of the number of steps that it took."""
    before()
    child, steps = forked(call)
    assert os.waitpid(child, 0)[1] == 0
    ends = []
    for kill_at in points(steps()):
        before()
        child, _ = forked(call, kill_at=kill_at)
        ends.append(os.waitpid(child, 0)[1])
        after()
    # a run may take a step less than the one before, and then ends before its last is due
    assert set(ends[:-2]) == {signal.SIGKILL}
    assert set(ends) <= {signal.SIGKILL, 0}
