"""Publishes proved wheels to a folder or an upload server, and reads them back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from blackwheel.core.addresses import require_address
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.core.units import counted, size
from blackwheel.shelf import gate, readback, remote_index, signing, verify_pages
from blackwheel.shelf import index as shelves
from blackwheel.shelf import upload as uploads
from blackwheel.shelf.gate import Proved
from blackwheel.shelf.remote_index import Index, Limits, Offers


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Destination of wheels: a folder with one directory index a stack, or an upload server."""

    shelf: Path | None
    index: Index | None
    """None for a folder of which nobody said where it is served."""

    @property
    def simple(self) -> str:
        """Address of the index for installers."""
        if self.index is not None:
            return self.index.simple
        assert self.shelf is not None  # noqa: S101  a target is one of the two
        return f"{(self.shelf / 'simple').as_uri()}/"


def publish(
    site: Site,
    stack: str,
    *,
    to: str,
    only: Sequence[str] = (),
    simple: str = "",
    yes: bool = False,
    allow_unrun: bool = False,
    signed_by: Sequence[str] = (),
    as_json: bool = False,
    limits: Limits | None = None,
) -> int:
    """Publish a stack's set, all of it or nothing; report success only after reading it back.

    An upload server takes one file after the other: there a failure says what was sent and what
    was not, and the same command goes on.
    """
    limits = limits or Limits()
    target = _target(site, stack, to, simple)
    policies = signing.policies(site, stack, target.shelf, signed_by)
    proved = gate.proved_set(site, stack, only=only, allow_unrun=allow_unrun, policies=policies)
    states = _states(site, proved, target, limits)
    if not as_json or not yes:
        _show_plan(site, proved, states, target, as_json=as_json)
    for wheel in _yanked(proved, target):
        site.console.say(f"{wheel.path.name} is yanked there: it keeps the mark")
    if not yes:
        site.console.say("nothing was published; --yes publishes it")
        return Exit.OK
    if target.shelf is None:
        _upload_all(site, proved, states, target, limits)
        offers, imported = _read_back(site, proved, target, limits)
    else:
        with _listed(site, proved, target.shelf):
            offers, imported = _read_back(site, proved, target, limits)
    _show_done(site, proved, states, target, offers=offers, imported=imported, as_json=as_json)
    if target.shelf is not None:
        shelves.show_all(target.shelf.parent)
    return Exit.OK


def _target(site: Site, stack: str, to: str, simple: str) -> Target:
    """Read `--to` and `--index-url`; raise `no-index`, `secret-in-address` and `unknown-index`."""
    if not to:
        raise BlackwheelError(
            "no-index",
            "nothing says where the wheels go",
            where="invoke publish",
            fix="--to FOLDER, or --to ADDRESS of an upload server; or `to` in invoke.yaml",
            code=Exit.USAGE,
        )
    for option, address in (("--to", to), ("--index-url", simple)):
        if "://" in address:
            require_address(address, option)
        if "@" in urlsplit(address).netloc:
            raise BlackwheelError(
                "secret-in-address",
                "user or password in an address can be read by everybody on this machine",
                where=option,
                fix="UV_PUBLISH_USERNAME and UV_PUBLISH_PASSWORD in the environment, or netrc",
                code=Exit.USAGE,
            )
    kind = urlsplit(to).scheme if "://" in to else ""
    if kind not in ("", "file", "http", "https"):
        raise BlackwheelError(
            "unknown-index",
            f"'{kind}' is neither a folder nor an upload server",
            where=f"--to {to}",
            fix="publish to a folder, then sync it with your own tool: docs/publishing.md",
            code=Exit.USAGE,
        )
    simple = f"{simple.rstrip('/')}/" if simple else ""
    login = remote_index.login_of(site.environment, simple or to)
    if kind in ("http", "https"):
        read = simple or remote_index.found_simple(to, login)
        same = urlsplit(read).netloc == urlsplit(to).netloc
        index = Index(upload=to, simple=read, login=login if same else None)
        return Target(shelf=None, index=index)
    folder = Path(unquote(urlsplit(to).path) if kind else to).expanduser().absolute()
    served = Index(upload="", simple=simple, login=login) if simple else None
    return Target(shelf=folder / stack, index=served)


def _states(site: Site, proved: Sequence[Proved], target: Target, limits: Limits) -> list[str]:
    """Return the state of each wheel, as `_state` does, with progress: a file may be hashed."""
    stack, states = proved[0].request.stack.name, list[str]()
    with site.console.stage(
        stack, f"compare {counted(len(proved), 'wheel')} with the index"
    ) as stage:
        for number, one in enumerate(proved):
            stage.update(number, len(proved), one.wheel.path.name)
            states.append(_state(one, target, limits))
    return states


def _state(one: Proved, target: Target, limits: Limits) -> str:
    """Return `there` or `absent`; raise `other-bytes`."""
    if target.shelf is None:
        assert target.index is not None  # noqa: S101  a target is one of the two
        return uploads.state(one, target.index, limits)
    place = target.shelf / one.wheel.path.name
    if not place.exists():
        return "absent"
    found = verify_pages.sha256(place)
    if found != one.wheel.sha256:
        raise uploads.other_bytes(one, found, str(place))
    listed = {wheel.path.name for wheel in shelves.shelved(target.shelf)}
    return "there" if place.name in listed else "absent"


def _yanked(proved: Sequence[Proved], target: Target) -> Iterator[shelves.ShelvedWheel]:
    """Yield the wheels of the set that a folder lists as yanked."""
    names = {one.wheel.path.name for one in proved}
    for wheel in shelves.shelved(target.shelf) if target.shelf else ():
        if wheel.yanked and wheel.path.name in names:
            yield wheel


def _upload_all(
    site: Site, proved: Sequence[Proved], states: Sequence[str], target: Target, limits: Limits
) -> None:
    assert target.index is not None  # noqa: S101  a target is one of the two
    deadline = time.monotonic() + limits.seconds
    pairs = list(zip(proved, states, strict=True))
    there = [one.wheel.path.name for one, state in pairs if state == "there"]
    todo = [one for one, state in pairs if state == "absent"]
    for number, one in enumerate(todo):
        try:
            uploads.upload(one, target.index, site=site, limits=limits, deadline=deadline)
            readback.read_index(one, target.index, limits)
        except BlackwheelError as error:
            rest = [later.wheel.path.name for later in todo[number + 1 :]]
            lines = [f"there:    {name}" for name in there]
            lines += [f"failed:   {one.wheel.path.name}"]
            lines += [f"not sent: {name}" for name in rest]
            if len(proved) > 1:
                error.add_note("\n".join(lines))
            raise
        there.append(one.wheel.path.name)


@contextmanager
def _listed(site: Site, proved: Sequence[Proved], shelf: Path) -> Iterator[None]:
    """List wheels in a folder while they are read back; take the new ones back where that fails.

    What another run had listed and read back stays.
    """
    now = datetime.now(UTC)
    wheels = [(one.wheel.path, one.receipt) for one in proved]
    signed = {one.wheel.path.name: one.signed for one in proved}
    boms = {one.wheel.path.name: one.sbom for one in proved}
    with site.console.stage(shelf.name, f"copy {counted(len(proved), 'wheel')}"):
        listed = shelves.shelve_all(wheels, shelf, signed=signed, sboms=boms, now=now)
    new = [one for one in listed if one.shelved_at == now]
    try:
        yield
    except BaseException as error:
        for wheel in new:
            name = wheel.path.name
            try:
                shelves.withdraw(wheel, shelf)
                error.add_note(f"taken back, it is listed no more: {name}")
            except (BlackwheelError, OSError) as failed:
                why = failed.fact if isinstance(failed, BlackwheelError) else failed.strerror
                error.add_note(f"cannot be taken back, it may still be listed: {name}: {why}")
        raise


def _read_back(
    site: Site, proved: Sequence[Proved], target: Target, limits: Limits
) -> tuple[Offers, tuple[str, ...]]:
    """Read bytes and pages again, then install; return the offers of the index and the imports."""
    stack = proved[0].request.stack.name
    offers = Offers(json=None, metadata=None, ranges=None)
    with site.console.stage(stack, f"read back {counted(len(proved), 'wheel')}") as stage:
        if target.shelf is not None:
            readback.read_folder(target.shelf, proved)
        for number, one in enumerate(proved):
            if target.index is not None:
                stage.update(number, len(proved), one.wheel.path.name)
                offers = readback.read_index(one, target.index, limits)
    login = target.index.login if target.index else None
    return offers, readback.install(proved, simple=target.simple, site=site, login=login)


def _show_plan(
    site: Site, proved: Sequence[Proved], states: Sequence[str], target: Target, *, as_json: bool
) -> None:
    words = {"there": "already there", "absent": "to be published"}
    if as_json:
        wheels = [_row(o, s, target) for o, s in zip(proved, states, strict=True)]
        site.console.document("publish", wheels=wheels)
        return
    rows = [
        (one.wheel.path.name, size(one.wheel.size), words[state])
        for one, state in zip(proved, states, strict=True)
    ]
    site.console.table("", ("wheel", "size", "state"), rows)
    place = target.shelf or (target.index.upload if target.index else "")
    site.console.result(f"to       {place}\nread at  {target.simple}")
    for one in proved:
        for text in one.unrun:
            site.console.result(f"UNRUN    {one.wheel.path.name}: {text}")


def _row(one: Proved, state: str, target: Target) -> dict[str, Any]:
    return {
        "wheel": one.wheel.path.name,
        "sha256": one.wheel.sha256,
        "size": one.wheel.size,
        "state": state,
        "unrun": list(one.unrun),
        "simple": target.simple,
    }


def _show_done(
    site: Site,
    proved: Sequence[Proved],
    states: Sequence[str],
    target: Target,
    *,
    offers: Offers,
    imported: Sequence[str],
    as_json: bool,
) -> None:
    words = {"there": "already there", "absent": "published"}
    if as_json:
        offered = {"json": offers.json, "metadata": offers.metadata, "ranges": offers.ranges}
        told = {"offers": offered, "read_back": list(imported)}
        wheels = [
            {**_row(one, words[state], target), **told}
            for one, state in zip(proved, states, strict=True)
        ]
        site.console.document("publish", wheels=wheels)
        return
    for one, state in zip(proved, states, strict=True):
        site.console.result(f"{words[state]}: {one.wheel.path.name} sha256 {one.wheel.sha256}")
    for text in imported:
        site.console.result(f"read back: {text}")
    if target.index is not None:
        site.console.result(f"the index offers: {offers.text()}")
    names = " ".join(dict.fromkeys(f"{o.wheel.project}=={o.wheel.version}" for o in proved))
    site.console.result(f"install: uv pip install --no-deps --index-url {target.simple} {names}")
    site.console.result("by hash, for a requirements file in which every line has one:")
    for text in hashed(proved):
        site.console.result(f"  {text}")


def hashed(proved: Sequence[Proved]) -> Iterator[str]:
    """Yield the requirement of each release with the digests of its wheels, to be pasted."""
    digests: dict[str, list[str]] = {}
    for one in proved:
        named = f"{one.wheel.project}=={one.wheel.version}"
        digests.setdefault(named, []).append(f"--hash=sha256:{one.wheel.sha256}")
    for named, found in digests.items():
        yield " ".join([named, *dict.fromkeys(found)])
