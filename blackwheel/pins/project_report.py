"""Shows the move of a project's pin before it is written (`invoke pin PROJECT VERSION`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from blackwheel.core.addresses import shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site, isolation_mode
from blackwheel.pins import changes, move_project
from blackwheel.pins import objects as objectplans
from blackwheel.pins.move_project import Move
from blackwheel.pins.objects import Pair
from blackwheel.sources.series import Series, load_series, patch_digests
from blackwheel.stacks import key as keys
from blackwheel.stacks.key import Key
from blackwheel.stacks.records import GitPin
from blackwheel.stacks.request import Request

_SHORT: Final = 12


def pin_project(
    site: Site,
    stack: str,
    project: str,
    version: str,
    *,
    commits: Sequence[str] = (),
    as_version: str = "",
    dry_run: bool = False,
    objects: bool = False,
) -> bool:
    """Move a project of a stack to a release, all or nothing; return whether anything was written.

    What will be written is shown first. With `as_version` a commit that no tag names is taken under
    that version. `commits` are `COMMIT` or `third_party/NAME=COMMIT`;
    with `objects`, every object is planned before and after.
    """
    named = named_commits(commits)
    if as_version:
        _require_whole(named)
        version = as_version
    with move_project.locked(site, stack, project):
        move = move_project.prepare(
            site, stack, project, version, commits=named, untagged=bool(as_version)
        )
        pair = objectplans.plans(site, move) if objects else None
        move = move_project.counted(move, pair.count) if pair else move
        site.console.result("\n".join(summary(site, move, pair)))
        series = site.patches / project / move.pin.version
        changed = move.before != move.after or move_project.written(move, series)
        if changed:
            site.console.result(shown("\n".join(difference(move))))
        if dry_run or not changed:
            site.console.say(
                f"{project}: {'nothing was written' if changed else 'nothing changed'}"
            )
            return False
        move_project.write(site, move)
    site.console.say(f"{project}: written; next: {_next(move)}")
    return True


def named_commits(words: Sequence[str]) -> dict[str, str]:
    """Read `COMMIT`, its nine digits of an sdist, or `path=COMMIT`; raise `bad-commit`."""
    found = {}
    for word in words:
        path, _, commit = word.rpartition("=")
        if not re.fullmatch(r"[0-9a-f]{40}" if path else r"[0-9a-f]{9}|[0-9a-f]{40}", commit):
            raise BlackwheelError(
                "bad-commit",
                f"'{word}' names no commit",
                where="--commit",
                fix="40 hexadecimal digits, or the nine that an sdist tells of its own;"
                "\nfor a nested source: --commit third_party/NAME=COMMIT",
                code=Exit.USAGE,
            )
        found[path] = commit
    return found


def _require_whole(commits: Mapping[str, str]) -> None:
    """Raise `bad-commit` where `--as-version` has no whole commit to give a version to."""
    if not re.fullmatch("[0-9a-f]{40}", commits.get("", "")):
        raise BlackwheelError(
            "bad-commit",
            "--as-version names a commit that no tag names, and no whole commit is given",
            where="--as-version",
            fix="--commit COMMIT, all 40 digits",
            code=Exit.USAGE,
        )


def summary(site: Site, move: Move, pair: Pair | None = None) -> Iterator[str]:
    """Yield the parts that move: source, nested sources, sdist, series, and planned objects."""
    old, new = move.old, move.pin
    unseen = " (commit as named, not seen)" if new.source.commit else " (its commit is unknown)"
    untagged = " (no tag names it)" if new.source.tree else unseen
    named = f" (tag {move.tag})" if move.tag else untagged
    yield f"{move.project} in stack {move.stack.name}: {_pair(old.version, new.version)}{named}"
    if move.first:
        yield "  first    its bytes are measured now: whoever has others is refused from here on"
    if not move.rebased.series.folder.exists():
        yield f"  series   {move.rebased.series.place} is made: it names no patch yet"
    yield f"  source   {_pair(_short(old.source), _short(new.source))}"
    for was, is_ in zip(old.nested, new.nested, strict=True):
        unseen = "" if is_.tree else ", its tree not seen"
        yield f"  nested   {is_.path}: {_pair(_short(was), _short(is_))}{unseen}"
    if new.sdist:
        yield f"  sdist    {new.sdist.name}, {new.sdist.size} bytes, sha256 {new.sdist.sha256}"
    for patch in move.rebased.patches:
        why = ": upstream has it" if patch.outcome == "dropped" else ""
        yield f"  patch    {patch.name}: {patch.outcome}{why}"
    yield from _plan(site, move)
    yield from (f"  objects  {line}" for line in pair.lines()) if pair else _uncounted(move)
    yield from (f"  look at  {note}" for note in move.notes)


def _short(pin: GitPin) -> str:
    return pin.commit[:_SHORT] or "unknown"


def difference(move: Move) -> Iterator[str]:
    """Return the diff of the stack file, and of each patch that was rebased."""
    yield from changes.difference(f"constraints/{move.stack.name}.toml", move.before, move.after)
    for patch in move.rebased.series.patches:
        content = move.rebased.contents.get(patch.name, b"")
        if content not in (patch.content, b""):
            pair = (text.decode("utf-8", "replace") for text in (patch.content, content))
            yield from changes.difference(
                f"patches/{move.project}/{move.pin.version}/{patch.name}", *pair
            )


def _plan(site: Site, move: Move) -> Iterator[str]:
    """Compare what would be built: version and label, archs, and all of the key."""
    old, new = (_request(move, moved=moved) for moved in (False, True))
    yield f"  plan     version: {_pair(old.version, new.version)}"
    yield f"  plan     archs: {_pair(';'.join(old.archs), ';'.join(new.archs))}"
    if move.first:
        return
    try:
        before = _key(site, old, load_series(site.patches / move.project / old.pin.version))
        after = _key(site, new, moved_series(site, move))
    except BlackwheelError as error:  # a stack that has no hashed pins yet
        yield f"  plan     the keys cannot be compared: {error.fact}"
        return
    changes = after.changes(dict(before.parts))
    yield from (f"  key      {change}" for change in changes or ("the same",))


def _uncounted(move: Move) -> Iterator[str]:
    if move.old.objects and move.old.version != move.pin.version:
        count = f"the count ({move.old.objects}) is from {move.old.version}"
        yield f"  objects  {count}; use --objects to recount"


def moved_series(site: Site, move: Move) -> Series:
    """Return the series after the move."""
    contents = move.rebased.contents
    return Series(
        folder=site.patches / move.project / move.pin.version,
        patches=tuple(
            replace(patch, content=contents[patch.name])
            for patch in move.rebased.series.patches
            if patch.name in contents
        ),
    )


def _request(move: Move, *, moved: bool) -> Request:
    stack = move.moved if moved else move.stack
    return Request(
        stack=stack, project=move.project, python=stack.python[0], archs=stack.archs, without=()
    )


def _key(site: Site, asked: Request, series: Series) -> Key:
    mode = isolation_mode(site).mode
    return keys.key(
        asked, patches=patch_digests(series), constraints=site.constraints, isolation=mode
    )


def _pair(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _next(move: Move) -> str:
    name = move.stack.name
    listed = ("requirements", "runtime")
    if move.first or any(getattr(move.old, key) != getattr(move.pin, key) for key in listed):
        return f"nox -s lock -- {name}"
    return f"invoke plan --objects --stack {name} --only {move.project}"
