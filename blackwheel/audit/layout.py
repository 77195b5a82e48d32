"""Checks where the files of a wheel land, and Python's treatment of them there."""

from __future__ import annotations

import re
import stat
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from blackwheel.audit.findings import Finding
from blackwheel.core.plain_text import one_line

SCHEMES: Final = ("purelib", "platlib", "headers", "scripts", "data")
INSTALLED: Final = ("purelib", "platlib")
INSTALLERS: Final = ("INSTALLER", "REQUESTED", "direct_url.json", "installed-files.txt")
"""An installer writes them itself: in a wheel they say what never happened."""
TOOLS: Final = re.compile(
    r"(python|pip|uv|sh|bash|zsh|env|sudo|su|git|gcc|g\+\+|cc|c\+\+|clang|make|cmake|ninja|ld|nvcc|"
    r"ls|cat|cp|mv|rm|ssh|scp|curl|wget|tar|activate|deactivate|nvidia-smi|torchrun|ptxas)"
    r"[\d.]*(\.exe)?"
)
"""Commands that a wheel's script of that name would stand before."""
_MODULE: Final = re.compile(r"(\.cpython-\d+\w*-[\w-]+|\.abi3t?)?\.(so|pyd|pyc?|pyi)$")
_STARTERS: Final = {".pth": "pth-file", ".start": "start-file"}
_DRIVE: Final = re.compile(r"^[A-Za-z]:")
_LONGEST: Final = 1000
_DATA: Final = re.compile(r"^[^/]+\.data/(purelib|platlib)/")
"""Files below are put where those are that lie at the top."""


def path_findings(infos: Sequence[zipfile.ZipInfo]) -> Iterator[Finding]:
    """Find names that leave their folder, have two spellings, or mislead a reader."""
    seen = Counter(info.filename for info in infos)
    folders: set[str] = set()
    for info in infos:
        path = info.orig_filename
        fact = _unsafe(path)
        if fact:
            yield Finding(name="unsafe-path", fact=fact, library=path)
        elif not path.isascii() and not info.flag_bits & 0x800:
            yield Finding(name="odd-file-name", fact="its letters are not UTF-8", library=path)
        yield from _mode_findings(info)
        parts = path.removesuffix("/").split("/")
        folders.update("/".join(parts[:n]) for n in range(1, min(len(parts), 64)))
    for path, count in seen.items():
        if count > 1:
            yield Finding(name="duplicate-entry", fact=f"occurs {count} times", library=path)
        if path in folders:
            yield Finding(name="unsafe-path", fact="is a file and a folder", library=path)
    yield from _same_names(seen)


def _unsafe(path: str) -> str:
    parts = path.removesuffix("/").split("/")
    if path.startswith("/") or _DRIVE.match(path):
        return "is an absolute path"
    if "\\" in path or any(part in ("", ".", "..") for part in parts):
        return "leaves its folder"
    if one_line(path) != path:
        return "holds characters that no name should"
    if len(path) > _LONGEST or any(len(part.encode("utf-8", "replace")) > 255 for part in parts):
        return "is longer than a file system takes"
    return ""


def _mode_findings(info: zipfile.ZipInfo) -> Iterator[Finding]:
    mode, path = info.external_attr >> 16, info.orig_filename
    if stat.S_ISLNK(mode):
        yield Finding(name="symlink", fact="is a symbolic link", library=path)
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        yield Finding(name="special-file", fact="is a device, pipe or socket", library=path)
    if mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX):
        fact = f"asks for the mode {mode & 0o7777:o}: installers leave that out"
        yield Finding(name="file-mode", fact=fact, library=path)


def _same_names(paths: Iterable[str]) -> Iterator[Finding]:
    """Names that are one where they land: by the place, without case, or by another accent."""
    by_key = defaultdict(list)
    for path in paths:
        by_key[unicodedata.normalize("NFKC", _DATA.sub("", path)).casefold()].append(path)
    for same in by_key.values():
        one_place = len({_DATA.sub("", one) for one in same}) == 1
        if len(same) > 1 and not (one_place and same[-1].endswith("/")):
            where = "where it is installed" if one_place else "where letters have no case"
            fact = f"is one with {', '.join(same[:-1])} {where}"
            yield Finding(name="same-name", fact=fact, library=same[-1])


def place_findings(
    paths: Sequence[str], info_name: str, modules: Sequence[str] | None
) -> Iterator[Finding]:
    """Find files that land beside the package: other packages' files, starters, scripts.

    `modules` are the top-level names that a stack allows; None for a wheel of nobody's stack.
    """
    stem = info_name.removesuffix(".dist-info")
    foreign: Counter[str] = Counter()
    tops: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        top, _, rest = path.partition("/")
        if top.endswith(".data") and rest:
            yield from _data_findings(path, top, rest, stem)
            scheme, _, rest = rest.partition("/")
            if scheme not in INSTALLED:
                if modules is not None:
                    foreign[f"{top}/{scheme}"] += 1
                continue
            top, _, rest = rest.partition("/")
        elif top == info_name:
            continue
        starters = list(_starter_findings(path, top, rest))
        yield from starters
        tops[_import_name(top, rest)].add(f"{top}/" if rest else top)
        if modules is not None and not starters and not _allowed(top, rest, modules):
            foreign[top] += 1
        elif modules is None:
            yield from _odd_top(path, top, rest, stem)
    yield from _foreign(foreign, modules)
    yield from _clashes(tops)
    yield from _compiled(paths)


def _odd_top(path: str, top: str, rest: str, stem: str) -> Iterator[Finding]:
    """What is odd about the place of a file in a wheel of nobody's stack."""
    if not _plausible(top, rest):
        fact = "is no name of a module or package"
        yield Finding(name="foreign-top-level", fact=fact, library=path)
    elif top == "torch" and rest and not stem.startswith("torch-"):
        fact = "lands among torch's own files"
        yield Finding(name="foreign-top-level", fact=fact, library=path)


def _foreign(foreign: Counter[str], modules: Sequence[str] | None) -> Iterator[Finding]:
    for top, count in foreign.items():
        files = f"{count} file{'s' if count > 1 else ''}"
        fact = f"{files} there, the stack allows {', '.join(modules or ()) or 'nothing'}"
        yield Finding(name="foreign-top-level", fact=fact, library=top)


def _data_findings(path: str, top: str, rest: str, stem: str) -> Iterator[Finding]:
    scheme, _, inner = rest.partition("/")
    if top != f"{stem}.data":
        fact = f"belongs to no {stem}: installers take it for a package"
        yield Finding(name="foreign-data-folder", fact=fact, library=path)
    elif scheme not in SCHEMES or not inner:
        fact = f"installers know no place '{scheme}' to put it"
        yield Finding(name="unknown-scheme", fact=fact, library=path)
    elif scheme == "scripts" and TOOLS.fullmatch(inner):
        fact = "is a script that stands before the program of that name"
        yield Finding(name="extra-entry-point", fact=fact, library=path)
    elif scheme == "purelib" and re.search(r"\.so(\.\d+)*$", inner):
        fact = "is a library among files that are for every machine"
        yield Finding(name="other-purelib", fact=fact, library=path)


def _starter_findings(path: str, top: str, rest: str) -> Iterator[Finding]:
    for ending, name in _STARTERS.items():
        if not rest and top.endswith(ending):
            fact = "runs code whenever Python starts"
            yield Finding(name=name, fact=fact, library=path)
    if _import_name(top, rest) in ("sitecustomize", "usercustomize"):
        fact = "runs whenever Python starts"
        yield Finding(name="start-file", fact=fact, library=path)
    if top.endswith((".egg-info", ".egg-link")) or (top.endswith(".dist-info") and rest):
        fact = "says that another distribution is installed"
        yield Finding(name="installer-file", fact=fact, library=path)


def _import_name(top: str, rest: str) -> str:
    return top if rest else _MODULE.sub("", top)


def _allowed(top: str, rest: str, modules: Sequence[str]) -> bool:
    """Tell whether a top-level entry is one of the modules: its folder, or its one file."""
    return (
        top in modules if rest else bool(_MODULE.search(top)) and _import_name(top, "") in modules
    )


def _plausible(top: str, rest: str) -> bool:
    name = _import_name(top, rest)
    libraries = rest and re.fullmatch(r"[\w.-]+\.libs", top)
    stubs = rest and top.endswith("-stubs") and top[:-6].isidentifier()
    starter = not rest and top.endswith(tuple(_STARTERS))
    info = top.endswith((".dist-info", ".egg-info"))
    return name.isidentifier() or bool(libraries or stubs or starter or info)


def _clashes(tops: dict[str, set[str]]) -> Iterator[Finding]:
    """Two things that answer to one import."""
    for name, places in tops.items():
        real = {one for one in places if not one.endswith(".pyi")}
        if len(real) > 1 and name.isidentifier():
            fact = f"import {name} finds one of {', '.join(sorted(real))}"
            yield Finding(name="name-clash", fact=fact, library=sorted(real)[-1])


def _compiled(paths: Sequence[str]) -> Iterator[Finding]:
    """Compiled Python that runs in the place of its source, or without one."""
    known = set(paths)
    for path in paths:
        if path.endswith((".pyc", ".pyo")):
            folder, _, name = path.rpartition("/")
            source = f"{folder.removesuffix('/__pycache__')}/{name.split('.')[0]}.py"
            told = "in place of its source" if source in known else "without a source to read"
            fact = f"is compiled Python that runs {told}"
            yield Finding(name="pyc-without-source", fact=fact, library=path)
