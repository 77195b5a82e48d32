"""Runs a command: turns errors into messages and exit codes, and signals into a clean stop."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

from blackwheel.core import site as sites
from blackwheel.core.console import Console
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.progress import Relay
from blackwheel.core.site import Site
from blackwheel.core.units import size

KEPT: Final = "stopped; what was compiled is kept: the same command continues"
"""Last line of a command that compiles, when it is stopped."""
STOPPED: Final = "stopped"
"""That of any other."""


def run(
    action: Callable[[Site], Any], *, relay: Relay | None = None, stopped: str = STOPPED
) -> int:
    """Run one command and return its exit code; an int that the action returns is that code.

    `stopped` is the last line when somebody stops it. With a `relay`, what the console would show
    goes there; the command that reads it says that this one was stopped.
    """
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as __main__.py sets it for its imports
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.unraisablehook = _not_raised
    _open_streams()
    sites.adopt(os.environ)
    try:
        site = sites.here()
        site.console.relay = relay
        result = action(site)
        code = result if isinstance(result, int) else int(Exit.OK)
    except (BlackwheelError, OSError) as error:
        if os.environ.get("BLACKWHEEL_DEBUG"):
            raise
        console = Console(environment=os.environ)
        console.relay = relay
        named = _machine_error(error) if isinstance(error, OSError) else error
        console.error(named)
        code = int(named.code)
    except (KeyboardInterrupt, SystemExit) as stop:
        code = stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else 130
        if not relay:
            Console(environment=os.environ).say(stopped)
    return code


def _open_streams() -> None:
    """Open on nothing what a daemon closed: the first file that is opened would take its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _stop(number: int, _: Any) -> None:
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def _not_raised(lost: Any) -> None:
    """Stop again where the stop came while Python ran a destructor, which raises nothing."""
    stop = lost.exc_value
    if not isinstance(stop, KeyboardInterrupt | SystemExit):
        sys.__unraisablehook__(lost)
        return

    def again(_: int, frame: FrameType | None) -> None:
        if frame is None or frame.f_code is not _not_raised.__code__:  # it would be lost there, too
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise stop

    signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)


def _machine_error(error: OSError) -> BlackwheelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        folder = str(error.filename or tempfile.gettempdir())
        there = next((p for p in (Path(folder), *Path(folder).parents) if p.exists()), Path("/"))
        free = size(shutil.disk_usage(there).free)
        return BlackwheelError(
            "disk-full",
            f"{error.strerror}: {free} free there (temporary files: {tempfile.gettempdir()})",
            where=folder,
            fix="free space there; or, for temporary files, export TMPDIR=/a/larger/folder (a large"
            "\nwheel takes about 1 GiB), and for the store export BLACKWHEEL_HOME=/a/larger/folder",
            code=Exit.MACHINE,
        )
    nowhere = "No usable temporary directory" in (error.strerror or "")
    return BlackwheelError(
        "machine-refused",
        error.strerror or str(error),
        where=str(error.filename or ""),
        fix="export TMPDIR=/a/folder/of/yours (temporary files go there)"
        if nowhere
        else "invoke doctor; BLACKWHEEL_DEBUG=1 shows where in blackwheel",
        code=Exit.MACHINE,
    )
