"""Finds the commits of a new release's nested sources in upstream's own files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from blackwheel.core.addresses import shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pins.cmake import Fetched, fetched, named, repository
from blackwheel.pins.upstream_files import Reading, read_git
from blackwheel.sources import git_tags
from blackwheel.sources.git_host import UnreachableError
from blackwheel.stacks.records import NestedPin, ProjectPin


@dataclass(frozen=True, kw_only=True, slots=True)
class Nested:
    """Nested pins of a release."""

    pins: tuple[NestedPin, ...]
    renamed: Mapping[str, str]
    """What upstream calls a source now, by what it called it before: `v4.4.2` → `v4.5.0`."""
    notes: tuple[str, ...]
    """What a person should know before the pin moves."""
    blocked: tuple[BlackwheelError, ...] = ()
    """Why sources are not among the pins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """One move of a project's nested pins."""

    site: Site
    project: str
    pin: ProjectPin
    before: tuple[Fetched, ...]
    after: tuple[Fetched, ...]
    commits: Mapping[str, str]
    """What a person named, by path."""


def moved(
    site: Site,
    project: str,
    pin: ProjectPin,
    *,
    before: Reading,
    after: Reading,
    commits: Mapping[str, str],
) -> Nested:
    """Return the nested pins of the release `after`; `pin` and `before` are the present one's.

    `blocked` holds `nested-not-named`, `nested-unreachable`, `moved-tag` and what git raises.
    """
    asked = _Asked(
        site=site,
        project=project,
        pin=pin,
        before=fetched(before.texts),
        after=fetched(after.texts),
        commits=commits,
    )
    readings: dict[str, Reading | None] = {"": after}
    pins: dict[str, NestedPin] = {}
    notes: list[str] = []
    renamed: dict[str, str] = {}
    blocked: list[BlackwheelError] = []
    for number, nested in sorted(enumerate(pin.nested), key=lambda pair: pair[1].path):
        where = f"projects.{project}.nested.{number}"
        absent = {one.path for one in pin.nested} - {*pins}
        if any(nested.path.startswith(f"{path}/") for path in absent):
            continue  # its commit stands in a source that is blocked itself
        try:
            found, ref = _found(asked, nested, readings, where)
            found, reading, note = _seen(asked, found, nested, where)
        except BlackwheelError as error:
            blocked.append(error)
            continue
        if nested.archive and found.commit != nested.commit:
            found = replace(found, archive=None)
            notes.append(f"{nested.path}: {nested.archive.name} stands in for it no more")
        pins[nested.path], readings[nested.path] = found, reading
        notes += [note] if note else []
        was = _ref(asked.before, nested)
        if was and ref and was != ref:
            renamed[was] = ref
    notes += _unpinned(asked)
    return Nested(
        pins=tuple(pins[one.path] for one in pin.nested if one.path in pins),
        renamed=renamed,
        notes=tuple(notes),
        blocked=tuple(blocked),
    )


def _found(
    asked: _Asked, nested: NestedPin, readings: Mapping[str, Reading | None], where: str
) -> tuple[NestedPin, str]:
    """Return the pin with its new commit and no tree yet, and what upstream calls it."""
    parents = [path for path in readings if path and nested.path.startswith(f"{path}/")]
    parent = max(parents, key=len, default="")
    reading, inner = readings[parent], nested.path.removeprefix(f"{parent}/")
    if nested.path in asked.commits:
        return replace(nested, commit=asked.commits[nested.path], tree=None), ""
    if reading and inner in reading.links:
        url = _address(nested, reading.addresses.get(inner, ""))
        return replace(nested, url=url, commit=reading.links[inner], tree=None), ""
    known = named(asked.after, nested.path.rpartition("/")[2], nested.url) if not parent else ()
    refs = {one.ref for one in known}
    if len(refs) != 1:
        raise _not_named(asked, nested, known, where)
    one = known[0]
    url = _address(nested, one.url)
    if one.is_commit:
        return replace(nested, url=url, commit=one.ref, tree=None), one.ref
    return replace(nested, url=url, commit=_tagged(asked, nested, one, where), tree=None), one.ref


def _address(nested: NestedPin, url: str) -> str:
    """Keep the address as the stack writes it, unless upstream names another repository."""
    if not url or repository(url) == repository(nested.url):
        return nested.url
    return url.removesuffix(".git")


def _tagged(asked: _Asked, nested: NestedPin, one: Fetched, where: str) -> str:
    """Return the commit of a tag; the pinned one where upstream still names the same tag."""
    same = _ref(asked.before, nested) == one.ref and _address(nested, one.url) == nested.url
    try:
        known = git_tags.tags(
            _address(nested, one.url), where=f"{where}.url", environment=asked.site.environment
        )
    except UnreachableError as error:
        if same:
            return nested.commit
        raise _unreachable(error, nested, f"{one.file} names tag {one.ref}") from None
    if one.ref not in known:
        raise BlackwheelError(
            "nested-not-named",
            f"{one.file} names tag {one.ref} for {nested.path}\n{shown(one.url)} has no such tag",
            where=f"{where}.commit",
            fix=f"--commit {nested.path}=COMMIT, if you know which one is meant",
            code=Exit.SOURCE,
        )
    if same and known[one.ref] != nested.commit:
        raise moved_tag(one.ref, one.url, known[one.ref], nested.commit, where=f"{where}.commit")
    return known[one.ref]


def _seen(
    asked: _Asked, found: NestedPin, before: NestedPin, where: str
) -> tuple[NestedPin, Reading | None, str]:
    """Fetch the commit for its tree; what is optional may stay out of reach."""
    try:
        reading = read_git(asked.site, found, project=asked.project, where=where)
    except UnreachableError as error:
        same = (found.commit, found.url) == (before.commit, before.url)
        kept = replace(found, tree=before.tree if same else None)
        if found.path.rpartition("/")[2] not in asked.pin.optional:
            raise _unreachable(error, found, f"its commit is {found.commit}") from None
        return kept, None, f"{found.path}: {error.url} cannot be reached: its tree was not seen"
    # A tree that nobody wrote down stays so: to write it would change the key of the same source.
    same = found.commit == before.commit
    return replace(found, tree=before.tree if same else reading.tree), reading, ""


def _ref(known: tuple[Fetched, ...], nested: NestedPin) -> str:
    refs = {one.ref for one in named(known, nested.path.rpartition("/")[2], nested.url)}
    return refs.pop() if len(refs) == 1 else ""


def _unpinned(asked: _Asked) -> list[str]:
    """Name what upstream fetches only since this release, and no nested pin stands for."""
    before = {one.name for one in asked.before}
    return [
        f"{one.file}: fetches {one.name} since this release ({shown(one.url)} at {one.ref})"
        for one in asked.after
        if one.name not in before
        and not any(
            named((one,), nested.path.rpartition("/")[2], nested.url) for nested in asked.pin.nested
        )
    ]


def moved_tag(tag: str, url: str, found: str, pinned: str, *, where: str) -> BlackwheelError:
    """Return the error of a tag that names another commit than before."""
    return BlackwheelError(
        "moved-tag",
        f"tag {tag} of {shown(url)} names another commit than is pinned for it"
        f"\nfound:  {found}\npinned: {pinned}",
        where=where,
        fix="find out who moved the tag before you change the pin",
        code=Exit.SOURCE,
    )


def _not_named(
    asked: _Asked, nested: NestedPin, known: tuple[Fetched, ...], where: str
) -> BlackwheelError:
    places = [f"{one.file}: {one.ref} of {shown(one.url)}" for one in known]
    what = "names it more than once" if known else "names no commit for it"
    hint = "" if known else "\nor take it out of the stack file, if upstream has dropped it"
    return BlackwheelError(
        "nested-not-named",
        "\n".join([f"{nested.path}: the new release of {asked.project} {what}", *places]),
        where=where,
        fix=f"--commit {nested.path}=COMMIT, if you know which one is meant{hint}",
        code=Exit.SOURCE,
    )


def _unreachable(error: UnreachableError, nested: NestedPin, lack: str) -> BlackwheelError:
    return BlackwheelError(
        "nested-unreachable",
        f"{error.url} cannot be reached: {error}\n{nested.path}: {lack}",
        where=error.where,
        fix="connect to the network, or name a mirror with git's url.*.insteadOf",
        code=Exit.SOURCE,
    )
