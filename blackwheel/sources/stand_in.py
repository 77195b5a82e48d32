"""Reads a nested source from a published wheel, which stands in where its git host is away.

The bytes are held twice: the wheel by its sha256, and its files by the git tree id that they make.
Where git answers, the same files of the commit must make that tree: one key has one content.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.scratch import scratch
from blackwheel.core.site import Site
from blackwheel.sources import sdist
from blackwheel.sources.git_host import UnreachableError
from blackwheel.sources.tree import FILE, Entry, tree_id, write_entries
from blackwheel.stacks.records import ArchivePin, NestedPin


@dataclass(frozen=True, kw_only=True, slots=True)
class StandIn:
    """The files of a nested source, out of a wheel."""

    pin: NestedPin
    archive: ArchivePin
    path: Path
    """The wheel, verified."""

    @property
    def tree(self) -> str:
        """Git tree id of the files."""
        return self.archive.tree

    def entries(self) -> Iterator[Entry]:
        """Read the files, with the paths that they have in the nested source."""
        with zipfile.ZipFile(self.path) as wheel:
            for name in sorted(wheel.namelist()):
                if name.startswith(f"{self.archive.folder}/") and not name.endswith("/"):
                    inner = name.removeprefix(f"{self.archive.folder}/")
                    yield Entry(
                        path=f"{self.archive.into}/{inner}", mode=FILE, data=wheel.read(name)
                    )


def obtain(
    site: Site, pin: NestedPin, reason: UnreachableError, *, project: str, where: str
) -> StandIn:
    """Return the wheel's files for a nested source whose git host is away.

    Raises the `UnreachableError` again where the wheel cannot be had either, and `wrong-tree`.
    """
    archive = pin.archive
    if archive is None:
        raise reason
    site.console.say(f"{project}: {reason.url} cannot be reached ({reason})")
    site.console.say(f"{project}: files of {archive.name} stand in for {pin.path}")
    try:
        path = sdist.obtain(site, archive, project=project, where=f"{where}.archive")
    except sdist.UnavailableError as error:
        lack = f"{reason}; {archive.name} cannot be had either: {error}"
        raise UnreachableError(lack, url=reason.url, where=reason.where) from None
    found, where = StandIn(pin=pin, archive=archive, path=path), f"{where}.archive"
    _require(archive, found.entries(), where=where, what=archive.name, store=site.store)
    return found


def require_same(pin: NestedPin, entries: Iterable[Entry], *, where: str, store: Path) -> None:
    """Raise `wrong-tree` where a commit holds other files than the wheel that stands in for it.

    Only files of the kinds that the wheel holds are compared: it has no tests and no data.
    """
    if pin.archive:
        what = f"commit {pin.commit[:12]}"
        _require(pin.archive, entries, where=f"{where}.archive.tree", what=what, store=store)


def _require(
    archive: ArchivePin, entries: Iterable[Entry], *, where: str, what: str, store: Path
) -> None:
    inside = [
        entry
        for entry in entries
        if entry.path.startswith(f"{archive.into}/") and entry.path.endswith(archive.suffix)
    ]
    store.mkdir(parents=True, exist_ok=True)
    with scratch(store, "stand-in-") as folder:
        write_entries(inside, folder / "tree", where=where)
        root = folder / "tree" / archive.into
        found = tree_id(root) if root.is_dir() else "no file at all"
    if found != archive.tree:
        raise BlackwheelError(
            "wrong-tree",
            f"the {archive.suffix} files of {what} make another tree"
            f"\nfound:  {found}\npinned: {archive.tree}",
            where=where,
            fix="correct the archive in the stack file, or leave this source out with --without",
            code=Exit.SOURCE,
        )
