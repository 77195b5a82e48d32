"""Applies upstream's changes of requirements to the stack's own lists."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.stacks.faults import FaultsError, record_of, table_of
from blackwheel.stacks.records import ProjectPin, Stack
from blackwheel.stacks.request import COMPANIONS

_MOST_LETTERS: Final = 1000
_Known = dict[str, list[Requirement]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Table `[build-system]` of a pyproject.toml, as far as it is read."""

    requires: tuple[str, ...] = ()


def _bad_file(name: str, why: str) -> BlackwheelError:
    return BlackwheelError(
        "bad-upstream-file",
        f"the release's {name} cannot be read: {why[:300]}",
        where=name,
        fix="look at the file in the release; pin it by hand, or take another release",
        code=Exit.SOURCE,
    )


def followed(
    stack: Stack, project: str, pin: ProjectPin, old: Path, new: Path
) -> tuple[ProjectPin, tuple[str, ...]]:
    """Make upstream's changes of its lists to those of a pin; return the pin, and notes."""
    names = {name: name for name in ("torch", *COMPANIONS)}
    lines = [Requirement(text.format_map(names)) for one in pin.requires for text in one.set]
    own = {"torch", *(canonicalize_name(line.name) for line in lines)}
    own |= {canonicalize_name(name) for one in pin.requires for name in one.drop}
    files = [one.file for one in pin.requires]
    asked = file_lines(new, files)
    runtime, kept = moved(pin.runtime, before=file_lines(old, files), after=asked, own=own)
    wanted = build_lines(new)
    build, also = moved(pin.requirements, before=build_lines(old), after=wanted, own=own)
    note = torch_note([*asked, *wanted], stack.torch.version)
    notes = [f"{project}: {text}" for text in dict.fromkeys([note, *kept, *also]) if text]
    return replace(pin, runtime=runtime, requirements=build), tuple(notes)


def build_lines(root: Path) -> list[str]:
    """Return the build requirements of pyproject.toml; empty where there are none."""
    path = root / "pyproject.toml"
    if not path.is_file():
        return []
    try:
        system = table_of(path).get("build-system", {})
        return list(record_of(Asked, system).requires)
    except FaultsError as error:
        raise _bad_file("pyproject.toml", "; ".join(error.faults)) from None


def file_lines(root: Path, files: Iterable[str]) -> list[str]:
    """Return the requirements of files, and of the files that they include."""
    found: list[str] = []
    waiting, seen = list(files), set()
    while waiting:
        name = waiting.pop()
        # Unlike Path's, os.path's says no of a name that no file may have.
        if name in seen or len(name) > _MOST_LETTERS or not os.path.isfile(root / name):  # noqa: PTH113
            continue
        seen.add(name)
        try:
            text_of = (root / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _bad_file(name, str(error)) from None
        for line in text_of.splitlines():
            text = re.sub(r"(^|\s)#.*", "", line).strip()
            if included := re.fullmatch(r"(?:-r|--requirement)[ =]*(\S+)", text):
                waiting.append(str(PurePosixPath(name).parent / included[1]))
            elif text and _parsed(text):
                found.append(text)
    return found


def moved(
    have: Sequence[str], *, before: Sequence[str], after: Sequence[str], own: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Apply upstream's changes to a list; return it, and notes for a person.

    A requirement that the stack writes otherwise than upstream did, or left out, stays so. `own`
    are the distributions that the stack sets itself.
    """
    was, is_, held = _by_name(before), _by_name(after), _by_name(have)
    lines = list(have)
    notes = []
    for name in dict.fromkeys([*was, *is_]):
        old, new, mine = was.get(name, []), is_.get(name, []), held.get(name, [])
        if name in own or _same(old, new) or (old and not mine):
            continue
        # Single quotes, as the stack file's: double ones would be escaped there.
        wanted = [line.replace('"', "'") for line in after if _name(line) == name]
        if _same(mine, new):
            continue
        if not _same(mine, old):
            asks = ", ".join(wanted) or f"no {name} any more"
            notes.append(f"upstream asks for {asks}; the stack keeps {', '.join(map(str, mine))}")
            continue
        places = [number for number, line in enumerate(lines) if _name(line) == name]
        place = places[0] if places else len(lines)
        lines = [line for line in lines if _name(line) != name]
        lines[place:place] = wanted
    return tuple(lines), tuple(notes)


def torch_note(after: Sequence[str], torch: str) -> str:
    """Return a note where a release asks for another torch than the stack's (2.11.0)."""
    for line in after:
        found = _parsed(line)
        if not found or found.name != "torch" or (found.marker and not found.marker.evaluate()):
            continue
        if not found.specifier.contains(torch, prereleases=True):
            return f"upstream asks for {line}; the stack has torch {torch}"
    return ""


def _by_name(lines: Sequence[str]) -> _Known:
    known: _Known = {}
    for line in lines:
        if found := _parsed(line):
            known.setdefault(canonicalize_name(found.name), []).append(found)
    return known


def _same(left: list[Requirement], right: list[Requirement]) -> bool:
    return sorted(map(str, left)) == sorted(map(str, right))


def _parsed(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except (InvalidRequirement, RecursionError):  # thousands of brackets
        return None


def _name(line: str) -> str:
    found = _parsed(line)
    return canonicalize_name(found.name) if found else ""
