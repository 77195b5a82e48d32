"""Rewrites a source's requirement files and readme, from which METADATA is made, for the stack."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.stacks.records import RequirementFile, Stack
from blackwheel.stacks.request import filled


def set_requirements(source: Path, stack: Stack, project: str, python: str) -> tuple[str, ...]:
    """Rewrite the requirement files that the stack names; return the changes, a line each.

    A requirement that is to be replaced or dropped must be there: a release that renames it would
    else bring another torch along. Raises `requirement-missing`.
    """
    done: list[str] = []
    pin = stack.projects[project]
    for number, edit in enumerate(pin.requires):
        path = source / edit.file
        where = f"constraints/{stack.name}.toml, projects.{project}.requires.{number}"
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        wanted = [filled(line, stack, pin, python) for line in edit.set]
        after, said = _edited(before, edit, wanted, where)
        done += [f"{edit.file}: {line}" for line in said]
        if after != before:
            path.write_text(after, encoding="utf-8")
    return tuple(done)


def shorten_readme(source: Path, stack: Stack, project: str) -> None:
    """Shorten the file of the long description to one line, where the stack names it.

    Raises `readme-missing`.
    """
    pin = stack.projects[project]
    if pin.readme is None:
        return
    path = source / pin.readme
    if not path.is_file():
        raise BlackwheelError(
            "readme-missing",
            f"{project} has no {pin.readme}",
            where=f"constraints/{stack.name}.toml, projects.{project}.readme",
            fix="name the file that its setup.py or pyproject.toml reads, or leave the key out",
            code=Exit.CONFIG,
        )
    archive = f", sdist {pin.sdist.name}" if pin.sdist else ""
    which = f" at {pin.source.commit}" if pin.source.commit else archive
    path.write_text(f"{pin.source.url}{which}\n", encoding="utf-8")


def _edited(
    text: str, edit: RequirementFile, wanted: Sequence[str], where: str
) -> tuple[str, list[str]]:
    new = {canonicalize_name(Requirement(line).name): line for line in wanted}
    gone = {canonicalize_name(name) for name in edit.drop}
    lines, said, found = [], [], set()
    for line in text.splitlines():
        name = _name(line)
        if name is None or (name not in new and name not in gone):
            lines.append(line)
            continue
        found.add(name)
        lines += [new[name]] if name in new else []
        said.append(f"{line.strip()} → {new.get(name, 'dropped')}")
    if lacking := sorted((set(new) | gone) - found):
        raise BlackwheelError(
            "requirement-missing",
            f"{edit.file} requires no {', '.join(lacking)}",
            where=where,
            fix="correct the table: this release names its requirements otherwise",
            code=Exit.CONFIG,
        )
    return "\n".join(lines) + "\n", said


def _name(line: str) -> NormalizedName | None:
    """Return the distribution that a line requires; None for options and comments."""
    text = re.sub(r"(^|\s)#.*", "", line).strip()
    try:
        return canonicalize_name(Requirement(text).name) if text else None
    except InvalidRequirement:
        return None
