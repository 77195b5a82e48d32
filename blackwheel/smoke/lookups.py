"""Runs a project's own script of look-ups beside its wheel: no compiler in sight, no GPU needed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from blackwheel.core import process
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.plain_text import one_line

SECONDS: Final = 900
"""An import of torch and its neighbours: half a minute, and minutes beside a build."""
SHOWN: Final = 500
"""Characters that a receipt takes of the script's last line."""


def look_up(
    script: Path,
    wheel: Path,
    *,
    environment: Path,
    variables: Mapping[str, str],
    driver: Path | None,
    archs: Sequence[str],
    told: Mapping[str, str],
) -> str:
    """Return the last line that the script prints; raise `lookup-failed` for any end but 0.

    It is given JSON: `stand_in` for the driver's library where there is none, `archs`, and the
    `variables` that the wheel was built with. CUDA_HOME names nothing.
    """
    request = {"stand_in": str(driver or ""), "archs": list(archs), "variables": dict(told)}
    python = environment / "bin" / "python"
    argv = [str(python), "-I", str(script), json.dumps(request)]
    seen = {**variables, "CUDA_HOME": str(environment / "no-toolkit")}
    done = process.capture_within(SECONDS, argv, environment=seen, cwd=environment)
    if done.code != 0:
        raise _failed(script, wheel, done.end)
    lines = done.stdout.splitlines()
    if not lines or not lines[-1].strip():
        raise _failed(script, wheel, "said nothing: a check that is content with nothing is none")
    return one_line(lines[-1])[:SHOWN]


def _failed(script: Path, wheel: Path, words: str) -> BlackwheelError:
    return BlackwheelError(
        "lookup-failed",
        f"{script.name} of {script.parent.name}, beside {wheel.name}, {words}",
        where=str(script),
        fix="the wheel stays off the shelf: it lacks what its users look up, or a name changed",
        code=Exit.SMOKE,
    )
