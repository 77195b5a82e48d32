"""Moves a project's pin to another release, everything or nothing (`invoke pin PROJECT`)."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from blackwheel.builder import requirements as requires
from blackwheel.core.errors import BlackwheelError, Exit, nearest
from blackwheel.core.file_lock import held
from blackwheel.core.files import rewrite_file
from blackwheel.core.site import Site
from blackwheel.pins import looked_at, requirements, stack_file, upstream_files
from blackwheel.pins import nested as nestedpins
from blackwheel.pins import release as releases
from blackwheel.pins.nested import Nested
from blackwheel.pins.release import Release
from blackwheel.sources import fetch, rebase, series
from blackwheel.sources.fetch import SourceTree
from blackwheel.sources.rebase import Rebased
from blackwheel.stacks import loader, request
from blackwheel.stacks.records import ProjectPin, Stack


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """A complete move of a pin, of which nothing is written yet."""

    stack: Stack
    """As it is."""
    project: str
    pin: ProjectPin
    """As it will be."""
    tag: str
    rebased: Rebased
    before: str
    """Text of the stack file."""
    after: str
    renamed: Mapping[str, str]
    """Refs that comments of the stack file may quote."""
    notes: tuple[str, ...]

    @property
    def old(self) -> ProjectPin:
        """The present pin."""
        return self.stack.projects[self.project]

    @property
    def first(self) -> bool:
        """Tell whether nothing was pinned before: the stack named an sdist without its bytes."""
        return bool(self.old.sdist and not self.old.sdist.measured)

    @property
    def moved(self) -> Stack:
        """The stack after the move."""
        return replace(self.stack, projects={**self.stack.projects, self.project: self.pin})


def prepare(
    site: Site,
    stack_name: str,
    project: str,
    version: str,
    *,
    commits: Mapping[str, str],
    untagged: bool = False,
) -> Move:
    """Find a release, its nested sources and the rebased series; write nothing.

    `commits` are those that a person named, by path of a nested source, '' for the project; with
    `untagged` the project's own is taken under a version that no tag has. Everything is looked at
    before anything is refused: several blockers are one `pin-blocked`.
    Where the stack names an sdist without its bytes, it is the first pin: nothing moves, the
    release is measured.
    Raises `cannot-pin`, `refresh-conflict`, `stale-patch`, `requirement-missing`, and what
    `releases` and `nestedpins` raise.
    """
    stack = loader.load(stack_name, site.constraints)
    old = _own_pin(stack, project, site.constraints)
    paths = [nested.path for nested in old.nested]
    if unknown := sorted(set(commits) - {"", *paths}):
        raise BlackwheelError(
            "bad-commit",
            f"'{unknown[0]}' is no nested source of {project}{nearest(unknown[0], paths)}",
            where="--commit",
            fix=f"one of: {', '.join(paths)}",
            code=Exit.USAGE,
        )
    sought = releases.Sought(site=site, project=project, pin=old, where=f"projects.{project}")
    release = releases.find(sought, version, commit=commits.get("", ""), untagged=untagged)
    first = bool(old.sdist and not old.sdist.measured)
    source = None if first else _fetched(site, project, old)
    nested = nestedpins.moved(
        site,
        project,
        old,
        before=upstream_files.read_folder(source.root, paths) if source else release.reading,
        after=release.reading,
        commits=commits,
    )
    blocked = list(nested.blocked)
    pin, notes = _pin_of(site, project, old, release, nested)
    new = _fetched(site, project, pin)
    source = source or new
    pin, asks = requirements.followed(stack, project, pin, source.root, new.root)
    with _noted(blocked):
        _require_requires(stack, project, pin, new.root)
    absent = set(paths) - {one.path for one in pin.nested}
    made = first or old.version == pin.version
    with _noted(blocked, but=absent):  # a patch of a source that is not here says nothing
        rebased = _series(site, project, old=source, new=new, made=made)
    if blocked:
        raise _blocked(blocked, project, str(release.version))
    asks += tuple(looked_at.notes(pin, source.root, new.root, rebased))
    before = (site.constraints / f"{stack_name}.toml").read_text(encoding="utf-8")
    after = stack_file.edited_project(before, project, old, pin, nested.renamed)
    _require_same(stack, project, pin, site.constraints, after)
    return Move(
        stack=stack,
        project=project,
        pin=pin,
        tag=release.tag,
        rebased=rebased,
        before=before,
        after=after,
        renamed=nested.renamed,
        notes=(*notes, *asks),
    )


@contextlib.contextmanager
def _noted(blocked: list[BlackwheelError], *, but: Collection[str] = ()) -> Iterator[None]:
    """Keep an error beside those before it, but for a conflict in files below these paths."""
    try:
        yield
    except rebase.ConflictError as error:
        below = tuple(f"{path}/" for path in but)
        if not error.files or not all(file.startswith(below) for file in error.files):
            blocked.append(error)
    except BlackwheelError as error:
        blocked.append(error)


def _blocked(errors: list[BlackwheelError], project: str, version: str) -> BlackwheelError:
    """Return the one error, or all of them as one."""
    if len(errors) == 1:
        return errors[0]
    rows = [f"{one.name}: {one.fact}\nwhere: {one.where}\nfix: {one.fix}" for one in errors]
    return BlackwheelError(
        "pin-blocked",
        "\n".join([f"{project} {version} cannot be pinned for {len(errors)} reasons", *rows]),
        where=f"invoke pin {project} {version}",
        fix="as each reason says; nothing was written",
        code=errors[0].code,
    )


def counted(move: Move, objects: int) -> Move:
    """Return the move with the number of objects that the new release compiles."""
    pin = replace(move.pin, objects=objects)
    after = stack_file.edited_project(move.before, move.project, move.old, pin, move.renamed)
    return replace(move, pin=pin, after=after)


def write(site: Site, move: Move) -> None:
    """Put series and stack file in their places, or leave both as they were.

    The series comes first: until the stack file names its version, nobody looks at it. A run that
    was killed in between leaves a series that the next one finds, and takes.
    """
    path = (site.constraints / f"{move.stack.name}.toml").resolve()
    folder = site.patches / move.project / move.pin.version
    if path.read_text(encoding="utf-8") != move.before:
        raise BlackwheelError(
            "stack-changed",
            "the stack file was changed while its pin was moved; nothing was written",
            where=f"constraints/{move.stack.name}.toml",
            fix="the same command again",
            code=Exit.CONFIG,
        )
    if not folder.exists() and folder == move.rebased.series.folder:  # the first pin's
        folder.mkdir(parents=True)
        (folder / "series").touch()
    with _placed(move, folder):
        if move.after != move.before:
            rewrite_file(path, move.after.encode())


def written(move: Move, folder: Path) -> bool:
    """Tell whether the move changes the series in `folder`."""
    return folder != move.rebased.series.folder or move.rebased.changed


@contextlib.contextmanager
def locked(site: Site, stack: str, project: str) -> Iterator[None]:
    """Lock the stack's pins and the project's series."""
    with (
        held(site.store, f"pin-{stack}", project=project, console=site.console),
        held(site.store, f"series-{project}", project=project, console=site.console),
    ):
        yield


@contextlib.contextmanager
def _placed(move: Move, folder: Path) -> Iterator[None]:
    """Have the series in its folder; undone where what follows fails."""
    if not written(move, folder):
        yield
        return
    for leftover in folder.parent.glob(f".{folder.name}.part-*"):  # of a run that was killed
        shutil.rmtree(leftover)
    there = folder.exists()
    part = rebase.staged(move.rebased, folder)
    try:
        rebase.exchange(part, folder)
        try:
            yield
        except BaseException:
            if there:
                rebase.exchange(part, folder)
            else:
                shutil.rmtree(folder)
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _own_pin(stack: Stack, project: str, constraints: Path) -> ProjectPin:
    """Return the pin that stands in this stack's own file; raise `cannot-pin`."""
    pin = stack.project(project)
    own = loader.own_table(stack.name, constraints).get("projects", {}).get(project, {})
    if "version" in own and "source" in own:
        return pin
    raise BlackwheelError(
        "cannot-pin",
        f"stack '{stack.name}' has the {project} of stack '{stack.extends}'",
        where=f"constraints/{stack.name}.toml, extends",
        fix=f"invoke pin {project} VERSION --stack {stack.extends}",
        code=Exit.USAGE,
    )


def _pin_of(
    site: Site, project: str, old: ProjectPin, release: Release, nested: Nested
) -> tuple[ProjectPin, tuple[str, ...]]:
    """Return the new pin, its sdist measured, and what a person should know."""
    notes = list(nested.notes)
    version = str(release.version)
    pin = replace(
        old,
        version=version,
        revision=old.revision if version == old.version else 1,
        source=release.source,
        nested=nested.pins,
        sdist=None,
    )
    if release.archive:
        found, differing = releases.sdist_pin(site, pin, release.archive, release.reading)
        releases.require_same_sdist(site, project, found)
        pin = replace(pin, sdist=found)
        if differing:
            shown = ", ".join(differing[:4]) + (", …" if len(differing) > 4 else "")
            notes.append(f"{found.name} has other bytes than {release.tag}: {shown}")
    elif old.sdist:
        notes.append(f"the package index has no sdist of {version}: git alone can be the source")
    return pin, tuple(notes)


def _fetched(site: Site, project: str, pin: ProjectPin) -> SourceTree:
    """Fetch a source, less those optional nested ones that cannot be had."""
    while True:
        try:
            return fetch.fetch(site, project, pin)
        except fetch.SourceUnreachableError as error:
            lacking = error.path
            if lacking.rpartition("/")[2] not in pin.optional:
                raise
            site.console.say(f"{project}: {lacking} cannot be had: the series is tried without it")
            kept = tuple(nested for nested in pin.nested if nested.path != lacking)
            pin = replace(pin, nested=kept)


def _require_requires(stack: Stack, project: str, pin: ProjectPin, root: Path) -> None:
    """Raise `requirement-missing` before anything is written, not in the next build."""
    moved = replace(stack, projects={**stack.projects, project: pin})
    with tempfile.TemporaryDirectory(prefix="blackwheel-pin-") as folder:
        for one in pin.requires:
            if (root / one.file).is_file():
                (Path(folder) / one.file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / one.file, Path(folder) / one.file)
        with contextlib.suppress(request.CompanionNotLockedError):  # whatever the release is
            requires.set_requirements(Path(folder), moved, project, stack.python[0])


def _series(site: Site, project: str, *, old: SourceTree, new: SourceTree, made: bool) -> Rebased:
    """Rebase the series; of a version that has one already, put that one where it belongs.

    With `made` a project that has none gets one that names no patch.
    """
    own = site.patches / project / old.pin.version
    there = site.patches / project / new.pin.version
    if made and not there.exists():
        return Rebased(series=series.Series(folder=there, patches=()), patches=(), contents={})
    if there != own and there.exists():  # by hand, for another stack, or by a run that was killed
        own, old = there, new
    today = datetime.now(UTC).date().isoformat()
    return rebase.rebase(site, series.load_series(own), old=old, new=new, date=today)


def _require_same(
    stack: Stack, project: str, pin: ProjectPin, constraints: Path, text: str
) -> None:
    """Raise `cannot-write-pin` unless the new text loads as exactly this pin."""
    found = stack_file.loaded(stack.name, constraints, text)
    if found.projects[project] != pin:
        raise BlackwheelError(
            "cannot-write-pin",
            f"the stack file would not hold the pin of {project} that was seen",
            where=f"constraints/{stack.name}.toml",
            fix=f"write all of [projects.{project}] there, as constraints/stable.toml does",
            code=Exit.CONFIG,
        )
