"""Finds a release at its upstream: the tag's commit, and the sdist by its bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from packaging.utils import parse_sdist_filename
from packaging.version import InvalidVersion, Version

from blackwheel.core.addresses import shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import sha256
from blackwheel.core.scratch import scratch
from blackwheel.core.site import Site
from blackwheel.pins.nested import moved_tag
from blackwheel.pins.upstream_files import Reading, read_git, read_sdist
from blackwheel.sources import git_tags, package_index, sdist
from blackwheel.sources.git_host import UnreachableError
from blackwheel.sources.tree import is_selected, object_id, tree_id, write_entries
from blackwheel.stacks import loader
from blackwheel.stacks.records import GitPin, ProjectPin, SdistPin

LATEST: Final = "latest"
_SHORT: Final = 9
"""Digits of a commit that setuptools-scm writes into an sdist."""
_WHOLE: Final = 40
_COMMIT_ID: Final = re.compile(r"^__commit_id__ = .*'g([0-9a-f]{7,40})'", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """Facts of a release, before its nested sources are looked up."""

    version: Version
    tag: str
    """Empty where git could not be asked and a person named the commit."""
    source: GitPin
    archive: Path | None
    """The sdist, kept in the store."""
    reading: Reading


@dataclass(frozen=True, kw_only=True, slots=True)
class Sought:
    """The project whose release is looked for, and the place of its pin."""

    site: Site
    project: str
    pin: ProjectPin
    """The present one."""
    where: str = ""
    """Key path of the pin, as git's errors name it."""


def find(asked: Sought, version: str, *, commit: str = "", untagged: bool = False) -> Release:
    """Return a release by its version, or the `latest`; `commit` is a commit named by a person.

    With `untagged` no tag is looked for: the commit is taken under this version. A release that has
    an sdist and no tag is taken from its sdist.

    Raises `bad-version`, `no-such-release`, `moved-tag`, `git-host-unreachable`, and what git and
    the package index raise.
    """
    pin, site = asked.pin, asked.site
    try:
        known = git_tags.tags(
            pin.source.url, where=f"{asked.where}.source.url", environment=site.environment
        )
    except UnreachableError as error:
        if version == LATEST:
            raise _unreachable(error) from None
        return _without_git(asked, _version(version), commit, error)
    listed = git_tags.releases(known)
    if untagged:
        return _untagged(asked, _version(version), commit, listed)
    wanted = git_tags.newest(listed) if version == LATEST else _version(version)
    if wanted is None or wanted not in listed:
        archive = _archive(asked, wanted) if wanted else None
        if wanted is None or archive is None:
            raise _no_such_release(asked, version, list(listed))
        why = f"{shown(pin.source.url)} has no tag for {wanted}"
        told = _told(archive)
        whole = {ref for ref in known.values() if told and ref.startswith(told)}
        if len(whole) == 1 and next(iter(whole)).startswith(commit):
            commit = whole.pop()
            said = f"{archive.name} is the source; git knows its commit: {commit}"
            site.console.say(f"{asked.project}: {why}: {said}")
            return _untold(asked, wanted, commit, archive)
        return _from_sdist(asked, wanted, archive, commit, why)
    tag = listed[wanted]
    if not known[tag].startswith(commit):
        raise moved_tag(tag, pin.source.url, known[tag], commit, where="--commit")
    _require_unmoved(asked, wanted, tag, known[tag])
    source, reading = _read(asked, known[tag])
    # A tree that nobody wrote down stays so: to write it would change the key of the same source.
    same = pin.source.commit and known[tag].startswith(pin.source.commit)
    tree = pin.source.tree if same else reading.tree
    archive = _archive(asked, wanted)
    told = _told(archive) if archive else ""
    if archive and told and not known[tag].startswith(told):
        site.console.say(
            f"{asked.project}: look at: {archive.name} says that it was made of commit {told}, and"
            f" tag {tag} is {known[tag]}"
        )
    return Release(
        version=wanted,
        tag=tag,
        source=replace(source, tree=tree),
        archive=archive,
        reading=reading,
    )


def _untagged(
    asked: Sought, version: Version, commit: str, listed: Mapping[Version, str]
) -> Release:
    """Take a commit under a version that no tag has."""
    if version in listed:
        raise BlackwheelError(
            "bad-version",
            f"{version} is the release of tag {listed[version]}: a commit cannot be called so, too",
            where="--as-version",
            fix=f"a version of your own: --as-version {version}.post0, or leave it out",
            code=Exit.USAGE,
        )
    return _untold(asked, version, commit)


def _untold(asked: Sought, version: Version, commit: str, archive: Path | None = None) -> Release:
    source, reading = _read(asked, commit)
    pin = replace(source, tree=reading.tree)
    return Release(version=version, tag="", source=pin, archive=archive, reading=reading)


def _read(asked: Sought, commit: str) -> tuple[GitPin, Reading]:
    """Read a commit of the project; raise `git-host-unreachable`."""
    source = GitPin(url=asked.pin.source.url, commit=commit, sparse=asked.pin.source.sparse)
    try:
        where = f"{asked.where}.source"
        return source, read_git(asked.site, source, project=asked.project, where=where)
    except UnreachableError as error:
        raise _unreachable(error) from None


def _told(archive: Path) -> str:
    """Return the digits of its commit that an sdist tells."""
    texts = sdist.entries(archive, lambda path: path.endswith("_version.py"))
    said = [m[1] for one in texts if (m := _COMMIT_ID.search(one.data.decode("utf-8", "replace")))]
    return said[0] if said else ""


def sdist_pin(
    site: Site, pin: ProjectPin, archive: Path, reading: Reading
) -> tuple[SdistPin, tuple[str, ...]]:
    """Return the pin of an sdist, and the paths whose bytes are not those of the commit."""
    inner = {nested.path: nested.sparse for nested in pin.nested}
    with scratch(site.store, "sdist-") as folder:
        root = folder / "tree"
        files = sdist.entries(archive, lambda path: is_selected(path, pin.source.sparse, inner))
        write_entries(files, root, where=archive.name)
        differing = tuple(
            path
            for path, oid in sorted(reading.blobs.items())
            if (root / path).is_file()
            and not (root / path).is_symlink()
            and object_id("blob", (root / path).read_bytes()).hex() != oid
        )
        made = SdistPin(
            name=archive.name,
            sha256=sha256(archive),
            size=archive.stat().st_size,
            tree=tree_id(root),
        )
    return made, differing


def require_same_sdist(site: Site, project: str, found: SdistPin) -> None:
    """Raise `moved-sdist` where a stack pins other bytes under the same name."""
    for name, other in _pins(site, project):
        pinned = other.sdist if other.sdist and other.sdist.measured else found
        if pinned.name == found.name and pinned.sha256 != found.sha256:
            raise BlackwheelError(
                "moved-sdist",
                f"{found.name} has other bytes than are pinned for it"
                f"\nfound:  {found.sha256}\npinned: {pinned.sha256}",
                where=f"constraints/{name}.toml, projects.{project}.sdist.sha256",
                fix="find out who changed the file before you change the pin",
                code=Exit.SOURCE,
            )


def _without_git(asked: Sought, version: Version, commit: str, error: UnreachableError) -> Release:
    """Take the release from its sdist where git cannot be asked."""
    archive = _archive(asked, version)
    if archive is None or (commit and len(commit) != _WHOLE and not _told(archive)):
        raise _unreachable(error)
    return _from_sdist(asked, version, archive, commit, f"{error.url} cannot be reached ({error})")


def _from_sdist(
    asked: Sought,
    version: Version,
    archive: Path,
    commit: str,
    why: str,
) -> Release:
    """Take the release from its sdist, and a person's word for the commit, or the sdist's own.

    Where neither names one, the sdist alone is the source, and its commit stays unknown.
    """
    pin = asked.pin
    told = _told(archive)
    if commit and told and not commit.startswith(told):
        raise BlackwheelError(
            "other-commit",
            f"{archive.name} says that it was made of another commit"
            f"\nsays:     {told}\n--commit: {commit}",
            where=f"{asked.where}.source.commit",
            fix="name the commit of the release",
            code=Exit.SOURCE,
        )
    short = told if len(told) in (_SHORT, _WHOLE) else ""
    commit, known = (commit, "--commit is believed") if commit else (short, f"commit {short}")
    how = known if commit else "nobody here knows its commit"
    asked.site.console.say(f"{asked.project}: {why}: {archive.name} is the source; {how}")
    same = commit == pin.source.commit and str(version) == pin.version
    source = pin.source if same else replace(pin.source, commit=commit, tree=None)
    return Release(
        version=version,
        tag="",
        source=source,
        archive=archive,
        reading=read_sdist(archive, pin.source.sparse, [one.path for one in pin.nested]),
    )


def _archive(asked: Sought, version: Version) -> Path | None:
    """Take the sdist, where the stack pins one."""
    if asked.pin.sdist is None:
        return None
    name = parse_sdist_filename(asked.pin.sdist.name)[0]
    return package_index.sdist_of(name, version, site=asked.site)


def _require_unmoved(asked: Sought, version: Version, tag: str, commit: str) -> None:
    """Raise `moved-tag` where any stack pins another commit for this release."""
    url = asked.pin.source.url
    for name, other in _pins(asked.site, asked.project):
        same = other.version == str(version) and other.source.url == url
        # Where nobody knew the commit, nothing tells that a tag was moved.
        known = other.source.commit
        if same and known and not commit.startswith(known):
            where = f"constraints/{name}.toml, projects.{asked.project}.source.commit"
            raise moved_tag(tag, url, commit, other.source.commit, where=where)


def _pins(site: Site, project: str) -> list[tuple[str, ProjectPin]]:
    loaded = (
        (name, loader.load(name, site.constraints)) for name in loader.names(site.constraints)
    )
    return [(name, stack.projects[project]) for name, stack in loaded if project in stack.projects]


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        raise BlackwheelError(
            "bad-version",
            f"'{text}' is no version",
            where="invoke pin",
            fix=f"a release, as 2.8.3, or {LATEST}",
            code=Exit.USAGE,
        ) from None


def _no_such_release(asked: Sought, version: str, listed: list[Version]) -> BlackwheelError:
    near = ", ".join(str(one) for one in sorted(listed, reverse=True)[: git_tags.SHOWN])
    return BlackwheelError(
        "no-such-release",
        f"{shown(asked.pin.source.url)} has no tag for {version}",
        where=f"{asked.where}.source.url",
        fix=f"one of: {near}" if near else "correct the address: it has no release at all",
        code=Exit.SOURCE,
    )


def _unreachable(error: UnreachableError) -> BlackwheelError:
    return BlackwheelError(
        "git-host-unreachable",
        f"{error.url} cannot be reached: {error}\nnothing else tells the commit of a release",
        where=error.where,
        fix="connect to the network, or name a mirror with git's url.*.insteadOf,"
        "\nor name the commit, where you know it: --commit COMMIT; the rest is read from the sdist",
        code=Exit.SOURCE,
    )
