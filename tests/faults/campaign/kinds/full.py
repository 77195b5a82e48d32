"""Fills disks: small file systems below the store, the shelf, the published folder and TMPDIR."""

from __future__ import annotations

from .. import choices
from ..case import Case
from ..mounts import mounted, remounted


def full_disk(case: Case) -> None:
    """A full disk is named and leaves nothing half-written; a rerun needs free space alone."""
    words = choices.any_command(case, writing=True)
    world = case.world
    at = {"prune": world.wheels, "publish": world.published}.get(words[0], world.store)
    at = world.tmp if case.dice.random() < 0.2 else at
    used = sum(-(-p.lstat().st_size // 4096) + 1 for p in at.rglob("*")) + 2
    real = {"clone": 9_500, "apply-patches": 8_000, "session": 3_000}
    toy = 90 if words[0] in real else 30
    pages = used + case.dice.randint(0, real[words[0]] if case.number % 2 else toy)
    mounted(case, at, "-t", "tmpfs", "-o", f"size={pages * 4}k", "tmpfs")
    case.note(f"{at.name}: {(pages - used) * 4} KiB free")
    case.run(*words)
    remounted(at, "size=256m")
    case.settle(*words)


KINDS = {"full-disk": full_disk}
