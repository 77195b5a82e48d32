"""Defines an audit's finding: one line for a person, and whether it stops the wheel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One finding of an audit."""

    name: str
    """Kebab-case and stable: programs may match it."""
    fact: str
    library: str = ""
    """Path in the wheel of the library or file it was seen in; empty for the wheel itself."""
    fatal: bool = True

    def __str__(self) -> str:
        place = f"{self.library}: " if self.library else ""
        return f"{self.name}: {place}{self.fact}"
