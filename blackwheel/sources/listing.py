"""Lists the files of an export so that its pins alone prove them: each list's tree id is pinned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from blackwheel.sources.git_store import GitStore, commit_tree
from blackwheel.sources.stand_in import StandIn
from blackwheel.sources.tree import (
    GITLINK,
    Rows,
    is_selected,
    listed_tree_id,
    object_id,
)
from blackwheel.stacks.records import STRICT, NestedPin, ProjectPin


class UnprovedError(Exception):
    """Raised where a list is of other files than the pins name; the text says of which part."""


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Part:
    """All files of one pinned source, also those that its pin does not select."""

    path: str
    """Its folder in the export; empty for the project's own."""
    kind: Literal["git", "sdist", "wheel"]
    files: dict[str, tuple[int, str]]
    commit: str = ""
    """The commit object of a `git` part."""

    @property
    def tree(self) -> str:
        """Git tree id of the files."""
        return listed_tree_id(self.files)


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Listing:
    """The lists of an export, the project's own first."""

    parts: tuple[Part, ...]
    reason: str = ""
    """Why the sdist stands in for git."""

    def files(self, pin: ProjectPin) -> Rows:
        """Return the files that the export must hold; raise `UnprovedError`."""
        nested = {one.path: one for one in pin.nested}
        found: Rows = {}
        for part in self.parts:
            if part.path and part.path not in nested:
                raise UnprovedError(f"no pin names {part.path}")
            chosen = _proved(part, pin, nested.get(part.path))
            prefix = f"{part.path}/" if part.path else ""
            found |= {f"{prefix}{path}": one for path, one in chosen.items()}
        listed = {part.path for part in self.parts}
        lacking = {"", *nested} - listed - _bundled(self.parts, nested)
        if lacking:
            raise UnprovedError(f"no list of {', '.join(sorted(lacking)) or pin.source.url}")
        return found

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def part_of(path: str, source: GitStore | StandIn) -> Part:
    """Return the list of a fetched source."""
    if isinstance(source, GitStore):
        text = source.commit.decode("latin-1")
        return Part(path=path, kind="git", files=source.rows(), commit=text)
    files = {one.path: (one.mode, object_id("blob", one.data).hex()) for one in source.entries()}
    return Part(path=path, kind="wheel", files=files)


def _bundled(parts: Sequence[Part], nested: Iterable[str]) -> set[str]:
    """Nested sources whose files lie in the project's own part: an sdist bundles them."""
    own = next((part.files for part in parts if part.kind == "sdist" and not part.path), {})
    return {path for path in nested if any(file.startswith(f"{path}/") for file in own)}


def _proved(part: Part, pin: ProjectPin, nested: NestedPin | None) -> Rows:
    """Return the selected files of a part whose tree id is the pinned one."""
    what = part.path or "the project's own files"
    if part.kind == "git":
        source = nested or pin.source
        commit = part.commit.encode("latin-1", "replace")
        trees = {part.tree, commit_tree(commit), source.tree or part.tree}
        if object_id("commit", commit).hex() != source.commit or len(trees) != 1:
            raise UnprovedError(f"{what}: not those of commit {source.commit}")
        chosen = {p: o for p, o in part.files.items() if is_selected(p, source.sparse)}
        return {path: one for path, one in chosen.items() if one[0] != GITLINK}
    if part.kind == "sdist" and not nested:
        if not pin.sdist or part.tree != pin.sdist.tree:
            raise UnprovedError(f"{what}: not those of the pinned sdist")
        return part.files
    archive = nested.archive if nested else None
    into = f"{archive.into}/" if archive else ""
    inside = {path.removeprefix(into): o for path, o in part.files.items() if path.startswith(into)}
    whole = len(inside) == len(part.files)
    if part.kind != "wheel" or not archive or not whole or listed_tree_id(inside) != archive.tree:
        raise UnprovedError(f"{what}: not those of the pinned wheel")
    return part.files
