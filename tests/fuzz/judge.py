"""Runs a parser on one input, and says what is wrong with its end.

Right ends: a result, or an error of blackwheel. Wrong ones: any other exception, more than
`SECONDS` of CPU, more than `BYTES` of memory beyond what the process has when it begins.
"""

from __future__ import annotations

import resource
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from blackwheel.core.errors import BlackwheelError

SECONDS = 2.0
BYTES = 200 << 20
_HARD_SECONDS = 10.0
"""Of CPU, after which a parser is stopped where it is."""


class TooLongError(BaseException):
    """No parser catches it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A wrong end; `kind` is the same for inputs that fail in the same place."""

    kind: str
    told: str


def judged(
    parse: Callable[[bytes], object], given: bytes, named: tuple[type[Exception], ...] = ()
) -> Fault | None:
    """Return the fault of a parser with one input; None for a right end."""
    before, began = _peak_from_now(), time.process_time()
    signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, _HARD_SECONDS)
    try:
        parse(given)
    except (BlackwheelError, *named):
        pass
    except TooLongError as error:
        return Fault(kind=f"does not end, {_place(error)}", told=_told(error))
    except Exception as error:  # noqa: BLE001  each is what is looked for
        return Fault(kind=f"{type(error).__name__}, {_place(error)}", told=_told(error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds, after = time.process_time() - began, _peak()
    if seconds > SECONDS:
        return Fault(kind="slow", told=f"{seconds:.1f} s of CPU")
    if after - before > BYTES:
        return Fault(kind="large", told=f"{after - before >> 20} MiB")
    return None


def _stop(_: int, __: FrameType | None) -> None:
    raise TooLongError


def _peak_from_now() -> int:
    """Forget the largest resident set so far (proc_pid_clear_refs(5)); return the one of now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak()


def _peak() -> int:
    """Return the largest resident set since it was last forgotten, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _place(error: BaseException) -> str:
    """Return where in blackwheel it was raised."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/blackwheel/" in f.filename]
    if not frames:
        return "outside"
    last = frames[-1]
    return f"{last.filename.rpartition('/blackwheel/')[2]} {last.name}"


def _told(error: BaseException) -> str:
    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    return f"{text[:300]}"
