"""Keeps torch wheels that an index may forget, and takes them from the archive first."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from blackwheel.core import files
from blackwheel.core.addresses import shown
from blackwheel.core.console import Console
from blackwheel.core.download import MOST, download, forget
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.file_lock import held
from blackwheel.core.files import component, sha256
from blackwheel.core.http import AbsentError, Patience
from blackwheel.pytorch import identity, nightly_index
from blackwheel.pytorch import wheel as torchwheel
from blackwheel.stacks.locks import lock_text
from blackwheel.stacks.records import LockedWheel, Stack, python_tag

CARRIED: Final = "BLACKWHEEL_ARCHIVE"
"""Names a second folder of torch wheels: shared, or brought along without a network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """The folders where torch wheels are kept, and the settings of their download."""

    store: Path
    carried: Path | None
    console: Console
    patience: Patience = field(default_factory=Patience)

    @property
    def folder(self) -> Path:
        """Folder of kept wheels; installers get one file of it by name, never the folder."""
        return self.store / "torch"

    def has(self, name: str) -> bool:
        """Tell whether the archive has a file of this name."""
        return any((place / name).is_file() for place in self._places())

    def holds(self, wheel: LockedWheel) -> bool:
        """Tell whether the archive has a wheel of this name and size; `take` compares bytes."""
        files = [place / wheel.name for place in self._places()]
        sizes = [file.stat().st_size for file in files if file.is_file()]
        return wheel.size in sizes or bool(sizes and not wheel.size)

    def _places(self) -> tuple[Path, ...]:
        return (self.folder, self.carried) if self.carried else (self.folder,)


def archive(
    store: Path,
    environment: Mapping[str, str],
    console: Console,
    patience: Patience | None = None,
) -> Archive:
    """Return the archive of this store, with the folder that the environment names."""
    named = environment.get(CARRIED)
    return Archive(
        store=store,
        carried=Path(named).absolute() if named else None,
        console=console,
        patience=patience or Patience(),
    )


def take(
    offer: nightly_index.Offer, kept: Archive, *, locked: LockedWheel | None = None
) -> LockedWheel:
    """Download or copy an offered wheel into the archive; return it as its bytes say it is.

    Raises `AbsentError`, `other-bytes`, `other-wheel`, `not-a-wheel`, and what `download` raises.
    """
    place = kept.folder / component(offer.name, where=shown(offer.url))
    kept.folder.mkdir(parents=True, exist_ok=True)
    if locked and offer.sha256 not in ("", locked.sha256):
        raise other_bytes(offer.name, shown(offer.url), offer.sha256, "locked", locked.sha256)
    with held(kept.store, f"torch-{offer.name}", project=_project(offer), console=kept.console):
        if not place.is_file() and kept.carried and (kept.carried / offer.name).is_file():
            _copy(kept.carried / offer.name, place)
        if place.is_file():
            digest = sha256(place)
            if locked and digest != locked.sha256:
                raise _damaged(place, digest, locked.sha256)
            if offer.sha256 not in ("", digest):
                raise other_bytes(offer.name, shown(offer.url), offer.sha256, "archived", digest)
        else:
            digest = _downloaded(offer, place, kept, locked=locked)
    seen = torchwheel.needs(place, offer.name)
    if locked and locked.told_by:
        _require_told(locked, seen)
    return LockedWheel(
        name=offer.name,
        sha256=digest,
        size=place.stat().st_size,
        url=shown(offer.url),
        requires=seen.requires,
        requires_python=seen.python,
    )


def find(
    known: nightly_index.Listing,
    version: Version,
    tag: str,
    kept: Archive,
    *,
    locked: LockedWheel | None = None,
    before: Mapping[str, LockedWheel] | None = None,
) -> LockedWheel:
    """Take the wheel of a version for one Python: listed, locked, archived, or at its address.

    `before` are locked wheels by name. Raises `AbsentError` where it is nowhere.
    """
    locks = {**(before or {}), **({locked.name: locked} if locked else {})}
    listed = known.at(version, tag)
    if listed and not (locked and listed.name != locked.name):
        return take(listed, kept, locked=locks.get(listed.name))
    offers = [_offer(locked)] if locked else []
    guesses = (*offers, *nightly_index.hidden(known, version, tag))
    # What is archived already is not asked for at four addresses first.
    for offer in sorted(guesses, key=lambda offer: not kept.has(offer.name)):
        try:
            return take(offer, kept, locked=locks.get(offer.name))
        except AbsentError as error:
            said = error
    raise said


def missing(stack: Stack, tag: str, kept: Archive) -> tuple[LockedWheel, ...]:
    """Return the locked wheels of one Python that no package registry has and no folder here."""
    return tuple(one for one in identity.locked_torch(stack, tag).by_url if not kept.holds(one))


def _downloaded(
    offer: nightly_index.Offer, place: Path, kept: Archive, *, locked: LockedWheel | None
) -> str:
    """Download, compare, read to the last byte; only then it gets its name in the archive."""
    with kept.console.stage(_project(offer), f"download {offer.name}") as stage:
        most = (locked.size if locked else 0) or MOST
        part = download(offer.url, place, stage=stage, patience=kept.patience, most=most)
    try:
        digest, url = sha256(part), shown(offer.url)
        if locked and digest != locked.sha256:
            raise other_bytes(offer.name, url, digest, "locked", locked.sha256)
        if offer.sha256 not in ("", digest):
            raise other_bytes(offer.name, url, digest, "claimed by the index", offer.sha256)
        if not locked:
            torchwheel.metadata_text(part, offer.name)
    except BlackwheelError:
        forget(part)
        raise
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(place)
    return digest


def obtain(stack: Stack, tag: str, kept: Archive, *, lock: Path | None = None) -> tuple[Path, ...]:
    """Return the locked wheels of one Python from the archive; with `lock`, those in that lock.

    Raises `torch-not-locked`, `lock-of-another-torch`, `torch-gone` and `other-bytes`.
    """
    torch = identity.locked_torch(stack, tag)
    wheels: Sequence[LockedWheel] = torch.by_url
    if lock:
        identity.require_in_lock(torch, lock, stack=stack.name)
        text = lock_text(lock)
        wheels = [wheel for wheel in wheels if wheel.sha256 in text]
    for wheel in wheels:
        try:
            take(_offer(wheel), kept, locked=wheel)
        except AbsentError:
            project, version, _, _ = parse_wheel_filename(wheel.name)
            known = nightly_index.gathered(stack.torch.pages, project, patience=kept.patience)
            served = [python_tag(python) for python in stack.python]
            raise nightly_index.gone(
                known, version, served, stack=stack.name, lacking=[tag]
            ) from None
    return tuple(kept.folder / wheel.name for wheel in wheels)


def installable(stack: Stack, tag: str, lock: Path, kept: Archive) -> Path:
    """Return hashed pins that an installer can follow: kept files in the place of addresses.

    So it neither asks the nightly index again nor sees the kept wheels of another stack. Raises
    what `obtain` raises, and `lock-of-another-torch` for an address that is not of this stack.
    """
    if stack.torch.source != "index":
        return lock
    obtain(stack, tag, kept, lock=lock)
    torch, text = identity.locked_torch(stack, tag), lock_text(lock)
    for wheel in torch.by_url:
        text = text.replace(f" @ {wheel.url}#", f" @ {(kept.folder / wheel.name).as_uri()}#")
    if strange := re.search(r" @ (?!file://)(\S+)", text):
        raise BlackwheelError(
            "lock-of-another-torch",
            f"these hashed pins take a file that the stack does not name: {shown(strange[1])}",
            where=f"constraints/{lock.parent.name}/{lock.name}",
            fix=f"nox -s lock -- {stack.name}",
            code=Exit.TORCH,
        )
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    place = kept.store / "pins" / digest / lock.name
    place.parent.mkdir(parents=True, exist_ok=True)
    files.replace_file(place, text.encode())
    return place


def described(stack: Stack, tag: str, kept: Archive) -> tuple[LockedWheel, ...]:
    """Return the wheels that no registry has, each with its requirements.

    Only a wheel of which the stack does not say that is fetched. Raises what `obtain` raises.
    """
    wheels = identity.locked_torch(stack, tag).by_url
    if all(wheel.told_by or wheel.requires or wheel.requires_python for wheel in wheels):
        return wheels
    obtain(stack, tag, kept)
    seen = [(wheel, torchwheel.needs(kept.folder / wheel.name, wheel.name)) for wheel in wheels]
    return tuple(
        replace(wheel, requires=told.requires, requires_python=told.python) for wheel, told in seen
    )


def keep_in(folder: Path, wheels: Sequence[LockedWheel], kept: Archive) -> None:
    """Copy archived wheels to a second folder; never replace a file by other bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in (wheel for wheel in wheels if wheel.url):
        target = folder / component(wheel.name)
        if not target.is_file():
            _copy(kept.folder / wheel.name, target)
        found = sha256(target)
        if found != wheel.sha256:
            raise _damaged(target, found, wheel.sha256)


def _copy(source: Path, target: Path) -> None:
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix=f".{target.name}-", delete=False
    ) as new:
        try:
            with source.open("rb") as old:
                shutil.copyfileobj(old, new, 1 << 20)
            new.flush()
            os.fsync(new.fileno())
            Path(new.name).chmod(0o644)
            Path(new.name).replace(target)
        except BaseException:
            Path(new.name).unlink(missing_ok=True)
            raise


def _offer(wheel: LockedWheel) -> nightly_index.Offer:
    _, version, _, _ = parse_wheel_filename(wheel.name)
    return nightly_index.Offer(
        name=wheel.name, url=wheel.url, version=version, pythons=frozenset(), sha256=wheel.sha256
    )


def _project(offer: nightly_index.Offer) -> str:
    return str(parse_wheel_filename(offer.name)[0])


def _require_told(locked: LockedWheel, seen: torchwheel.Needs) -> None:
    """Raise `other-wheel` where a wheel requires something else than its publisher said."""
    told = {str(Requirement(line)) for line in locked.requires}
    found = {str(Requirement(line)) for line in seen.requires}
    faults = [f"requires {line}: not in the lock" for line in sorted(found - told)]
    faults += [f"requires {line}: not in the wheel" for line in sorted(told - found)]
    if SpecifierSet(locked.requires_python) != SpecifierSet(seen.python):
        faults.append(f"Python: {seen.python} instead of {locked.requires_python}")
    if faults:
        raise BlackwheelError(
            "other-wheel",
            "\n".join(
                [
                    f"{locked.name} has the bytes that {locked.told_by} published, and says else",
                    *faults,
                ]
            ),
            where=locked.name,
            fix="invoke pin torch latest, and nox -s lock: these hashed pins were made from that",
            code=Exit.TORCH,
        )


def _damaged(place: Path, found: str, locked: str) -> BlackwheelError:
    return BlackwheelError(
        "other-bytes",
        f"{place.name}: the archived file is not the locked one\nfound:  {found}\nlocked: {locked}",
        where=str(place),
        fix=f"rm '{place}', then the same command again",
        code=Exit.TORCH,
    )


def other_bytes(
    name: str, where: str, found: str, known_as: str, known: str
) -> nightly_index.WheelLostError:
    """Return the error of a name that serves other bytes: `found`, and those `known_as` pinned."""
    return nightly_index.WheelLostError(
        "other-bytes",
        f"{name}: same name, other bytes; nothing was kept or pinned"
        f"\nfound:  {found}\n{known_as}: {known}",
        where=where,
        fix="find out who changed the file; to take another build: invoke pin torch VERSION",
        code=Exit.TORCH,
    )
