"""Lists newer upstream releases, a newer torch, and patches that upstream took (`outdated`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from packaging.utils import parse_sdist_filename
from packaging.version import Version

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.http import Patience
from blackwheel.core.scratch import scratch
from blackwheel.core.site import Site
from blackwheel.pytorch import nightly_index
from blackwheel.sources import git_tags, package_index, rebase, sdist, series
from blackwheel.sources.export import Origin
from blackwheel.sources.fetch import SourceTree
from blackwheel.sources.git_host import UnreachableError
from blackwheel.sources.git_store import GitStore
from blackwheel.sources.tree import is_selected, write_entries
from blackwheel.stacks import loader
from blackwheel.stacks.records import ProjectPin, Stack, python_tag

_PATIENCE: Final = Patience(tries=2)
_UNTAGGED: Final = "0" * 40
"""The commit of a release that only the package index has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One pin and its newest release."""

    what: str
    """`torch`, or a project."""
    stacks: tuple[str, ...]
    pinned: str
    newest: str
    """The newest final release that any source names; empty where none answered."""
    tag: str = ""
    """The newest that the repository names."""
    listed: str = ""
    """The newest that the package index lists."""
    patches: tuple[tuple[str, str], ...] = ()
    """Each patch on the newest: kept, rebased, dropped, conflicts, or not tried (nested)."""
    errors: tuple[BlackwheelError, ...] = ()

    @property
    def newer(self) -> bool:
        """True if there is a newer release."""
        return bool(self.newest) and Version(self.newest) > Version(self.pinned)


def show_outdated(site: Site, stack: str, *, as_json: bool) -> int:
    """List newer releases of a stack's pins, or of all; the exit code tells of failures.

    A source that cannot be had is an error of its own, and the others are asked nevertheless.
    """
    names = [stack] if stack else loader.names(site.constraints)
    loaded = [loader.load(name, site.constraints) for name in names]
    found = [*_torches(site, loaded), *_projects(site, loaded)]
    if as_json:
        site.console.document("outdated", pins=[_entry(row) for row in found])
    else:
        _show(site, found)
    errors = [error for row in found for error in row.errors]
    for error in errors:
        site.console.error(error)
    return Exit.AWAY if errors else Exit.OK


def _torches(site: Site, loaded: Sequence[Stack]) -> Iterator[Row]:
    """Look for a newer torch: of a nightly on its channel, of a release in the package index."""
    known: dict[tuple[str, str, str], list[Stack]] = {}
    for stack in loaded:
        torch = stack.torch
        known.setdefault((torch.source, torch.index, torch.version), []).append(stack)
    for (source, _, version), holders in known.items():
        if source == "installed":
            continue  # whoever installed it decides
        names = tuple(stack.name for stack in sorted(holders, key=lambda one: one.extends != ""))
        try:
            newest = _torch(site, holders[0])
        except BlackwheelError as error:
            yield Row(what="torch", stacks=names, pinned=version, newest="", errors=(error,))
            continue
        yield Row(what="torch", stacks=names, pinned=version, newest=newest, listed=newest)


def _torch(site: Site, stack: Stack) -> str:
    torch = stack.torch
    if torch.source == "registry":
        found = git_tags.newest(package_index.versions("torch", site))
        return str(found or torch.version)
    tags = [python_tag(python) for python in stack.python]
    listed = nightly_index.listing(torch.pages[0], "torch", patience=_PATIENCE)
    return str(nightly_index.newest(listed, torch.version.partition("+")[2], tags))


def _projects(site: Site, loaded: Sequence[Stack]) -> Iterator[Row]:
    """Look for newer releases, each pin once however many stacks have it."""
    known: dict[tuple[str, str, str], list[tuple[Stack, ProjectPin]]] = {}
    for stack in loaded:
        for name in stack.build:
            pin = stack.projects[name]
            known.setdefault((name, pin.version, pin.source.commit), []).append((stack, pin))
    for (name, _, _), holders in known.items():
        names = sorted((stack.extends != "", stack.name) for stack, _ in holders)
        yield _project(site, name, tuple(name for _, name in names), holders[0][1])


def _project(site: Site, name: str, holders: tuple[str, ...], pin: ProjectPin) -> Row:
    errors: list[BlackwheelError] = []
    tags: dict[str, str] = {}
    where = f"constraints/{holders[0]}.toml, projects.{name}"
    try:
        tags = git_tags.tags(
            pin.source.url, where=f"{where}.source.url", environment=site.environment
        )
    except UnreachableError as error:
        errors.append(_unreachable(error))
    except BlackwheelError as error:
        errors.append(error)
    tagged = git_tags.releases(tags)
    listed: list[Version] = []
    if pin.sdist:
        try:
            listed = package_index.versions(parse_sdist_filename(pin.sdist.name)[0], site)
        except BlackwheelError as error:
            errors.append(error)
    by_tag, by_index = git_tags.newest(tagged), git_tags.newest(listed)
    newest = max((one for one in (by_tag, by_index) if one), default=None)
    row = Row(
        what=name,
        stacks=holders,
        pinned=pin.version,
        newest=str(newest or ""),
        tag=str(by_tag or ""),
        listed=str(by_index or ""),
    )
    if newest and row.newer:
        commit = tags[tagged[newest]] if newest in tagged else ""
        try:
            row = replace(row, patches=_outlook(site, name, pin, newest, commit))
        except BlackwheelError as error:
            errors.append(error)
    return replace(row, errors=tuple(errors))


def _outlook(
    site: Site, project: str, pin: ProjectPin, newest: Version, commit: str
) -> tuple[tuple[str, str], ...]:
    """Try the series on a newer source, without the nested ones."""
    own = series.load_series(site.patches / project / pin.version)
    inner = [f"\n+++ b/{nested.path}/".encode() for nested in pin.nested]
    tried = [one for one in own.patches if not any(mark in one.content for mark in inner)]
    site.store.mkdir(parents=True, exist_ok=True)
    with scratch(site.store, "outdated-") as folder:
        moved = replace(
            pin,
            version=str(newest),
            source=replace(pin.source, commit=commit or _UNTAGGED, tree=None),
        )
        old = _tree(site, project, pin, folder / "old")
        new = _tree(site, project, moved, folder / "new")
        found = rebase.rebase(
            site,
            replace(own, patches=tuple(tried)),
            old=old,
            new=new,
            date=datetime.now(UTC).date().isoformat(),
            keep_going=True,
        )
    outcomes = {patch.name: patch.outcome for patch in found.patches}
    return tuple((patch.name, outcomes.get(patch.name, "not tried")) for patch in own.patches)


def _tree(site: Site, project: str, pin: ProjectPin, root: Path) -> SourceTree:
    """Write a release's own files: of its commit, or of its sdist where git has none."""
    origin: Origin = "git"
    try:
        if pin.source.only_sdist or pin.source.commit == _UNTAGGED:
            raise UnreachableError(f"no tag for {pin.version}", url=pin.source.url, where="")
        store = GitStore(site, pin.source, project=project, where=f"projects.{project}.source")
        store.fetch()
        entries = store.entries()
    except UnreachableError as error:
        archive = None
        if pin.sdist:
            name = parse_sdist_filename(pin.sdist.name)[0]
            archive = package_index.sdist_of(name, Version(pin.version), site=site)
        if archive is None:
            raise _unreachable(error) from None
        origin, inner = "sdist", [nested.path for nested in pin.nested]
        entries = sdist.entries(
            archive,
            lambda path: (
                is_selected(path, pin.source.sparse)
                and not any(path.startswith(f"{folder}/") for folder in inner)
            ),
        )
    write_entries(entries, root, where=f"{project} {pin.version}")
    return SourceTree(
        project=project,
        pin=pin,
        root=root,
        origin=origin,
        commit=pin.source.commit,
        tree="",
        nested=(),
    )


def _unreachable(error: UnreachableError) -> BlackwheelError:
    return BlackwheelError(
        "git-host-unreachable",
        f"{error.url} cannot be reached: {error}",
        where=error.where,
        fix="connect to the network, or name a mirror with git's url.*.insteadOf",
        code=Exit.AWAY,
    )


def _show(site: Site, found: Sequence[Row]) -> None:
    rows = [
        (
            row.what,
            ", ".join(row.stacks),
            row.pinned,
            row.newest or "unknown",
            state(row),
        )
        for row in found
    ]
    site.console.table("", ("pin", "stacks", "pinned", "newest", ""), rows)
    for row in found:
        for name, outcome in row.patches:
            said = "upstream has taken it" if outcome == "dropped" else outcome
            site.console.result(f"{row.what} {row.newest}: {name}: {said}")


def state(row: Row) -> str:
    """Return a line with the next step."""
    if not row.newest:
        return "no answer"
    if not row.newer:
        return "the newest"
    place = row.stacks[0]
    taken = sum(outcome == "dropped" for _, outcome in row.patches)
    said = f"{taken} of {len(row.patches)} patches taken; " if row.patches else ""
    version = row.newest if row.what != "torch" or "+" in row.newest else ""
    if row.what != "torch" and row.tag and row.tag != row.newest:
        said += f"no tag of it, the newest is {row.tag}; "
        version = row.tag if Version(row.tag) > Version(row.pinned) else ""
    return said + (f"invoke pin {row.what} {version} --stack {place}" if version else "newer")


def _entry(row: Row) -> dict[str, Any]:
    entry = asdict(replace(row, errors=()))
    entry["newer"] = row.newer
    entry["patches"] = dict(row.patches)
    entry["errors"] = [
        {"name": e.name, "fact": e.fact, "where": e.where, "fix": e.fix} for e in row.errors
    ]
    return entry
