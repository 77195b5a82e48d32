"""Removes old wheels from a shelf (`invoke prune`); keeps the newest and every pinned one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import parse_wheel_filename
from packaging.version import Version

from blackwheel.core.errors import BlackwheelError, Exit, nearest
from blackwheel.core.site import Site
from blackwheel.core.units import counted, size
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


def named(wheels: Sequence[ShelvedWheel], name: str, shelf: Path) -> tuple[Kept, ...]:
    """Decide that one wheel goes, whatever pins it; raise `no-such-wheel`."""
    names = [wheel.path.name for wheel in wheels]
    if name not in names:
        raise BlackwheelError(
            "no-such-wheel",
            f"no page lists '{name}'{nearest(name, names)}",
            where=str(shelf),
            fix=f"one of: {', '.join(names)}" if names else "nothing is listed there",
            code=Exit.USAGE,
        )
    found = [(wheel, "not named") for wheel in wheels if wheel.path.name != name]
    found += [(wheel, "") for wheel in wheels if wheel.path.name == name]
    return tuple(Kept(wheel=wheel, why=why) for wheel, why in found)


def _no_index(root: Path, stack: str) -> BlackwheelError:
    others = sorted(page.parent.name for page in root.glob("*/simple"))
    fix = f"--stack {' or '.join(others)}" if others else "--folder FOLDER, as invoke publish --to"
    if (root / "simple").is_dir():
        fix = f"--folder {root.parent} --stack {root.name}"
    return BlackwheelError(
        "no-index-there",
        f"there is no index of stack '{stack}'",
        where=str(root),
        fix=fix,
        code=Exit.USAGE,
    )


def prune(
    site: Site, stack: str, *, keep: int, wheel: str = "", folder: str = "", yes: bool = False
) -> int:
    """List the wheels that would leave a stack's shelf and, with `yes`, remove them: pages first.

    `folder` is a published folder index instead of this checkout's shelf, `wheel` the file name of
    the only one that goes. Raises `bad-keep`, `no-index-there` and `no-such-wheel`.
    """
    if keep < 1:
        raise BlackwheelError(
            "bad-keep",
            f"'{keep}' wheels of a project cannot be kept",
            where="--keep",
            fix="--keep 1, or --wheel NAME for one that must go although the stack pins it",
            code=Exit.USAGE,
        )
    root = Path(folder).expanduser().absolute() if folder else site.wheels
    shelf = root / stack
    pins = loader.load(stack, site.constraints)
    if folder and not (shelf / "simple").is_dir():
        raise _no_index(root, stack)
    wheels, gone = index.shelved(shelf), index.shelved(shelf, absent=True)
    if wheel:
        plan = named((*wheels, *gone), wheel, shelf)
    else:
        pinned = [one for one in wheels if index.current(one, pins) is not None]
        plan = decided(wheels, keep=keep, pinned=pinned)
        plan += tuple(Kept(wheel=one, why="") for one in gone)
    rows = [(one.wheel.path.name, size(one.wheel.size), one.why or "GOES") for one in plan]
    if rows:
        site.console.table("", ("wheel", "size", "stays as"), rows)
    leaving = [one.wheel for one in plan if not one.why]
    lost = index.unlisted(shelf)
    there = [one for one in leaving if one not in gone]
    freed = size(sum(one.size for one in there) + sum(path.stat().st_size for path in lost))
    if lost:
        count = counted(len({path.name.partition(".whl")[0] for path in lost}), "wheel")
        site.console.say(f"{stack}: files of {count} that no page lists: a run was killed")
    if gone:
        count = counted(len(gone), "wheel")
        site.console.say(f"{stack}: files of {count} that a page lists were removed")
    if not leaving and not lost:
        site.console.say(f"{stack}: nothing to take off {shelf}; --wheel NAME takes a pinned one")
    elif not yes:
        site.console.say(f"nothing was removed; --yes takes {len(leaving)} off and frees {freed}")
    else:
        for one in leaving:
            index.withdraw(one, shelf)
            site.console.result(f"removed {one.path.name}")
        if lost:
            index.remove_unlisted(shelf)
        index.show_all(root)
    return Exit.OK
