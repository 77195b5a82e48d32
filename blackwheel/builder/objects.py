"""Finds the objects of a build tree whose inputs are the same by content; removes the others.

ninja and make compare times, which a corrected clock, a copied store or a stopped build make lie.
The launcher notes beside each object what it was compiled from (inside/inputs.py).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from blackwheel.builder.inside.inputs import COMMAND, SUFFIX
from blackwheel.core.files import below
from blackwheel.sources.tree import ABSENT, Rows, row

_OBJECTS: Final = (".o", ".obj", ".lo", ".gch", ".pch")
_LOG: Final = ".ninja_log"
_LOG_HEADS: Final = tuple(f"# ninja log v{number}" for number in (5, 6, 7))
"""Forms of ninja's log that have five columns: start, end, time of the output, output, command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """A build tree whose sources are about to become others."""

    src: Path
    folders: Mapping[Path, Path]
    """Where a path of the build lies outside of it: `/tmp/blackwheel/src` and the like."""
    patched: Path
    """The patched tree that its sources are to be."""
    wanted: Rows
    """The files of that tree."""
    before: Collection[str]
    """Paths of the files that its sources were."""
    _ids: dict[str, str] = field(default_factory=dict)

    def drop_unproved(self) -> int:
        """Remove objects that were compiled from other contents; return how many.

        Of ninja's log only the lines of the objects that stay remain: it makes all else again.
        """
        kept, dropped = set(), 0
        new = {path.rpartition("/")[2] for path in set(self.wanted) - set(self.before)}
        for path in below(self.src):
            if path.suffix not in _OBJECTS or self._is_source(path):
                continue
            if self._proved(path, new):
                kept.add(path)
            else:
                dropped += 1
                path.unlink()
                Path(f"{path}{SUFFIX}").unlink(missing_ok=True)
        for path in below(self.src):
            if path.name == _LOG:
                self._rewrite(path, kept)
        return dropped

    def _is_source(self, path: Path) -> bool:
        return path.relative_to(self.src).as_posix() in self.wanted

    def _proved(self, path: Path, new: Collection[str]) -> bool:
        """Tell whether an object and its inputs have the contents that were noted.

        A file that is new and called as an input may be found before it.
        """
        notes = _notes(Path(f"{path}{SUFFIX}"))
        if len(notes) < 2:
            return False
        (own, _), *rest = notes
        inputs = [one for one in rest if one[1] != COMMAND]  # ninja has the commands
        return (
            row(path)[1] == own
            and all(self._id(name) == noted for noted, name in inputs if noted != "-")
            and not any(name.rpartition("/")[2] in new for _, name in inputs)
        )

    def _id(self, name: str) -> str:
        """Return the id of the content that a path of the build is about to have."""
        if name not in self._ids:
            self._ids[name] = self._found(Path(name))
        return self._ids[name]

    def _outside(self, path: Path) -> Path:
        """Return where a path of the build lies outside of it."""
        for each, out in self.folders.items():
            if path.is_relative_to(each):
                return out / path.relative_to(each)
        return path

    def _found(self, inside: Path) -> str:
        place = self._outside(inside)
        if place.is_relative_to(self.src):
            source = place.relative_to(self.src).as_posix()
            patched = self.patched / source
            if patched.exists():  # also through a link of the source
                real = patched.resolve().relative_to(self.patched.resolve()).as_posix()
                return self.wanted.get(real, ABSENT)[1]
            if source in self.before:
                return ""
        return row(place.resolve())[1]

    def _rewrite(self, log: Path, kept: Collection[Path]) -> None:
        """Leave the lines of these objects in ninja's log, with the times that the files have."""
        lines = log.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        if not lines or not lines[0].startswith(_LOG_HEADS):
            log.unlink()
            return
        found = [lines[0]]
        for line in lines[1:]:
            columns = line.split("\t")
            name = columns[3] if len(columns) == 5 else ""
            place = self._outside(Path(os.path.normpath(log.parent / name)))
            if place in kept:
                columns[2] = str(place.stat().st_mtime_ns)
                found.append("\t".join(columns))
        part = log.with_name(f"{log.name}.part")
        part.write_text("\n".join(found) + "\n", encoding="utf-8", errors="surrogateescape")
        part.replace(log)


def _notes(path: Path) -> list[tuple[str, str]]:
    """Read the notes of an object; none where they cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return []
    pairs = [line.partition(" ") for line in text.splitlines()]
    return [(noted, name) for noted, _, name in pairs]
