"""Reads from an upstream source its tree id, its submodules and its CMake files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blackwheel.core.site import Site
from blackwheel.pins.cmake import is_cmake
from blackwheel.sources import sdist
from blackwheel.sources.git_store import GitStore
from blackwheel.sources.tree import Entry, is_selected
from blackwheel.stacks.records import GitPin

MODULES: Final = ".gitmodules"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Facts of one source, without the sources nested in it."""

    tree: str | None
    """Git tree id of the commit; None where only an sdist could be had."""
    links: Mapping[str, str]
    """The commit of each submodule, by its path; an sdist does not tell."""
    texts: Mapping[str, str]
    """CMake files and .gitmodules, by path."""
    blobs: Mapping[str, str]
    """Git object ids of the selected files, by path; empty for an sdist."""

    @property
    def addresses(self) -> dict[str, str]:
        """Address of each submodule by its path, without relative ones."""
        found = {}
        for section in re.split(r"(?m)^\[submodule ", self.texts.get(MODULES, "")):
            keys = dict(re.findall(r"(?m)^\s*(path|url)\s*=\s*(\S+)\s*$", section))
            if "path" in keys and "://" in keys.get("url", ""):
                found[keys["path"]] = keys["url"]
        return found


def read_git(site: Site, pin: GitPin, *, project: str, where: str) -> Reading:
    """Fetch a commit into the store and read it; raise `UnreachableError` and git's errors."""
    store = GitStore(site, pin, project=project, where=where)
    store.fetch()
    return Reading(
        tree=store.tree,
        links=store.links,
        texts=_texts(store.entries(_tells)),
        blobs=store.blobs,
    )


def read_sdist(archive: Path, sparse: Sequence[str], nested: Sequence[str]) -> Reading:
    """Read an sdist; files of nested sources in it are left out."""
    wanted = _outside(nested)
    return Reading(
        tree=None,
        links={},
        texts=_texts(
            sdist.entries(archive, lambda p: _tells(p) and wanted(p) and is_selected(p, sparse))
        ),
        blobs={},
    )


def read_folder(root: Path, nested: Sequence[str]) -> Reading:
    """Read the CMake files of an exported tree."""
    wanted = _outside(nested)
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    named = ((path.relative_to(root).as_posix(), path) for path in files)
    texts = {
        name: path.read_text(encoding="utf-8", errors="replace")
        for name, path in named
        if _tells(name) and wanted(name)
    }
    return Reading(tree=None, links={}, texts=texts, blobs={})


def _tells(path: str) -> bool:
    return is_cmake(path) or path == MODULES


def _outside(nested: Sequence[str]) -> Callable[[str], bool]:
    return lambda path: not any(path.startswith(f"{folder}/") for folder in nested)


def _texts(entries: Iterable[Entry]) -> dict[str, str]:
    return {entry.path: entry.data.decode("utf-8", "replace") for entry in entries}
