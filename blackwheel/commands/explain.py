"""Explains an error message, a line of the kernel log, or a log file (`invoke explain`)."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Final

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.smoke import diagnosis

MOST_BYTES: Final = 4 << 20
"""Of a log, from its end: what ended a program stands there."""


def explain(site: Site, line: str, *, as_json: bool = False) -> None:
    """Print name, fact, likely cause and next step of a line, or of the log whose path it is.

    Raises `not-understood` where nothing in it is known, `log-unreadable` for a file that cannot be
    read.
    """
    log = os.path.isfile(line)  # noqa: PTH113  a line may be longer than any path: no error
    found = diagnosis.of_output(_end(Path(line))) if log else diagnosis.of_log(line)
    if found is None:
        raise BlackwheelError(
            "not-understood",
            f"no crash, CUDA error or linker error that is known: {line.strip()[:200]}",
            where="invoke explain",
            fix="give the kernel's lines of that minute as well: "
            "journalctl -k | grep -E 'segfault|traps|Xid|oom'"
            if log
            else "give the whole line, or the program's log file: invoke explain LOG",
            code=Exit.USAGE,
        )
    if as_json:
        site.console.document("explain", **asdict(found))
        return
    named = (("seen:  ", found.fact), ("cause: ", found.cause), ("next:  ", found.step))
    lines = [found.name, *(f"  {label}{text}" for label, text in named if text)]
    site.console.result("\n".join(lines))


def _end(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - MOST_BYTES))
            return file.read(MOST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise BlackwheelError(
            "log-unreadable",
            f"it cannot be read: {error.strerror}",
            where=str(log),
            fix="a log that this user may read",
            code=Exit.USAGE,
        ) from error
