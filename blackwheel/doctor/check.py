"""Say what one check of the machine found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool | None
    """False: no build until it is cured. None: a build goes on, but know this."""
    fact: str
    cure: str = ""
