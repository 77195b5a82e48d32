"""Sets up the memory pools of this machine, and predicts the memory and time of each object."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blackwheel.builder import plan, timeline
from blackwheel.core import machine
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.stacks import projects
from blackwheel.stacks.projects import Cost
from blackwheel.stacks.request import Request

FOLDERS: Final = (Path("/dev/shm"), Path("/run/lock"), Path("/var/tmp"))  # noqa: S108
"""Where every user may make a file, and what a build sees: the first of them holds the locks."""
SETTLE: Final = 0.2
"""Seconds in which ninja hands out what it may: of these the longest objects are to begin."""
MARGIN: Final = 1.05
"""Over the largest process that was recorded: the driver around it and the linker's pages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """Memory and CPU time of an object in earlier builds."""

    peak_bytes: int
    cpu_seconds: float


def folder(environment: Mapping[str, str]) -> Path | None:
    """Return the folder of the pools' files: BLACKWHEEL_POOL, else the first that is writable."""
    asked = environment.get("BLACKWHEEL_POOL", "")
    return Path(asked) if asked else next((f for f in FOLDERS if os.access(f, os.W_OK)), None)


def locks(environment: Mapping[str, str]) -> tuple[tuple[Path, str], ...]:
    """Make the pools' files; return each with the cgroup that it stands for, "" for the machine.

    The innermost comes first, the machine's last: all take them in one order, so none waits in a
    circle. Empty where no folder will do.
    """
    place = folder(environment)
    if place is None:
        return ()
    pools = []
    try:
        for group in machine.limited_groups():
            state = group.stat()
            path = place / f"blackwheel-pool-{state.st_dev}-{state.st_ino}"
            pools.append((_file(path), str(group)))
        pools.append((_file(place / "blackwheel-pool"), ""))
    except OSError as error:
        raise BlackwheelError(
            "no-pool",
            f"the file that shares out memory among builds cannot be used: {error.strerror}",
            where=str(error.filename or place),
            fix="remove that file, or export BLACKWHEEL_POOL=/a/folder of all users who build here",
            code=Exit.MACHINE,
        ) from None
    return tuple(pools)


def _file(path: Path) -> Path:
    """Make a file that every user may lock. No link is followed, and nothing is written here.

    Opened first without O_CREAT: with it the kernel refuses another user's file in a sticky folder.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(path, flags)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):  # another build made it just now
            made = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(made, 0o666)  # whatever the umask is
            os.close(made)
        file = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(0, "it is no plain file", str(path))
    finally:
        os.close(file)
    return path


def history(store: Path, project: str) -> dict[str, Expected]:
    """Read the largest memory and time of each source, over all builds in the store."""
    found: dict[str, Expected] = {}
    kept = store / "history" / project
    trees = store.glob(f"builds/*/{project}/*")
    built = (path for tree in trees for path in tree.glob("work/objects.jsonl"))
    for path in (*built, *kept.glob("*.jsonl")):
        for line in timeline.records(path):
            if line["exit"] == 0 and not line["cached"]:
                before = found.get(line["source"], Expected(peak_bytes=0, cpu_seconds=0.0))
                found[line["source"]] = Expected(
                    peak_bytes=max(before.peak_bytes, line["peak_bytes"]),
                    cpu_seconds=max(before.cpu_seconds, line["cpu_seconds"]),
                )
    return found


def keep_history(store: Path, project: str, tag: str, records: Path) -> None:
    """Keep the records of a build tree that is about to be removed."""
    if records.exists():
        target = store / "history" / project / f"{tag.replace('/', '-')}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as file:
            file.write(records.read_bytes())
        records.unlink()


def settings(
    pools: tuple[tuple[Path, str], ...],
    cores: int,
    known: Mapping[str, Expected],
    costs: Iterable[Cost] = (),
    *,
    settle: float = 0,
    cached: bool = False,
) -> str:
    """Return the launcher's settings: a line a pool, then a line a source, then the table.

    `costs` are those of sources that no earlier build recorded.
    With a compile cache (`cached`) only the steps that it misses wait for an object's memory.
    `settle` is seconds before an object's first look: those that come together are put in order.
    """
    lines = [f"pool\t{path}\t{group}" for path, group in pools]
    lines += ["cached"] if cached else []
    lines.append(f"cores\t{cores}\t{settle}")
    for source, expected in sorted(known.items()):
        wanted = round(expected.peak_bytes * MARGIN)
        lines.append(f"take\t{source}\t{wanted}\t{expected.cpu_seconds:.0f}")
    for cost in (*costs, *plan.UNMEASURED):
        lines.append(f"take\t{cost.source}\t{cost.gib << 30}\t{cost.seconds}")
    return "\n".join(lines) + "\n"


def width(site: Site, asked: Request, jobs: int = 0) -> plan.Width:
    """Return how many objects this machine compiles at once."""
    seen = machine.read_machine()
    return plan.width(
        seen.cores,
        seen.memory_available,
        projects.load(site.patches, asked.project).largest_object(asked.pin),
        jobs=jobs,
        pooled=folder(site.environment) is not None,
    )
