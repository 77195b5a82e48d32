"""Offers to lock a stack, or to move its torch, before a build; asks, and does nothing in CI."""

from __future__ import annotations

from collections.abc import Callable

from blackwheel.core.errors import BlackwheelError
from blackwheel.core.http import Patience
from blackwheel.core.site import Site
from blackwheel.pins import lock_all, move_torch
from blackwheel.pytorch import identity, nightly_index
from blackwheel.pytorch.reach import QUICK
from blackwheel.stacks import loader
from blackwheel.stacks.records import Stack, python_tag


def lock_first(
    site: Site, stack: Stack, *, lock: bool, ready: Callable[[], None] = lambda: None
) -> bool:
    """Lock an unlocked stack where `lock` or a person at a terminal agrees; tell whether.

    `ready` raises what the machine lacks, before anything is downloaded. What runs unattended never
    pins by itself: there the error of an unlocked stack follows.
    """
    pinned = {python_tag(python) for python in stack.python} <= set(stack.torch.wheels)
    if stack.torch.source != "index" or (pinned and _has_locks(site, stack)):
        return False
    what = "has no hashed pins" if pinned else "is not locked"
    question = f"torch {stack.torch.version} of stack '{stack.name}' {what}. Lock it now?"
    if not lock and not _agreed(site, question):
        return False
    ready()
    if not pinned:
        move_torch.pin_torch(site, stack.name, stack.torch.version)
    lock_all.lock_all(site, names=[stack.locks])
    return True


def move_first(site: Site, name: str, lost: BlackwheelError, *, patience: Patience = QUICK) -> bool:
    """Move a torch whose wheels cannot be had to the newest where a person agrees; tell whether.

    The error gets the command as a note: for CI, and for who does not agree. Of other errors than a
    lost wheel nothing is asked.
    """
    if not isinstance(lost, nightly_index.WheelLostError):
        return False
    stack = loader.load(name, site.constraints)
    line = f"invoke pin torch {move_torch.LATEST} --stack {_owner(site, stack)}"
    try:
        newest = move_torch.newest(stack, patience=patience)
    except BlackwheelError as error:
        lost.add_note(f"to move the pin: {line}\nits index was asked: {error.name}: {error.fact}")
        return False
    if str(newest) == stack.torch.version:
        lost.add_note("the index lists no newer build of its channel")
        return False
    lost.add_note(f"to move the pin to {newest}, the newest that the index lists: {line}")
    owner = _owner(site, stack)
    question = f"{lost}\nMove torch of stack '{owner}' to {newest}, and lock it?"
    if not _agreed(site, question):
        return False
    move_torch.pin_torch(site, owner, str(newest))
    lock_all.lock_all(site, names=[stack.locks])
    return True


def _owner(site: Site, stack: Stack) -> str:
    """Return the stack whose own torch this one has."""
    name = stack.name
    while "torch" not in (table := loader.own_table(name, site.constraints)):
        name = str(table["extends"])
    return name


def _agreed(site: Site, question: str) -> bool:
    return not site.environment.get("CI") and site.console.ask(question)


def _has_locks(site: Site, stack: Stack) -> bool:
    """Tell whether the hashed pins of every build are there, and name the stack's torch."""
    for project in stack.build:
        for python in stack.python:
            lock = stack.lock(site.constraints, "build", project, python)
            wanted = (stack.torch.wheels[python_tag(python)].sha256,)
            if not lock.is_file() or identity.locked_digests(lock) != wanted:
                return False
    return True
