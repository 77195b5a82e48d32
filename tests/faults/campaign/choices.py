"""Chooses a template and a command for faults that any command may meet."""

from __future__ import annotations

from . import quickstart
from .case import Case

Words = tuple[str, ...]


def shelf_command(case: Case, *, writing: bool = False) -> Words:
    """Begin with a shelf of two proved wheels, and return a command of those who have one."""
    kinds = ["publish", "publish", "prune"]
    kinds += [] if writing else ["verify", "status", "build-wheels", "audit"]
    kind = case.dice.choice(kinds)
    world = case.begin("old" if kind == "prune" else "shelf")
    if kind == "publish":
        return ("publish", "--stack", "toy", "--to", str(world.published), "--yes")
    if kind == "prune":
        return ("prune", "--stack", "toy", "--keep", "1", "--yes")
    if kind == "audit":
        return ("audit", str(min(world.wheels.glob("toy/*.whl"))))
    return {"verify": ("verify", "toy"), "status": ("status",)}.get(
        kind, ("build-wheels", "--stack", "toy")
    )


def source_command(case: Case) -> Words:
    """Begin with an empty store and a git host of toys; return what fetches and patches."""
    case.begin("sources")
    return (case.dice.choice(["clone", "apply-patches"]), "--stack", "toy")


def any_command(case: Case, *, writing: bool = False, together: bool = False) -> Words:
    """Return a command of the quickstart for every other number, else one over toys."""
    if case.number % 2:
        return quickstart.command(case, together=together)
    source = case.dice.random() < (0.4 if writing else 0.34)
    return source_command(case) if source else shelf_command(case, writing=writing)
