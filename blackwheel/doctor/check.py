"""Defines the result of one check of a machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One checked property of a machine, with its cure."""

    name: str
    ok: bool | None
    """False: no build until it is cured. None: a build goes on, but know this."""
    fact: str
    cure: str = ""
