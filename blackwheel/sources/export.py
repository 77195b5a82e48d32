"""Keeps exported sources in the store, and hashes every file of one before it is used again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

from blackwheel.core import records
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.sources.listing import Listing, UnprovedError
from blackwheel.sources.tree import differing, few, rows
from blackwheel.stacks.records import ProjectPin

Origin = Literal["git", "sdist"]
_MARKER: Final = "fetched.json"


def digest(pin: ProjectPin, origin: Origin) -> str:
    """Return the name of an export's folder: a digest of every pin that selects its files."""
    chosen: dict[str, Any] = {
        "source": (pin.source.commit, pin.source.tree, pin.source.sparse),
        "nested": [
            (n.path, n.commit, n.tree, n.sparse, *([asdict(n.archive)] if n.archive else []))
            for n in pin.nested
        ],
        "sdist": asdict(pin.sdist) if origin == "sdist" and pin.sdist else None,
    }
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]


def folder_of(project: str, pin: ProjectPin, origin: Origin, store: Path) -> Path:
    """Return the folder of an export; it need not be there."""
    return store / "sources" / project / digest(pin, origin)


@contextlib.contextmanager
def new_export(project: str, pin: ProjectPin, origin: Origin, store: Path) -> Iterator[Path]:
    """Give an empty folder that takes its place when it is complete: nobody sees half of it."""
    place = folder_of(project, pin, origin, store)
    place.parent.mkdir(parents=True, exist_ok=True)
    for stale in place.parent.glob(f".{place.name}-*"):
        shutil.rmtree(stale)  # of a run that was killed: the lock is ours
    folder = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        (folder / "tree").mkdir()
        yield folder
        folder.chmod(0o755)
        if place.exists():
            shutil.rmtree(place)
        folder.replace(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_written(folder: Path, pin: ProjectPin, listed: Listing) -> None:
    """Write the lists beside a new export whose files are those that its pins name."""
    if other := differing(rows(folder / "tree"), listed.files(pin)):
        raise BlackwheelError(
            "sources-changed",
            f"files are not what was written a moment ago: {few(other)}",
            where=str(folder),
            fix="run the same command again; if it comes back, check this disk and its memory",
            code=Exit.SOURCE,
        )
    listed.write(folder / _MARKER)


def kept(site: Site, project: str, pin: ProjectPin, origin: Origin) -> Listing | None:
    """Return the lists of an earlier export whose files are those that its pins name."""
    folder, say = folder_of(project, pin, origin, site.store), site.console.say
    if not folder.is_dir():
        return None
    found = records.kept(folder / _MARKER, Listing)
    try:
        wanted = found.files(pin) if found else {}
    except UnprovedError as error:
        found = None
        say(f"{project}: the list of the kept source is not of its pins ({error})")
    if not found or not (folder / "tree").is_dir():
        say(f"{project}: nothing proves the kept source: it is written anew")
        return None
    if other := differing(rows(folder / "tree"), wanted):
        say(f"{project}: files of the kept source were changed: {few(other)}")
        say(f"{project}: the source is written anew")
        return None
    return found
