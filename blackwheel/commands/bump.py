"""Moves a nightly to its newest build, and proves it; else leaves the pin and reports (`bump`)."""

from __future__ import annotations

import contextlib
import difflib
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from blackwheel.builder.compile_fault import Fault, first_fault
from blackwheel.commands.build_wheels import build_wheels
from blackwheel.core.addresses import shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import replace_file
from blackwheel.core.site import Site
from blackwheel.pins import lock_all, move_torch
from blackwheel.pytorch import archive
from blackwheel.stacks import loader
from blackwheel.stacks.records import Stack

UPSTREAM: Final = "https://github.com/pytorch/pytorch"
_SOURCES: Final = {"ATen/": "aten/src/ATen/"}
"""Where torch's own repository has a header that its wheel has elsewhere."""
_SUSPECTS: Final = 2
_LINES: Final = 60
_HEADER_BYTES: Final = 4 << 20


@dataclass(kw_only=True, slots=True)
class Day:
    """One attempt: the torch before and after, and how it ended."""

    stack: str
    before: Stack
    after: Stack | None = None
    code: int = 0
    error: str = ""
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    """By project: the first object that failed to compile."""


def bump(
    site: Site,
    stack: str,
    *,
    only: Sequence[str] = (),
    report: Path | None = None,
    archive_in: Path | None = None,
) -> int:
    """Move a stack's nightly to the newest, lock, build, audit, smoke and shelve; return the code.

    Whatever fails or stops it, stack file and locks are then as they were, and the report says
    which object failed, in which header, and which commits of torch lie between.
    """
    day = Day(stack=stack, before=loader.load(stack, site.constraints))
    try:
        with _put_back(site, stack, day):
            moved = move_torch.pin_torch(site, stack, move_torch.LATEST, archive_in=archive_in)
            day.after = loader.load(stack, site.constraints)
            if not moved:
                site.console.result(f"{stack}: torch {day.before.torch.version} is the newest")
                return Exit.OK
            lock_all.lock_all(site, names=[stack])
            started = datetime.now(UTC).timestamp()
            day.code = build_wheels(site, stack, only=only)
            if day.code:
                day.faults = list(_faults(site, day.after, started))
    except BlackwheelError as error:
        day.code, day.error = int(error.code), str(error)
        site.console.error(error)
    text = "\n".join(_report(site, day)) + "\n"
    if report:
        replace_file(report.absolute(), text.encode())
    site.console.result(text.rstrip("\n"))
    return day.code


@contextlib.contextmanager
def _put_back(site: Site, stack: str, day: Day) -> Iterator[None]:
    """Keep the files of a stack; write them back unless everything inside ended well."""
    folder = site.constraints / stack
    files = [site.constraints / f"{stack}.toml", *folder.glob("*.toml"), *folder.glob("*.txt")]
    kept = {path: path.read_bytes() for path in files if path.is_file()}
    try:
        yield
        if day.code == Exit.OK:
            kept = {}
    finally:
        for path in [*folder.glob("*.txt")] if kept else []:
            if path not in kept:
                path.unlink()
        for path, data in kept.items():
            if not path.is_file() or path.read_bytes() != data:
                replace_file(path.resolve(), data)


def _faults(site: Site, stack: Stack, started: float) -> Iterator[tuple[str, Fault]]:
    """Yield the first compile error of each project whose log is of this run."""
    for project in stack.build:
        for log in sorted(site.store.glob(f"builds/{stack.name}/{project}/*/build.log")):
            if log.stat().st_mtime >= started - 1 and (fault := first_fault(log)):
                yield project, fault


def _report(site: Site, day: Day) -> Iterator[str]:
    """Yield the report in Markdown: a change's description, or an issue's."""
    old, new = day.before.torch, (day.after or day.before).torch
    moved = old.version != new.version
    title = f"torch {old.version} → {new.version}" if moved else f"torch {old.version}"
    ended = "built, audited and smoked" if not day.code else f"failed ({_kind(day.code)})"
    yield f"## {day.stack}: {title}: {ended}"
    yield ""
    if moved and old.git_version and new.git_version:
        yield f"- commits of torch: `{old.git_version[:12]}` → `{new.git_version[:12]}`:"
        yield f"  {UPSTREAM}/compare/{old.git_version}...{new.git_version}"
    if day.code:
        yield f"- the pin stays: torch {old.version}"
    for project, fault in day.faults:
        yield f"- {project}: object `{fault.object}`: {fault.error}"
        yield f"  at `{fault.place}`" if fault.place else "  (its log names no place)"
        for header in [fault.header] if fault.header else _suspects(site, day, fault.names):
            yield from _header(site, day, header)
    if day.error:
        yield from ("", "```", *shown(day.error).splitlines(), "```")
    elif day.code and not day.faults:
        yield "- no object failed to compile: the run's own last error is in its log"


def _header(site: Site, day: Day, header: str) -> Iterator[str]:
    """Tell what changed in a header of torch between the two wheels, and which commits did it."""
    old, new = day.before.torch, (day.after or day.before).torch
    place = header
    for inside, outside in _SOURCES.items():
        if header.startswith(inside):
            place = outside + header.removeprefix(inside)
    yield f"- header `{header}`: `git log {old.git_version}..{new.git_version} -- {place}`"
    texts = [_member(site, stack, f"torch/include/{header}") for stack in (day.before, day.after)]
    if texts[0] is None or texts[1] is None:
        yield "  (one of the two wheels is not kept here: its text was not compared)"
        return
    lines = list(
        difflib.unified_diff(
            texts[0].splitlines(), texts[1].splitlines(), old.version, new.version, lineterm="", n=1
        )
    )
    if not lines:
        yield "  its text is the same in both: look at the headers that it includes"
        return
    yield from ("", "```diff", *(line[:200] for line in lines[:_LINES]))
    yield from ([f"… {len(lines) - _LINES} more lines"] if len(lines) > _LINES else [])
    yield "```"


def _suspects(site: Site, day: Day, names: Sequence[str]) -> list[str]:
    """Return headers of the old torch that name what the compiler misses, and that changed."""
    old, new = (_wheel(site, stack) for stack in (day.before, day.after))
    if not (old and new and names):
        return []
    word = re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\b")
    found: list[str] = []
    with zipfile.ZipFile(old) as packed, zipfile.ZipFile(new) as later:
        sums = {one.filename: one.CRC for one in later.infolist()}
        for one in packed.infolist():
            header = one.filename.removeprefix("torch/include/")
            other = sums.get(one.filename) != one.CRC and one.file_size <= _HEADER_BYTES
            if header == one.filename or not other or len(found) == _SUSPECTS:
                continue
            if word.search(packed.read(one).decode("utf-8", "replace")):
                found.append(header)
    return found


def _wheel(site: Site, stack: Stack | None) -> Path | None:
    """Return a kept torch wheel of a stack."""
    kept = archive.archive(site.store, site.environment, site.console)
    paths = [kept.folder / one.name for one in (stack.torch.wheels.values() if stack else ())]
    return next((path for path in paths if path.is_file()), None)


def _member(site: Site, stack: Stack | None, name: str) -> str | None:
    """Return the text of a file in a kept torch wheel; "" where that torch has no such file."""
    path = _wheel(site, stack)
    if path is None:
        return None
    with zipfile.ZipFile(path) as packed:
        known = {one.filename: one.file_size for one in packed.infolist()}
        if known.get(name, 0) > _HEADER_BYTES:
            return None
        return packed.read(name).decode("utf-8", "replace") if name in known else ""


def _kind(code: int) -> str:
    """Return the kind of cause that an exit code stands for: `build`, `audit`, `smoke`."""
    return Exit(code).name.lower() if code in set(Exit) else f"exit code {code}"
