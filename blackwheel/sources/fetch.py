"""Fetches the pinned commit, or the sdist of its release when no git host is reachable."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.file_lock import held
from blackwheel.core.site import Site
from blackwheel.sources import sdist, stand_in
from blackwheel.sources.export import Origin, folder_of, kept, new_export, require_written
from blackwheel.sources.git_host import UnreachableError, disk_full
from blackwheel.sources.git_store import GitStore
from blackwheel.sources.listing import Listing, Part, part_of
from blackwheel.sources.stand_in import StandIn
from blackwheel.sources.tree import (
    is_selected,
    listed_tree_id,
    rows,
    write_entries,
)
from blackwheel.stacks.records import GitPin, NestedPin, ProjectPin, SdistPin


class SourceUnreachableError(BlackwheelError):
    """Neither a git host nor an sdist gives a source."""

    def __init__(self, name: str, fact: str, *, path: str, **words: Any) -> None:
        super().__init__(name, fact, **words)
        self.path = path
        """Of a nested source; empty for the project's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NestedTree:
    """A nested source inside the tree of its project."""

    path: str
    commit: str
    """The pinned one; of an sdist nobody can tell, its files are held by the sdist's tree."""
    tree: str
    """Git tree id of the commit; from an sdist or a wheel, of the files that were taken."""
    wheel: str = ""
    """The wheel that stood in for its git host."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceTree:
    """The selected files of a project and its nested sources, without `.git`."""

    project: str
    pin: ProjectPin
    root: Path
    origin: Origin
    commit: str
    """The pinned one; for an sdist, that of the same release, or empty: nobody knows it."""
    tree: str
    """Git tree id: of the commit, or of the sdist's selected files."""
    nested: tuple[NestedTree, ...]
    reason: str = ""
    """Why the sdist stands in for git."""

    @property
    def named(self) -> str:
        """Short name for messages: the commit, or the sdist where nobody knows one."""
        return self.commit[:12] or (self.pin.sdist.name if self.pin.sdist else "")


def fetch(site: Site, project: str, pin: ProjectPin) -> SourceTree:
    """Return the project's sources out of the per-user store, fetched if they are not there yet.

    What was exported before is used again, from either origin and without network, when its files
    still make the tree id that they were written with. Raises `sdist-not-measured`.
    """
    if pin.sdist and not pin.sdist.measured:
        raise BlackwheelError(
            "sdist-not-measured",
            f"the stack names {pin.sdist.name}, and not which bytes it has",
            where=f"projects.{project}.sdist",
            fix=f"invoke pin {project} {pin.version} --stack STACK",
            code=Exit.SOURCE,
        )
    lock = held(site.store, f"sources-{project}", project=project, console=site.console)
    with lock, _space(site.store):
        for origin in _origins(pin):
            if found := kept(site, project, pin, origin):
                return _announced(site, project, pin, origin, found)
        reason = None
        if pin.source.whole:
            try:
                return _from_git(site, project, pin)
            except UnreachableError as error:
                reason = error
        return _from_sdist(site, project, pin, reason)


def _origins(pin: ProjectPin) -> tuple[Origin, ...]:
    if not pin.source.whole:
        return ("sdist",)
    return ("git", "sdist") if pin.sdist else ("git",)


def _from_git(site: Site, project: str, pin: ProjectPin) -> SourceTree:
    places = [("", f"projects.{project}.source", pin.source), *_nested_places(project, pin)]
    stores = _fetched(site, places, project)
    listed = Listing(parts=tuple(part_of(path, one) for path, _, one in stores))
    with new_export(project, pin, "git", site.store) as folder:
        _written(stores, folder / "tree")
        require_written(folder, pin, listed)
    return _announced(site, project, pin, "git", listed)


_Place = tuple[str, str, GitPin]
"""Path in the tree, key path of the pin, and the pin."""
_Fetched = list[tuple[str, str, GitStore | StandIn]]


def _nested_places(project: str, pin: ProjectPin) -> list[_Place]:
    return [(n.path, f"projects.{project}.nested.{i}", n) for i, n in enumerate(pin.nested)]


def _fetched(site: Site, places: Sequence[_Place], project: str) -> _Fetched:
    """Fetch all before anything is written; raise `nested-not-pinned`, never take HEAD."""
    if unknown := [path for path, _, source in places if not source.commit]:
        raise BlackwheelError(
            "nested-not-pinned",
            f"nobody here has seen which commit of {', '.join(unknown)} is wanted",
            where=f"projects.{project}.nested",
            fix=f"where its git host answers: invoke pin {project} VERSION --stack STACK",
            code=Exit.SOURCE,
        )
    stores: _Fetched = []
    for path, where, source in places:
        repository = GitStore(site, source, project=project, where=where)
        try:
            repository.fetch()
        except UnreachableError as reason:
            if not isinstance(source, NestedPin):
                raise
            found = stand_in.obtain(site, source, reason, project=project, where=where)
            stores.append((path, where, found))
            continue
        if isinstance(source, NestedPin):
            stand_in.require_same(source, repository.entries(), where=where, store=site.store)
        stores.append((path, where, repository))
    return stores


def _written(stores: _Fetched, root: Path) -> None:
    for path, where, repository in stores:
        write_entries(repository.entries(), root / path, where=where)


def _from_sdist(
    site: Site, project: str, pin: ProjectPin, reason: UnreachableError | None
) -> SourceTree:
    if pin.sdist is None:
        assert reason is not None  # noqa: S101  without an sdist the stack names commit and tree
        raise _unreachable(reason, project, pin, "no sdist is pinned that could stand in")
    if reason:
        site.console.say(f"{project}: {reason.url} cannot be reached ({reason})")
        site.console.say(f"{project}: the sdist of the same release stands in: {pin.sdist.name}")
    try:
        archive = sdist.obtain(site, pin.sdist, project=project)
    except sdist.UnavailableError as error:
        if reason is None:
            raise _no_sdist(project, pin, pin.sdist, error) from None
        lack = f"{pin.sdist.name} cannot be had either: {error}"
        raise _unreachable(reason, project, pin, lack) from None
    inner = {n.path: n.sparse for n in pin.nested}
    with new_export(project, pin, "sdist", site.store) as folder:
        root = folder / "tree"
        files = sdist.entries(archive, lambda path: is_selected(path, pin.source.sparse, inner))
        write_entries(files, root, where=f"{archive.name}, projects.{project}.sdist")
        own = Part(path="", kind="sdist", files=rows(root))
        if own.tree != pin.sdist.tree:
            raise _wrong_tree(project, pin.sdist, own.tree)
        inside = {one.path for one in pin.nested if (root / one.path).is_dir()}
        lacking = [place for place in _nested_places(project, pin) if place[0] not in inside]
        try:
            stores = _fetched(site, lacking, project)
        except UnreachableError as error:
            raise _nested_unreachable(error, project, pin) from None
        _written(stores, root)
        listed = Listing(
            parts=(own, *(part_of(path, one) for path, _, one in stores)),
            reason=str(reason) if reason else _only_sdist(pin.source),
        )
        require_written(folder, pin, listed)
    return _announced(site, project, pin, "sdist", listed)


def _announced(
    site: Site, project: str, pin: ProjectPin, origin: Origin, listed: Listing
) -> SourceTree:
    root = folder_of(project, pin, origin, site.store) / "tree"
    parts = {part.path: part for part in listed.parts}
    own = parts[""]
    source = SourceTree(
        project=project,
        pin=pin,
        root=root,
        origin=origin,
        commit=pin.source.commit,
        tree=own.tree,
        nested=tuple(_nested(one, parts.get(one.path), own) for one in pin.nested),
        reason=listed.reason,
    )
    what = f"commit {source.named} from git"
    if origin == "sdist" and pin.sdist:
        what = f"{pin.sdist.name} instead of git ({source.reason})"
    site.console.say(f"{project}: source: {what}, tree {source.tree[:12]}")
    return source


def _nested(pin: NestedPin, part: Part | None, own: Part) -> NestedTree:
    """Tell which files of a nested source are there: of its own list, or bundled in an sdist."""
    wheel = pin.archive.name if part and part.kind == "wheel" and pin.archive else ""
    folder = f"{pin.path}/"
    inside = {p.removeprefix(folder): o for p, o in own.files.items() if p.startswith(folder)}
    tree = part.tree if part and not wheel else listed_tree_id(inside)
    if wheel and pin.archive:
        tree = pin.archive.tree
    return NestedTree(path=pin.path, commit=pin.commit, tree=tree, wheel=wheel)


@contextlib.contextmanager
def _space(store: Path) -> Iterator[None]:
    """Turn a full disk into its own error."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(store) from None
        raise


def _unreachable(
    reason: UnreachableError, project: str, pin: ProjectPin, lack: str
) -> SourceUnreachableError:
    return SourceUnreachableError(
        "git-host-unreachable",
        f"{reason.url} cannot be reached: {reason}\n{lack}",
        where=reason.where,
        fix="connect to the network, name a mirror with git's url.*.insteadOf,"
        f"\nor carry the sdist here: {sdist.CARRIED}=folder",
        code=Exit.SOURCE,
        path=_path_of(reason, project, pin),
    )


def _path_of(reason: UnreachableError, project: str, pin: ProjectPin) -> str:
    """Return the path of the nested source that is out of reach; empty for the project's own."""
    paths = {f"{where}.url": path for path, where, _ in _nested_places(project, pin)}
    return paths.get(reason.where, "")


def _nested_unreachable(
    reason: UnreachableError, project: str, pin: ProjectPin
) -> SourceUnreachableError:
    path = _path_of(reason, project, pin)
    name = path.rpartition("/")[2]
    without = f"\nor leave it out: --without {name}" if name in pin.optional else ""
    return SourceUnreachableError(
        "nested-unreachable",
        f"{reason.url} cannot be reached: {reason}\nthe sdist does not hold {path}",
        where=reason.where,
        fix=f"connect to the network, or name a mirror with git's url.*.insteadOf{without}",
        code=Exit.SOURCE,
        path=path,
    )


def _only_sdist(source: GitPin) -> str:
    if not source.only_sdist:
        return "nobody here has seen the tree of its commit"
    return "only the sdist tells its commit" if source.commit else "pinned by sha256, no commit"


def _no_sdist(
    project: str, pin: ProjectPin, archive: SdistPin, error: Exception
) -> BlackwheelError:
    why = _only_sdist(pin.source)
    return BlackwheelError(
        "no-sdist",
        f"{archive.name} cannot be had: {error}\nno git host can be asked instead: {why}",
        where=f"projects.{project}.sdist",
        fix=f"connect to the network, or carry the sdist here: {sdist.CARRIED}=folder",
        code=Exit.SOURCE,
    )


def _wrong_tree(project: str, pin: SdistPin, found: str) -> BlackwheelError:
    return BlackwheelError(
        "wrong-tree",
        f"the selected files of {pin.name} make another tree\nfound:  {found}\npinned: {pin.tree}",
        where=f"projects.{project}.sdist.tree",
        fix="correct tree or 'sparse' in the stack file: they are not of one source",
        code=Exit.SOURCE,
    )
