"""Finds the sources that a CMake build fetches: name, repository and tag of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Final

_COMMENT: Final = re.compile(r'("(?:[^"\\]|\\.)*")|#[^\n]*')
_COMMAND: Final = re.compile(
    r"\b(set|FetchContent_Declare|FetchContent_Populate|ExternalProject_Add)\s*\(([^()]*)\)",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
_DEPTH: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """One source that CMake fetches."""

    name: str
    url: str
    ref: str
    """A commit or a tag."""
    file: str
    """Which file says so."""

    @property
    def is_commit(self) -> bool:
        """True if the ref can only mean one source."""
        return bool(re.fullmatch(r"[0-9a-f]{40}", self.ref))


def is_cmake(path: str) -> bool:
    """Tell whether a file of a source may contain fetch commands of CMake."""
    return path.endswith(".cmake") or path.rpartition("/")[2] == "CMakeLists.txt"


def fetched(texts: Mapping[str, str]) -> tuple[Fetched, ...]:
    """Return the git sources that CMake files fetch, with variables of the same file filled in.

    Conditions are not evaluated: a source that is named twice, by platform, is returned twice.
    """
    found: dict[Fetched, None] = {}
    for file, text in sorted(texts.items()):
        known: dict[str, list[str]] = {}
        for command, words in _commands(text):
            if command == "set" and len(words) > 1:
                known.setdefault(words[0], []).append(words[1])
            elif command != "set":
                for one in _declared(words, known, file):
                    found[one] = None
    return tuple(found)


def named(known: tuple[Fetched, ...], name: str, url: str) -> tuple[Fetched, ...]:
    """Return the fetched sources with the name of a nested source, or with its address.

    Upstream moves a source to a fork and keeps its name; a name that stands twice is decided by the
    address.
    """
    same = tuple(one for one in known if _plain(one.name) == _plain(name))
    there = tuple(one for one in same or known if repository(one.url) == repository(url))
    return there or same


def repository(url: str) -> str:
    """Return an address in a form for comparison: `host/owner/name`."""
    return re.sub(r"^\w+://([^/@]*@)?", "", url.lower()).rstrip("/").removesuffix(".git")


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    bare = _COMMENT.sub(lambda match: match[1] or "", text)
    for command, body in _COMMAND.findall(bare):
        yield command.lower(), [quoted or plain for quoted, plain in _WORD.findall(body)]


def _declared(words: list[str], known: Mapping[str, list[str]], file: str) -> Iterator[Fetched]:
    after = dict(pairwise(words))
    if not {"GIT_REPOSITORY", "GIT_TAG"} <= set(after):
        return  # a folder, or an archive
    urls = _values(after["GIT_REPOSITORY"], known)
    refs = _values(after["GIT_TAG"], known)
    # One branch of a condition sets both.
    pairs = zip(urls, refs, strict=True) if len(urls) == len(refs) else product(urls, refs)
    for url, ref in pairs:
        yield Fetched(name=words[0], url=url, ref=ref, file=file)


def _values(text: str, known: Mapping[str, list[str]], depth: int = _DEPTH) -> list[str]:
    """Return what a word may stand for; itself where nobody set its variable."""
    found = _VARIABLE.search(text)
    if not found or not depth or found[1] not in known:
        return [text]
    return [
        value
        for each in known[found[1]]
        for value in _values(text.replace(found[0], each), known, depth - 1)
    ]
