"""Finds the wheels that belong to a nightly torch: its requirements, torchvision, torchaudio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from packaging.requirements import Requirement
from packaging.version import Version

from blackwheel.core.addresses import shown
from blackwheel.core.download import no_answer
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.http import AbsentError, FailedError, page
from blackwheel.pytorch import archive, nightly_index
from blackwheel.pytorch import wheel as torchwheel
from blackwheel.pytorch.archive import Archive
from blackwheel.pytorch.nightly_index import Listing, Offer
from blackwheel.pytorch.wheel import TorchFile
from blackwheel.stacks.records import LockedWheel

DAYS: Final = 3
"""A build of torchvision requires the torch of its day, or of a day or two before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sought:
    """The torch whose family is looked for."""

    torch: Version
    tag: str
    """`cp311`."""
    pages: tuple[str, ...]
    """Addresses that list wheels, the channel's own first."""
    before: Mapping[str, LockedWheel]
    """What was locked with this torch before, by name: bytes that changed since are refused."""


def family_of(torch: TorchFile, sought: Sought, kept: Archive) -> tuple[LockedWheel, ...]:
    """Return the archived wheels that belong to a torch for one Python.

    Raises `family-gone` for what torch cannot do without; torchvision and torchaudio may be absent.
    """
    found = []
    for requirement in torch.requires:
        exact = torchwheel.exact_version(requirement)
        if exact and exact.local and _applies(requirement, sought.tag):
            found.append(_required(requirement.name, exact, sought, kept))
    for project in ("torchvision", "torchaudio"):
        companion = _companion(project, sought, kept)
        if companion:
            found.append(companion)
        else:
            kept.console.say(
                f"{project}: no nightly for {sought.tag} requires exactly torch {sought.torch}:"
                " not locked"
            )
    return tuple(found)


def _applies(requirement: Requirement, tag: str) -> bool:
    """Tell whether a requirement holds for this Python on Linux on x86-64, without extras."""
    version = f"{tag[2]}.{tag[3:]}"
    environment: dict[str, str] = {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "extra": "",
    }
    return requirement.marker is None or requirement.marker.evaluate(environment)


def _required(project: str, version: Version, sought: Sought, kept: Archive) -> LockedWheel:
    """Take what torch requires by a local version: no package registry may hold such a version."""
    known = nightly_index.gathered(sought.pages, project, patience=kept.patience)
    try:
        return archive.find(known, version, sought.tag, kept, before=sought.before)
    except AbsentError:
        raise BlackwheelError(
            "family-gone",
            f"torch requires {project} {version}, which is not listed for {sought.tag}, not at its"
            " address and not archived",
            where=shown(f"{sought.pages[0].rstrip('/')}/{project}/"),
            fix="pin another night, whose triton is there: invoke pin torch VERSION",
            code=Exit.TORCH,
        ) from None


def _companion(project: str, sought: Sought, kept: Archive) -> LockedWheel | None:
    """Take the build of a project that requires exactly this torch, if there is one."""
    known = nightly_index.gathered(sought.pages, project, patience=kept.patience)
    for offer in _candidates(known, sought.torch, sought.tag):
        try:
            told = _metadata(offer, kept) if offer.metadata else ""
            if told and not _belongs(told, offer.name, sought.torch):
                continue
            wheel = archive.take(offer, kept, locked=sought.before.get(offer.name))
        except AbsentError:
            continue
        text = torchwheel.metadata_text(kept.folder / wheel.name, wheel.name)
        if _belongs(text, wheel.name, sought.torch):
            return wheel
    return None


def _metadata(offer: nightly_index.Offer, kept: archive.Archive) -> str:
    try:
        return page(offer.metadata, patience=kept.patience).body.decode("utf-8", "replace")
    except FailedError as error:
        raise no_answer(offer.metadata, error) from None


def _belongs(text: str, name: str, torch: Version) -> bool:
    return torchwheel.belongs_to(torchwheel.requirements(text, name), torch)


def _candidates(known: Listing, torch: Version, tag: str) -> Iterator[Offer]:
    """Yield the builds of torch's day and the days after, listed ones first.

    Hidden ones are looked for where the numbering of the last years puts them: torchvision 0.25
    came with torch 2.10, torchaudio bears torch's own number. Only METADATA says whether it fits.
    """
    day = nightly_index.build_date(torch)
    if day is None:
        return
    days = [day + timedelta(days=more) for more in range(DAYS + 1)]
    listed = [
        offer
        for offer in known.offers
        if offer.fits(tag)
        and offer.version.local == torch.local
        and nightly_index.build_date(offer.version) in days
    ]
    yield from sorted(listed, key=lambda offer: offer.version)
    release = f"0.{torch.minor + 15}.0" if known.project == "torchvision" else torch.base_version
    for later in days[:2]:
        version = Version(f"{release}.dev{later:%Y%m%d}+{torch.local}")
        yield from nightly_index.hidden(known, version, tag)
