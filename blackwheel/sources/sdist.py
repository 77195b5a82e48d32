"""Obtains the sdist of a pinned release, verifies it, and reads its files."""

# ruff: noqa: PLC0415  parsing an index costs 0.3 s of imports, and most runs have their sources.

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from blackwheel.core.addresses import index_address, shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.file_lock import held
from blackwheel.core.files import component, sha256
from blackwheel.core.site import Site
from blackwheel.sources.tree import FILE, LINK, PROGRAM, Entry
from blackwheel.stacks.records import ArchivePin, SdistPin

CARRIED: Final = "BLACKWHEEL_SDISTS"
"""Names a folder of sdists that a person brought along, for a machine without any network."""


class UnavailableError(Exception):
    """Raised where the sdist could not be obtained; the text is the reason."""


def obtain(site: Site, pin: SdistPin | ArchivePin, *, project: str, where: str = "") -> Path:
    """Return the verified file in `sdists/`: kept, brought along or downloaded.

    Raises `UnavailableError`, `wrong-sha256` and `wrong-size`; a wrong file is deleted, a carried
    one stays.
    """
    where = where or f"projects.{project}.sdist"
    kept = site.store / "sdists" / component(pin.name, where=f"{where}.name")
    kept.parent.mkdir(parents=True, exist_ok=True)
    folder = site.environment.get(CARRIED)
    carried = Path(folder) / pin.name if folder else None
    say = site.console.say
    with held(site.store, f"sdist-{pin.name}", project=project, console=site.console):
        if kept.is_file():
            if kept.stat().st_size == pin.size and sha256(kept) == pin.sha256:
                return kept
            say(f"{project}: {kept} is not the pinned file: it is fetched anew")
            kept.unlink()
        for stale in kept.parent.glob(f".{pin.name}-*"):
            shutil.rmtree(stale)  # of a run that was killed: the lock is ours
        with tempfile.TemporaryDirectory(prefix=f".{pin.name}-", dir=kept.parent) as part:
            new = Path(part) / pin.name
            if carried and carried.is_file():
                shutil.copyfile(carried, new)
                origin = str(carried)
            else:
                if carried:
                    say(f"{project}: {carried} is not there: the package index is asked")
                origin = _download(site, new, pin, project=project, where=where)
            _verify(new, pin, where=where, origin=origin)
            new.replace(kept)
    return kept


def entries(archive: Path, selected: Callable[[str], bool]) -> Iterator[Entry]:
    """Read the selected files of an sdist, paths without the leading `name-version/`."""
    with tarfile.open(archive) as tar:
        for member in tar:
            _, _, path = member.name.partition("/")
            if not selected(path):
                continue
            if member.issym():
                yield Entry(path=path, mode=LINK, data=os.fsencode(member.linkname))
            elif member.isreg() or member.islnk():
                source = tar.extractfile(member)
                assert source is not None  # noqa: S101  a file has content
                mode = PROGRAM if member.mode & 0o100 else FILE
                yield Entry(path=path, mode=mode, data=source.read())


def _verify(path: Path, pin: SdistPin | ArchivePin, *, where: str, origin: str) -> None:
    if path.stat().st_size != pin.size:
        raise _wrong_size(pin, f"{path.stat().st_size} bytes", where=where, origin=origin)
    found = sha256(path)
    if found != pin.sha256:
        raise BlackwheelError(
            "wrong-sha256",
            f"{pin.name} is not the pinned file; it was not kept"
            f"\nfound:  {found}\npinned: {pin.sha256}",
            where=f"{origin}, {where}.sha256",
            fix="find out who changed the file before you change the pin",
            code=Exit.SOURCE,
        )


def _wrong_size(
    pin: SdistPin | ArchivePin, found: str, *, where: str, origin: str
) -> BlackwheelError:
    return BlackwheelError(
        "wrong-size",
        f"{pin.name} is not the pinned file; it was not kept"
        f"\nfound:  {found}\npinned: {pin.size} bytes",
        where=f"{origin}, {where}.size",
        fix="find out who changed the file before you change the pin",
        code=Exit.SOURCE,
    )


def _download(
    site: Site, path: Path, pin: SdistPin | ArchivePin, *, project: str, where: str
) -> str:
    """Take the file from the package index and return its address, without any password."""
    from packaging.utils import parse_sdist_filename, parse_wheel_filename
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    from blackwheel.core import http, simple_index

    wheel = pin.name.endswith(".whl")
    name = parse_wheel_filename(pin.name)[0] if wheel else parse_sdist_filename(pin.name)[0]
    endpoint = index_address(site.environment) or PYPI_SIMPLE_ENDPOINT
    patience = http.Patience(tries=2)
    try:
        with site.console.stage(project, f"download {pin.name}") as stage:
            page = simple_index.project_page(endpoint, name, patience=patience)
            found = [package for package in page.packages if package.filename == pin.name]
            if not found:
                raise UnavailableError(f"the package index has no file {pin.name}")
            origin = shown(found[0].url)
            headers, done = {"Accept-Encoding": "identity"}, 0
            with (
                http.opened(found[0].url, patience=patience, headers=headers) as answer,
                path.open("wb") as sink,
            ):
                # Compared with the pin afterwards, which the index cannot change.
                for chunk in http.chunks(answer, patience=patience):
                    done += len(chunk)
                    if done > pin.size:
                        raise _wrong_size(pin, "more than that", where=where, origin=origin)
                    sink.write(chunk)
                    stage.update(done // 1024, pin.size // 1024, "KiB")
    except http.AbsentError as error:
        raise UnavailableError(f"the package index has no {pin.name}: {error}") from None
    except http.FailedError as error:
        raise UnavailableError(f"the package index: {error}") from None
    return origin
