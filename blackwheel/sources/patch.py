"""Applies a series to a source: zero fuzz, all patches or none; returns a PatchedTree."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from blackwheel.core import records
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.file_lock import held
from blackwheel.core.progress import Stage
from blackwheel.core.site import Site
from blackwheel.core.units import counted
from blackwheel.sources.export import digest
from blackwheel.sources.fetch import SourceTree
from blackwheel.sources.scratch_git import Scratch, allowed_paths
from blackwheel.sources.series import Patch, Series, patch_digests
from blackwheel.sources.tree import Rows, differing, few, listed_tree_id, rows

_PART: Final = ".part-"
_State = tuple[int, bytes] | None
"""x bit and content; None without a file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedPatch:
    """A patch that was applied."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchedTree:
    """A source with its series applied."""

    source: SourceTree
    root: Path
    patches: tuple[AppliedPatch, ...]
    tree: str
    """Git tree id of everything below `root`, nested sources included."""


def apply(site: Site, source: SourceTree, series: Series, *, stack: str = "") -> PatchedTree:
    """Copy the source into the store and apply every patch, or find that done before.

    Every context line of a hunk must be there, and where the patch says: a hunk that moved fits a
    repeated context as well as its own. `stack` is named in the command that mends a stale patch.
    Raises `stale-patch`, `patch-outside-tree`,
    `patch-makes-link`, `patch-is-binary`, `patch-unreadable`, `patch-skipped`, and
    `patched-tree-changed` when somebody edited the copy.
    """
    store, console = site.store, site.console
    shelf = store / "patched" / source.project
    shelf.mkdir(parents=True, exist_ok=True)
    digests = patch_digests(series)
    made_of = {
        "source": digest(source.pin, source.origin),
        "patches": [list(pair) for pair in digests],
    }
    place = shelf / hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:20]
    count = counted(len(digests), "patch", "patches")
    fix = f"invoke refresh-patches {source.project}" + (f" --stack {stack}" if stack else "")
    with held(store, f"patches-{source.project}", project=source.project, console=console):
        for leftover in shelf.glob(f"{_PART}*"):  # of a run that was killed: the lock is ours
            shutil.rmtree(leftover)
        part = Path(tempfile.mkdtemp(prefix=_PART, dir=shelf))
        try:
            with console.stage(source.project, f"apply {count}") as stage:
                made = _applied(source, series, part, site.environment, stage=stage, fix=fix)
                if place.exists():
                    # Made anew and compared: nothing that lies in the store proves itself.
                    _require(place / "tree", made)
                    stage.conclude("the same tree as before")
                else:
                    (part / "done").replace(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return PatchedTree(
        source=source,
        root=place / "tree",
        patches=tuple(AppliedPatch(name=name, sha256=sha256) for name, sha256 in digests),
        tree=listed_tree_id(made),
    )


def require_unchanged(patched: PatchedTree) -> Rows:
    """Return the files of a patched tree; raise `patched-tree-changed` where its id is another."""
    found = rows(patched.root) if patched.root.is_dir() else {}
    if listed_tree_id(found) != patched.tree:
        raise _edited(patched.root, "")
    return found


def _require(tree: Path, wanted: Rows) -> None:
    """Raise `patched-tree-changed` where a copy in the store is another than the one just made."""
    if other := differing(rows(tree) if tree.is_dir() else {}, wanted):
        raise _edited(tree, f": {few(other)}")


def _edited(tree: Path, which: str) -> BlackwheelError:
    return BlackwheelError(
        "patched-tree-changed",
        f"a patched tree in the store is not what its series makes of its source{which}",
        where=str(tree),
        fix=f"keep your edits as a patch, then: rm -r '{tree.parent}'",
        code=Exit.PATCH,
    )


def _applied(
    source: SourceTree,
    series: Series,
    part: Path,
    environment: Mapping[str, str],
    *,
    stage: Stage,
    fix: str,
) -> Rows:
    """Make the patched tree in `part`/done/tree, refusing before it copies; return its files."""
    pristine = Scratch(tree=source.root, repository=part / "git", environment=environment)
    pristine.make()
    paths = {}
    for patch in series.patches:
        (part / patch.name).write_bytes(patch.content)
        paths[patch.name] = allowed_paths(pristine, series, patch, part / patch.name)
    shutil.copytree(source.root, part / "done/tree", symlinks=True)
    copy = Scratch(tree=part / "done/tree", repository=part / "git", environment=environment)
    for done, patch in enumerate(series.patches):
        stage.update(done, len(series.patches), patch.name)
        before = [_state(copy.tree / path) for path in paths[patch.name]]
        if reasons := copy.misfit(part / patch.name, apply=True):
            reasons += _line_ends(source.root, paths[patch.name], patch)
            raise stale(source, series, patch, reasons, fix=fix)
        _verify(copy.tree, series, patch, dict(zip(paths[patch.name], before, strict=True)))
    stage.update(len(series.patches), len(series.patches))
    return rows(copy.tree)


def _verify(tree: Path, series: Series, patch: Patch, before: Mapping[str, _State]) -> None:
    """Believe that a patch was applied only when each of its files has changed."""
    after = {path: _state(tree / path) for path in before}
    if same := [path for path in before if before[path] == after[path]]:
        raise BlackwheelError(
            "patch-skipped",
            f"git applied {patch.name} and left unchanged: {', '.join(same)}",
            where=f"{series.place}, line {patch.line}",
            fix="take what changes nothing out of the patch",
            code=Exit.PATCH,
        )
    for path, state in after.items():
        if state is not None:  # git obeys the umask, and modes end up in wheels
            (tree / path).chmod(0o755 if state[0] else 0o644)


def stale(
    source: SourceTree, series: Series, patch: Patch, reasons: str, *, fix: str
) -> BlackwheelError:
    """Return the error of a patch that does not fit its source."""
    return BlackwheelError(
        "stale-patch",
        f"{patch.name} does not apply to {source.project} at {source.named}\n{reasons}",
        where=f"{series.place}, line {patch.line}",
        fix=fix,
        code=Exit.PATCH,
    )


def _state(path: Path) -> _State:
    if not path.is_file():
        return None
    return path.stat().st_mode & stat.S_IXUSR, path.read_bytes()


def _line_ends(tree: Path, paths: tuple[str, ...], patch: Patch) -> str:
    """Name the files whose line ends are the reason: nothing else shows it."""
    if b"\r\n" in patch.content:
        return ""
    found = [path for path in paths if b"\r\n" in ((_state(tree / path) or (0, b""))[1])]
    return "".join(f"\n{path} has CRLF line ends, the patch has LF" for path in found)


def sync(patched: PatchedTree, target: Path, *, manifest: Path | None = None) -> tuple[str, ...]:
    """Bring the source files of a build tree up to date; return the paths that changed, sorted.

    A file of equal content keeps its time, so that a build recompiles only what a patch touches;
    what a former sync wrote and the tree has no more is removed; build outputs stay. `manifest`
    (beside `target` unless named) remembers what was written. Interrupted, the next call completes.
    """
    manifest = manifest or target.parent / "source-manifest.json"
    wanted = {path.relative_to(patched.root).as_posix(): path for path in _files(patched.root)}
    target.mkdir(parents=True, exist_ok=True)
    known = synced(manifest)
    # Both, until all is written: a run that stops here must leave nothing that nobody knows of.
    _write_manifest(manifest, known | set(wanted))
    changed = []
    for path in sorted(known - set(wanted)):
        _remove(target, path)
        changed.append(path)
    for path, origin in wanted.items():
        if _brought(origin, target, path):
            changed.append(path)
    _write_manifest(manifest, set(wanted))
    return tuple(sorted(changed))


def _files(folder: Path) -> Iterator[Path]:
    """Yield every file and symlink below a folder."""
    with os.scandir(folder) as scan:
        children = sorted(scan, key=lambda child: child.name)
    for child in children:
        if child.is_dir(follow_symlinks=False):
            yield from _files(Path(child.path))
        else:
            yield Path(child.path)


def synced(path: Path) -> set[str]:
    """Return the paths that a manifest names: the source files of a build tree."""
    if not path.exists():
        return set()
    found = records.kept(path, dict[str, list[str]])
    if found is None or "files" not in found:
        raise BlackwheelError(
            "build-tree-unknown",
            "the list of this build tree's source files cannot be read",
            where=str(path),
            fix=f"rm -r '{path.parent}', and build from the start",
            code=Exit.MACHINE,
        )
    return set(found["files"])


def _write_manifest(path: Path, files: set[str]) -> None:
    text = json.dumps({"files": sorted(files)}, indent=0)
    beside = path.with_name(f".{path.name}{_PART}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _remove(target: Path, path: str) -> None:
    """Remove a former source file, and the folders that it leaves empty."""
    folders = [target / folder for folder in PurePosixPath(path).parents][:-1]
    if any(folder.is_symlink() for folder in folders):
        return
    with contextlib.suppress(OSError):  # gone already, or something else by now
        (target / path).unlink()
    with contextlib.suppress(OSError):  # not empty: build outputs stay
        for folder in folders:
            folder.rmdir()


def _make_way(target: Path, path: str) -> None:
    """Unlink what is no folder on the way to a path: nothing is written through a symlink."""
    for parent in list(PurePosixPath(path).parents)[-2::-1]:
        folder = target / parent
        if folder.is_symlink() or folder.is_file():
            folder.unlink()


def _brought(origin: Path, target: Path, path: str) -> bool:
    """Make `target / path` equal to `origin`; tell whether it was not."""
    place = target / path
    link = origin.readlink() if origin.is_symlink() else None
    mode = stat.S_IMODE(origin.lstat().st_mode)
    content = b"" if link is not None else origin.read_bytes()
    if link is not None and place.is_symlink() and place.readlink() == link:
        return False
    _make_way(target, path)
    if (
        link is None
        and place.is_file()
        and not place.is_symlink()
        and place.read_bytes() == content
    ):
        if stat.S_IMODE(place.stat().st_mode) == mode:
            return False
        place.chmod(mode)  # leaves the time alone: nothing has to be compiled for it
        return True
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)  # outputs of a folder that the source has no more
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = target.parent / f".sync{_PART}"
    beside.unlink(missing_ok=True)
    if link is not None:
        beside.symlink_to(link)
    else:
        beside.write_bytes(content)
        beside.chmod(mode)
    beside.replace(place)
    return True
