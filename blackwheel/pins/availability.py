"""Asks for everything that a stack pins whether it can still be had, and how old it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from packaging.utils import parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from blackwheel.core.addresses import shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.http import AbsentError, FailedError, Patience, whole_length
from blackwheel.core.process import capture_within
from blackwheel.core.site import Site
from blackwheel.pytorch.nightly_index import build_date
from blackwheel.sources import git_host, package_index
from blackwheel.stacks import loader, locks
from blackwheel.stacks.records import GitPin, LockedWheel, Stack

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage

State = Literal["there", "gone", "other", "unknown"]
_PATIENCE: Final = Patience(tries=2)
_GIT_SECONDS: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """One file or commit that a stack wants."""

    kind: Literal["torch", "toolchain", "sdist", "wheel", "package", "commit", "lock"]
    name: str
    """`torch==2.13.0`, a file's name, `address at commit`, or `stack/file` of a missing lock."""
    sha256: frozenset[str] = frozenset()
    """Any of them will do."""
    url: str = ""
    size: int = 0
    commit: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """The answer for one pin."""

    pin: Pin
    state: State
    fact: str = ""
    since: date | None = None
    """Day of the upload or of the commit, where it is told."""


def show_availability(site: Site, stack: str, *, every: bool, as_json: bool) -> int:
    """Tell whether a machine with a network can still have everything that each stack pins.

    Looks at torch, toolchain, sdists, wheels by address and commits; with `every` also at every
    package of its locks. The exit code is `Exit.SOURCE` where something is gone or has other bytes,
    `Exit.AWAY` where something did not answer, or is not locked: that is neither good nor bad.
    """
    names = [stack] if stack else loader.names(site.constraints)
    look = cache(lambda pin: seen(site, pin))
    today = datetime.now(UTC).date()
    documents, states = [], set()
    for name in names:
        loaded = loader.load(name, site.constraints)
        found = [look(pin) for pin in dict.fromkeys(pins_of(site, loaded, every=every))]
        states |= {one.state for one in found}
        if as_json:
            documents.append({"stack": name, "pins": [_entry(one) for one in found]})
        else:
            _show(site, loaded, found, today)
    if as_json:
        site.console.document("pins", stacks=documents)
    if states & {"gone", "other"}:
        return Exit.SOURCE
    return Exit.AWAY if "unknown" in states else Exit.OK


def pins_of(site: Site, stack: Stack, *, every: bool = False) -> Iterator[Pin]:
    """List files and commits that a stack wants; with `every` also each package of its locks."""
    for torch in stack.torch.wheels.values():
        for wheel in (torch, *torch.family):
            yield _of_wheel(wheel)
    for file in stack.lock_files(site.constraints):
        kind: Literal["toolchain", "package"]
        kind = "toolchain" if file.name == "toolchain.txt" else "package"
        if not file.exists():
            yield Pin(kind="lock", name=f"{stack.locks}/{file.name}")
            continue
        for locked in locks.pins(locks.lock_text(file)):
            if locked.version and (locked.name == "torch" or every or kind == "toolchain"):
                what = "torch" if locked.name == "torch" else kind
                yield Pin(kind=what, name=locked.words, sha256=locked.sha256)
    for project in stack.build:
        pin = stack.projects[project]
        if pin.sdist:
            one = frozenset([pin.sdist.sha256])
            yield Pin(kind="sdist", name=pin.sdist.name, sha256=one, size=pin.sdist.size)
        yield from _commits([pin.source, *pin.nested])
        for nested in pin.nested:
            if nested.archive:
                digest = frozenset([nested.archive.sha256])
                yield Pin(kind="wheel", name=nested.archive.name, sha256=digest)


def _commits(sources: Iterable[GitPin]) -> Iterator[Pin]:
    for source in sources:
        if not source.only_sdist:
            name = f"{shown(source.url)} at {source.commit[:12]}"
            yield Pin(kind="commit", name=name, url=source.url, commit=source.commit)


def _of_wheel(wheel: LockedWheel) -> Pin:
    digest = frozenset([wheel.sha256])
    return Pin(kind="wheel", name=wheel.name, sha256=digest, url=wheel.url, size=wheel.size)


def seen(site: Site, pin: Pin) -> Seen:
    """Ask for one pin where it was taken from; who does not answer is no reason to call it gone."""
    if pin.kind == "lock":
        return Seen(pin=pin, state="unknown", fact="there is no such file: nox -s lock")
    try:
        if pin.kind == "commit":
            return _commit(site, pin)
        if pin.url:
            return _address(pin)
        project, version = _project(pin.name)
        return _of_index(pin, project, version, package_index.offered_files(project, site))
    except package_index.NoProjectError as error:
        return Seen(pin=pin, state="gone", fact=error.fact)
    except BlackwheelError as error:
        return Seen(pin=pin, state="unknown", fact=error.fact.splitlines()[0])


def _of_index(pin: Pin, project: str, version: str, listed: Sequence[DistributionPackage]) -> Seen:
    """Look for a file of the pinned digests on the page of its project."""
    files = [one for one in listed if one.version and _same(one.version, version)]
    told = {(one.digests or {}).get("sha256", ""): one for one in files}
    mine = [told[digest] for digest in pin.sha256 if digest in told]
    if not files:
        return Seen(pin=pin, state="gone", fact=f"the index lists no file of {project} {version}")
    if not mine:
        return Seen(pin=pin, state="other", fact="the index lists it with other sha256 alone")
    moment = next((one.upload_time for one in mine if one.upload_time), None)
    since = moment.date() if moment else None
    if all(one.is_yanked for one in mine):
        return Seen(pin=pin, state="there", fact="yanked: by its hash alone", since=since)
    return Seen(pin=pin, state="there", since=since)


def _project(name: str) -> tuple[str, str]:
    """Return project and version of a requirement line, an sdist's or a wheel's file name."""
    if name.endswith(".whl"):
        wheel = parse_wheel_filename(name)
        return wheel[0], str(wheel[1])
    if "==" not in name:
        sdist = parse_sdist_filename(name)
        return sdist[0], str(sdist[1])
    project, _, exact = name.partition("==")
    return project, exact.lstrip("=")


def _same(listed: str, wanted: str) -> bool:
    try:
        return Version(listed) == Version(wanted)
    except InvalidVersion:
        return False


def _address(pin: Pin) -> Seen:
    """Ask for a file by its address, and read none of it: a build alone compares its bytes."""
    since = build_date(parse_wheel_filename(pin.name)[1])
    try:
        size = whole_length(pin.url, patience=_PATIENCE)
    except AbsentError as error:
        return Seen(pin=pin, state="gone", fact=f"{shown(pin.url)} {error}", since=since)
    except FailedError as error:
        return Seen(pin=pin, state="unknown", fact=f"{shown(pin.url)} {error}", since=since)
    if not size:
        fact = f"{shown(pin.url)} does not tell how long the file is"
        return Seen(pin=pin, state="unknown", fact=fact, since=since)
    if pin.size and size != pin.size:
        fact = f"{size:,} bytes instead of {pin.size:,}"
        return Seen(pin=pin, state="other", fact=fact, since=since)
    return Seen(pin=pin, state="there", since=since)


def _commit(site: Site, pin: Pin) -> Seen:
    """Fetch a commit without its files into an empty repository, which is removed again."""
    git_host.git_program(site.environment)
    own = {**site.environment, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    site.store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="commit-", dir=site.store) as folder:
        for words in (
            ["init", "--quiet", "--bare", "."],
            ["fetch", "--quiet", "--depth=1", "--filter=tree:0", "--", pin.url, pin.commit],
            ["show", "--no-patch", "--format=%ct", pin.commit],
        ):
            git = ["git", *words]
            done = capture_within(_GIT_SECONDS, git, environment=own, cwd=Path(folder))
            if done.hung:
                return Seen(pin=pin, state="unknown", fact=f"no answer in {_GIT_SECONDS:g} s")
            if done.code != 0:
                said = done.stderr
                why = git_host.reason(said) or " ".join(git_host.said(said)) or "git refused"
                gone = git_host.has_not(pin.commit, said)
                return Seen(pin=pin, state="gone" if gone else "unknown", fact=shown(why))
    moment = done.stdout.strip()
    since = datetime.fromtimestamp(int(moment), UTC).date() if moment.isdecimal() else None
    return Seen(pin=pin, state="there", since=since)


def _show(site: Site, stack: Stack, found: Sequence[Seen], today: date) -> None:
    bad = [one for one in found if one.state != "there"]
    lost = [one for one in bad if one.state != "unknown"]
    verdict = (
        "can be had" if found and not bad else "cannot be told" if not lost else "CANNOT BE HAD"
    )
    ages = [(today - one.since).days for one in found if one.since]
    oldest = f", the oldest {max(ages)} days old" if ages else ""
    counted = f"{len(found) - len(bad)} of {len(found)} pins are there{oldest}"
    site.console.result(
        f"{stack.name}: {verdict}; {counted}" if found else f"{stack.name}: no pins"
    )
    for one in bad:
        site.console.result(f"  {one.state:8}{one.pin.kind} {one.pin.name}: {one.fact}")


def _entry(one: Seen) -> dict[str, Any]:
    pin = asdict(one.pin) | {"sha256": sorted(one.pin.sha256)}
    return {**pin, "state": one.state, "fact": one.fact, "since": one.since and str(one.since)}
