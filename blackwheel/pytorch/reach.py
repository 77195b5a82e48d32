"""Asks for the first byte of pinned wheels, before gigabytes come and before anything is made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from packaging.utils import parse_wheel_filename

from blackwheel.core.addresses import shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.http import AbsentError, FailedError, Patience, whole_length
from blackwheel.core.units import size
from blackwheel.pytorch import archive, nightly_index
from blackwheel.pytorch.archive import CARRIED, Archive
from blackwheel.stacks.records import LockedWheel, Stack, python_tag

QUICK: Final = Patience(tries=2, connect=2.0, read=3.0, whole=3.0)
"""A host that is there answers within it; whoever waits longer for a byte waits hours for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """The wheels that a build still has to download."""

    wheels: tuple[LockedWheel, ...]
    total: int
    """Bytes, as their hosts tell them; 0 where one does not."""

    def __str__(self) -> str:
        names = ", ".join(one.name.partition("-")[0] for one in self.wheels)
        hosts = ", ".join(dict.fromkeys(urlsplit(one.url).hostname or "" for one in self.wheels))
        return f"{names}: {size(self.total) if self.total else 'of unknown size'} from {hosts}"


def require(
    stack: Stack, tags: Iterable[str], kept: Archive, *, patience: Patience = QUICK
) -> Download:
    """Return the download that the pinned wheels of these Pythons need.

    Raises `torch-out-of-reach` where a host does not answer, `torch-gone` for a wheel that is
    nowhere, and `other-bytes` for one that is longer or shorter than the locked one.
    """
    wheels: dict[str, LockedWheel] = {}
    total, unknown = 0, False
    for tag in tags:
        for wheel in archive.missing(stack, tag, kept):
            if wheel.name in wheels:
                continue
            wheels[wheel.name] = wheel
            there = _bytes(stack, tag, wheel, patience)
            if there and wheel.size and there != wheel.size:
                found, locked = f"{there} bytes", f"{wheel.size} bytes, sha256 {wheel.sha256}"
                raise archive.other_bytes(wheel.name, shown(wheel.url), found, "locked", locked)
            total, unknown = total + there, unknown or not there
    return Download(wheels=tuple(wheels.values()), total=0 if unknown else total)


def _bytes(stack: Stack, tag: str, wheel: LockedWheel, patience: Patience) -> int:
    """Return how long the file at a wheel's address is, 0 where the host does not tell."""
    try:
        return whole_length(wheel.url, patience=patience)
    except AbsentError:
        raise _gone(stack, tag, wheel, patience) from None
    except FailedError as error:
        raise _out_of_reach(stack, wheel, error) from None


def _gone(stack: Stack, tag: str, wheel: LockedWheel, patience: Patience) -> BlackwheelError:
    """Return `torch-gone` with the nearest builds, where a page lists any."""
    project, version, _, _ = parse_wheel_filename(wheel.name)
    pages = stack.torch.pages
    known = nightly_index.Listing(project=project, index=pages[0], offers=())
    with contextlib.suppress(BlackwheelError):  # no page: the file is gone all the same
        known = nightly_index.gathered(pages, project, patience=patience)
    served = [python_tag(python) for python in stack.python]
    return nightly_index.gone(known, version, served, stack=stack.name, lacking=[tag])


def _out_of_reach(stack: Stack, wheel: LockedWheel, why: FailedError) -> BlackwheelError:
    return BlackwheelError(
        "torch-out-of-reach",
        f"torch {stack.torch.version} of stack '{stack.name}' is not in the store, and the host of"
        f" its pinned wheels gives none: {why}",
        where=shown(wheel.url),
        fix="HTTPS_PROXY=ADDRESS where one is needed"
        f"\nor, with its wheels in a folder: export {CARRIED}=FOLDER",
        code=Exit.AWAY,
    )
