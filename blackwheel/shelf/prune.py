"""Removes old wheels from a shelf (`invoke prune`); keeps the newest and every pinned one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import parse_wheel_filename
from packaging.version import Version

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.core.units import size
from blackwheel.shelf import index
from blackwheel.shelf.index import ShelvedWheel
from blackwheel.stacks import loader


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A wheel on a shelf with the reason why it stays; empty where it goes."""

    wheel: ShelvedWheel
    why: str


def decided(
    wheels: Sequence[ShelvedWheel], *, keep: int, pinned: Sequence[ShelvedWheel]
) -> tuple[Kept, ...]:
    """Decide which wheels stay: the newest `keep` of a project and Python, and every pinned one."""
    groups: dict[tuple[str, str], list[ShelvedWheel]] = {}
    for wheel in wheels:
        tag = str(min(map(str, parse_wheel_filename(wheel.path.name)[3])))
        groups.setdefault((wheel.project, tag), []).append(wheel)
    held = {wheel.path for wheel in pinned}
    found = []
    for _, members in sorted(groups.items()):
        members.sort(key=lambda wheel: Version(wheel.version), reverse=True)
        for number, wheel in enumerate(members):
            newest = f"one of the newest {keep}" if number < keep else ""
            found.append(Kept(wheel=wheel, why="pinned" if wheel.path in held else newest))
    return tuple(found)


def prune(site: Site, stack: str, *, keep: int, folder: str = "", yes: bool = False) -> int:
    """List the wheels that would leave a stack's shelf and, with `yes`, remove them: pages first.

    `folder` is a published folder index instead of this checkout's shelf.
    """
    if keep < 1:
        raise BlackwheelError(
            "bad-keep",
            f"'{keep}' wheels of a project cannot be kept",
            where="--keep",
            fix="--keep 3, or more; what the stack pins stays anyhow",
            code=Exit.USAGE,
        )
    root = Path(folder).expanduser().absolute() if folder else site.wheels
    shelf = root / stack
    pins = loader.load(stack, site.constraints)
    wheels = index.shelved(shelf)
    pinned = [wheel for wheel in wheels if index.current(wheel, pins) is not None]
    plan = decided(wheels, keep=keep, pinned=pinned)
    rows = [(one.wheel.path.name, size(one.wheel.size), one.why or "GOES") for one in plan]
    if rows:
        site.console.table("", ("wheel", "size", "stays as"), rows)
    leaving = [one.wheel for one in plan if not one.why]
    lost = index.unlisted(shelf)
    freed = size(sum(wheel.size for wheel in leaving) + sum(path.stat().st_size for path in lost))
    if lost:
        count = len({path.name.partition(".whl")[0] for path in lost})
        site.console.say(f"{stack}: files of {count} wheels that no page lists: a run was killed")
    if not leaving and not lost:
        site.console.say(f"{stack}: nothing to take off {shelf}")
    elif not yes:
        site.console.say(f"nothing was removed; --yes takes {len(leaving)} off and frees {freed}")
    else:
        for wheel in leaving:
            index.withdraw(wheel, shelf)
            site.console.result(f"removed {wheel.path.name}")
        if lost:
            index.remove_unlisted(shelf)
        index.show_all(root)
    return Exit.OK
