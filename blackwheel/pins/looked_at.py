"""Compares variables, contracts and compiler of a project with the files of a new release."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from packaging.version import Version

from blackwheel.pins.cmake import is_cmake
from blackwheel.sources.rebase import Rebased
from blackwheel.stacks.records import ProjectPin

_READ: Final = (".py", ".cmake", ".toml", ".cfg")
_MOST: Final = 4 << 20
_FLOOR: Final = re.compile(
    r"CMAKE_CXX_COMPILER_VERSION\s+VERSION_LESS\s+\"?([0-9]+(?:\.[0-9]+)*)\"?", re.IGNORECASE
)


def notes(pin: ProjectPin, old: Path, new: Path, rebased: Rebased) -> Iterator[str]:
    """Yield the lines that a person should look at: names that the new release does not read."""
    before, after = _text(old), _text(new)
    patches = "\n".join(
        line[1:]
        for patch in rebased.series.patches
        for line in patch.content.decode("utf-8", "replace").splitlines()
        if line.startswith("+")
    )
    for name in pin.variables:
        word = re.compile(rf"\b{re.escape(name)}\b")
        if word.search(before) and not word.search(after) and not word.search(patches):
            yield f"variables.{name}: the new release reads no variable of that name"
    there = {path.name for path in new.rglob("*") if path.is_file()}
    was = {path.name for path in old.rglob("*") if path.is_file()}
    for contract in pin.contract:
        for source in contract.older:
            if source in was and source not in there:
                yield f"contract of {contract.library}: {source} is no file of the new release"
    floors = [Version(found) for found in _FLOOR.findall(after)]
    highest = max(floors, default=None)
    if highest and Version(pin.gcc or "0") < highest:
        yield f"gcc: a check of the new release wants {highest}, the stack says {pin.gcc or 'none'}"


def _text(root: Path) -> str:
    """Return the files in which a build reads variables and checks its compiler."""
    found = []
    for path in sorted(root.rglob("*")):
        wanted = path.suffix in _READ or is_cmake(path.relative_to(root).as_posix())
        if wanted and path.is_file() and not path.is_symlink() and path.stat().st_size <= _MOST:
            found.append(path.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(found)
