"""Explains a line of the kernel log or an error message (`invoke explain LINE`)."""

from __future__ import annotations

from dataclasses import asdict

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.smoke import diagnosis


def explain(site: Site, line: str, *, as_json: bool = False) -> None:
    """Print name, fact, likely cause and next step; raise `not-understood` for other lines."""
    found = diagnosis.of_log(line)
    if found is None:
        raise BlackwheelError(
            "not-understood",
            f"no crash, CUDA error or linker error that is known: {line.strip()[:200]}",
            where="invoke explain",
            fix="give the whole line: journalctl -k | grep -E 'segfault|traps|Xid|oom'",
            code=Exit.USAGE,
        )
    if as_json:
        site.console.document("explain", **asdict(found))
        return
    named = (("seen:  ", found.fact), ("cause: ", found.cause), ("next:  ", found.step))
    lines = [found.name, *(f"  {label}{text}" for label, text in named if text)]
    site.console.result("\n".join(lines))
