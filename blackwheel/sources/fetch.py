"""Fetches the pinned commit, or the sdist of its release when no git host is reachable."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from blackwheel.core.console import Console
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.file_lock import held
from blackwheel.sources import sdist, stand_in
from blackwheel.sources.git_host import UnreachableError, disk_full
from blackwheel.sources.git_store import GitStore
from blackwheel.sources.stand_in import StandIn
from blackwheel.sources.tree import is_selected, selected_paths, tree_id, write_entries
from blackwheel.stacks.records import GitPin, NestedPin, ProjectPin, SdistPin

__all__ = ["NestedTree", "SourceTree", "fetch", "selected_paths", "tree_id"]

Origin = Literal["git", "sdist"]
_MARKER: Final = "fetched.json"


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


def fetch(
    project: str,
    pin: ProjectPin,
    *,
    store: Path,
    environment: Mapping[str, str],
    console: Console,
) -> SourceTree:
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
    with held(store, f"sources-{project}", project=project, console=console), _space(store):
        for origin in _origins(pin):
            found = _exported(project, pin, origin, store=store, console=console)
            if found:
                return found
        reason = None
        if not pin.source.only_sdist:
            try:
                return _from_git(
                    project, pin, store=store, environment=environment, console=console
                )
            except UnreachableError as error:
                reason = error
        return _from_sdist(
            project, pin, reason, store=store, environment=environment, console=console
        )


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


def _origins(pin: ProjectPin) -> tuple[Origin, ...]:
    if pin.source.only_sdist:
        return ("sdist",)
    return ("git", "sdist") if pin.sdist else ("git",)


def _from_git(
    project: str,
    pin: ProjectPin,
    *,
    store: Path,
    environment: Mapping[str, str],
    console: Console,
) -> SourceTree:
    places = [("", f"projects.{project}.source", pin.source), *_nested_places(project, pin)]
    stores = _fetched(places, project, store=store, environment=environment, console=console)
    with _new_export(project, pin, "git", store) as folder:
        nested = _written(stores, folder / "tree")
        _mark(folder, stores[0][2].tree, nested[1:])
    return _announced(project, pin, "git", store=store, console=console)


_Place = tuple[str, str, GitPin]
"""Path in the tree, key path of the pin, and the pin."""
_Fetched = list[tuple[str, str, GitStore | StandIn]]


def _nested_places(project: str, pin: ProjectPin) -> list[_Place]:
    return [(n.path, f"projects.{project}.nested.{i}", n) for i, n in enumerate(pin.nested)]


def _fetched(
    places: Sequence[_Place],
    project: str,
    *,
    store: Path,
    environment: Mapping[str, str],
    console: Console,
) -> _Fetched:
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
        repository = GitStore(
            source,
            project=project,
            where=where,
            store=store,
            environment=environment,
            console=console,
        )
        try:
            repository.fetch()
        except UnreachableError as reason:
            if not isinstance(source, NestedPin):
                raise
            known: Any = {"store": store, "environment": environment, "console": console}
            found = stand_in.obtain(source, reason, project=project, where=where, **known)
            stores.append((path, where, found))
            continue
        if isinstance(source, NestedPin):
            stand_in.require_same(source, repository.entries(), where=where, store=store)
        stores.append((path, where, repository))
    return stores


def _written(stores: _Fetched, root: Path) -> tuple[NestedTree, ...]:
    for path, where, repository in stores:
        write_entries(repository.entries(), root / path, where=where)
    return tuple(
        NestedTree(
            path=path,
            commit=one.pin.commit,
            tree=one.tree,
            wheel=one.archive.name if isinstance(one, StandIn) else "",
        )
        for path, _, one in stores
    )


def _from_sdist(
    project: str,
    pin: ProjectPin,
    reason: UnreachableError | None,
    *,
    store: Path,
    environment: Mapping[str, str],
    console: Console,
) -> SourceTree:
    if pin.sdist is None:
        assert reason is not None  # noqa: S101  without an sdist the stack names a whole commit
        raise _unreachable(reason, project, pin, "no sdist is pinned that could stand in")
    if reason:
        console.say(f"{project}: {reason.url} cannot be reached ({reason})")
        console.say(f"{project}: the sdist of the same release stands in: {pin.sdist.name}")
    try:
        archive = sdist.obtain(
            pin.sdist, project=project, store=store, environment=environment, console=console
        )
    except sdist.UnavailableError as error:
        if reason is None:
            raise _no_sdist(project, pin, pin.sdist, error) from None
        lack = f"{pin.sdist.name} cannot be had either: {error}"
        raise _unreachable(reason, project, pin, lack) from None
    inner = {n.path: n.sparse for n in pin.nested}
    with _new_export(project, pin, "sdist", store) as folder:
        root = folder / "tree"
        files = sdist.entries(archive, lambda path: is_selected(path, pin.source.sparse, inner))
        write_entries(files, root, where=f"{archive.name}, projects.{project}.sdist")
        found = tree_id(root)
        if found != pin.sdist.tree:
            raise _wrong_tree(project, pin.sdist, found)
        bundled = tuple(
            NestedTree(path=n.path, commit=n.commit, tree=tree_id(root / n.path))
            for n in pin.nested
            if (root / n.path).is_dir()
        )
        inside = {one.path for one in bundled}
        lacking = [place for place in _nested_places(project, pin) if place[0] not in inside]
        try:
            stores = _fetched(
                lacking, project, store=store, environment=environment, console=console
            )
        except UnreachableError as error:
            raise _nested_unreachable(error, project, pin) from None
        told = str(reason) if reason else _only_sdist(pin.source)
        _mark(folder, found, (*bundled, *_written(stores, root)), told)
    return _announced(project, pin, "sdist", store=store, console=console)


def _folder(project: str, pin: ProjectPin, origin: Origin, store: Path) -> Path:
    return store / "sources" / project / digest(pin, origin)


@contextlib.contextmanager
def _new_export(project: str, pin: ProjectPin, origin: Origin, store: Path) -> Iterator[Path]:
    """Give an empty folder that takes its place when it is complete: nobody sees half of it."""
    place = _folder(project, pin, origin, store)
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


def _mark(folder: Path, tree: str, nested: tuple[NestedTree, ...], reason: str = "") -> None:
    """Write what the export is: its presence says that the files are complete."""
    marker = {
        "tree": tree,
        "nested": [asdict(one) for one in nested],
        "reason": reason,
        "exported": tree_id(folder / "tree"),
    }
    text = json.dumps(marker, indent=2)
    (folder / _MARKER).write_text(text, encoding="utf-8")


def _exported(
    project: str, pin: ProjectPin, origin: Origin, *, store: Path, console: Console
) -> SourceTree | None:
    """Return an earlier export whose files are still what was written."""
    folder = _folder(project, pin, origin, store)
    try:
        marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if tree_id(folder / "tree") != marker["exported"]:
        console.say(f"{project}: files of the kept source were changed: it is written anew")
        return None
    return _announced(project, pin, origin, store=store, console=console)


def _announced(
    project: str, pin: ProjectPin, origin: Origin, *, store: Path, console: Console
) -> SourceTree:
    folder = _folder(project, pin, origin, store)
    marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    source = SourceTree(
        project=project,
        pin=pin,
        root=folder / "tree",
        origin=origin,
        commit=pin.source.commit,
        tree=marker["tree"],
        nested=tuple(NestedTree(**one) for one in marker["nested"]),
        reason=marker["reason"],
    )
    what = f"commit {source.named} from git"
    if origin == "sdist" and pin.sdist:
        what = f"{pin.sdist.name} instead of git ({source.reason})"
    console.say(f"{project}: source: {what}, tree {source.tree[:12]}")
    return source


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
    return "only the sdist tells its commit" if source.commit else "nobody here knows its commit"


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
