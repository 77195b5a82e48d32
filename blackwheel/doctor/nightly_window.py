"""Checks how long the index will list a pinned nightly, and whether its wheels are archived."""

from __future__ import annotations

from datetime import date

from packaging.version import Version

from blackwheel.core.errors import BlackwheelError
from blackwheel.doctor.check import Check
from blackwheel.pytorch import archive, nightly_index
from blackwheel.pytorch.archive import Archive
from blackwheel.stacks.records import Stack

SOON = 10
"""Builds, or nights, before a pin leaves the page."""


def unseen(stack: Stack, kept: Archive) -> tuple[str, ...]:
    """Return the locked wheels of a nightly that nobody ever downloaded here; asks no network."""
    if stack.torch.source != "index":
        return ()
    wheels = stack.torch.wheels
    lacking = (one.name for tag in wheels for one in archive.missing(stack, tag, kept))
    return tuple(dict.fromkeys(lacking))


def archive_check(stack: Stack, kept: Archive, *, today: date, network: bool) -> Check | None:
    """Judge whether a locked nightly can still be obtained tomorrow; None for other torches.

    Without a network, or an answer of the index, the pin's age tells: there is one build a night.
    """
    wheels = stack.torch.wheels
    if stack.torch.source != "index" or not wheels:
        return None
    lost = [tag for tag, one in wheels.items() if not all(map(kept.holds, one.by_url))]
    version = Version(stack.torch.version)
    if not lost:
        return Check(name="archive", ok=True, fact=f"the wheels of torch {version} are archived")
    left = _builds_left(stack, version, kept) if network else None
    if left is None:
        day = nightly_index.build_date(version)
        left = nightly_index.WINDOW - (today - day).days if day else nightly_index.WINDOW
    fact = f"torch {version} is not archived here for {', '.join(lost)}"
    if left > SOON:
        return Check(name="archive", ok=True, fact=f"{fact}; the index lists it for now")
    when = f"in about {left} nights" if left > 0 else "already: only its address is left"
    return Check(
        name="archive",
        ok=None,
        fact=f"{fact}, and leaves the index's newest {nightly_index.WINDOW} builds {when}",
        cure=f"invoke pin torch {version} --stack {stack.name} --archive FOLDER",
    )


def _builds_left(stack: Stack, version: Version, kept: Archive) -> int | None:
    """Count how many builds may come before this one leaves the page."""
    try:
        known = nightly_index.listing(stack.torch.pages[0], "torch", patience=kept.patience)
    except BlackwheelError:
        return None
    newer = {offer.version for offer in known.offers if offer.version > version}
    if all(offer.version != version for offer in known.offers):
        return 0
    return nightly_index.WINDOW - len(newer)
