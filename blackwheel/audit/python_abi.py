"""Checks the Pythons that a module serves: its file's tag, its libpython, its limited API."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import abi3info  # type: ignore[import-untyped]
from abi3info.models import Symbol  # type: ignore[import-untyped]
from packaging.tags import Tag

from blackwheel.audit.contents import Native
from blackwheel.audit.findings import Finding
from blackwheel.audit.loading import needs_libpython

_TAGGED: Final = re.compile(r"\.cpython-(3\d+)(\w*)-[\w-]+\.so$")
_STABLE: Final = re.compile(r"\.abi3\.so$")
_API: Final = re.compile(r"_?Py[A-Z_]")
_LIBPYTHON: Final = re.compile(r"libpython3\.(\d+)(\w*)\.so")
_DIGITS: Final = 9
"""Read of a minor version: who writes a longer one wants int() to fail."""
SHOWN: Final = 5


def python_findings(
    natives: Sequence[Native], tags: frozenset[Tag], *, python: str = ""
) -> Iterator[Finding]:
    """Hold modules to the wheel's tags; `python` (`cp311`) is the stack's."""
    minors = _minors(tags, python)
    stable = any(tag.abi == "abi3" for tag in tags)
    for native in natives:
        yield from _tag_findings(native, minors, stable, python)
        yield from _libpython_findings(native, minors)
        if _STABLE.search(native.path):
            own = int(python[3:]) if python.startswith("cp3") else None
            yield from _limited_findings(native, min(minors, default=None), own)


def _minors(tags: frozenset[Tag], python: str) -> set[int]:
    """Return the minor versions that the interpreter tags name: 11 of cp311."""
    found = {re.fullmatch(r"cp3(\d+)", tag.interpreter) for tag in tags}
    minors = {_number(one[1]) for one in found if one}
    return minors or ({int(python[3:])} if python.startswith("cp3") else set())


def _number(digits: str) -> int:
    """Return a minor version; one with more digits than any Python has is cut, and fits none."""
    return int(digits[:_DIGITS])


def _tag_findings(native: Native, minors: set[int], stable: bool, python: str) -> Iterator[Finding]:
    found = _TAGGED.search(native.path)
    if not found or not minors:
        return
    minor = _number(found[1][1:])
    own = int(python[3:]) if python.startswith("cp3") else None
    fits = minor == own if own is not None else minor in minors or (stable and minor >= min(minors))
    if not fits or found[2]:
        wheel = f"cp3{own if own is not None else min(minors)}"
        fact = f"is a module of Python 3.{minor}{found[2]} in a wheel for {wheel}"
        yield Finding(name="other-python-extension", fact=fact, library=native.path)


def _libpython_findings(native: Native, minors: set[int]) -> Iterator[Finding]:
    found = _TAGGED.search(native.path)
    served = {_number(found[1][1:])} if found else minors
    for name in needs_libpython(native.elf):
        told = _LIBPYTHON.match(name)
        other = told is not None and bool(served) and _number(told[1]) not in served
        if other and native.elf.kind == "library":
            fact = f"needs {name}: it brings another Python into the process"
            yield Finding(name="other-libpython", fact=fact, library=native.path)
        else:
            fact = f"needs {name}, which a Python that holds its own library does not have"
            yield Finding(name="libpython", fact=fact, library=native.path, fatal=False)


def _limited_findings(native: Native, baseline: int | None, own: int | None) -> Iterator[Finding]:
    """A module named abi3 may call the limited API alone, and none that is newer than its tag.

    A wheel that a stack builds for one Python is refused only for what `own` lacks.
    """
    outside: list[str] = []
    newer: dict[str, int] = {}
    for wanted in native.elf.wanted:
        if not _API.match(wanted.name) or wanted.weak:
            continue
        symbol = Symbol(wanted.name)
        known = abi3info.FUNCTIONS.get(symbol) or abi3info.DATAS.get(symbol)
        if known is None:
            outside.append(wanted.name)
        elif baseline is not None and known.added.minor > baseline:
            newer[f"{wanted.name} (3.{known.added.minor})"] = known.added.minor
    if outside:
        fact = f"is named abi3 and calls what the limited API does not have: {_shown(outside)}"
        yield Finding(name="not-limited-api", fact=fact, library=native.path)
    if newer:
        fact = f"is for Python 3.{baseline} on, and calls what came later: {_shown(list(newer))}"
        fatal = own is None or max(newer.values()) > own
        yield Finding(name="new-limited-api", fact=fact, library=native.path, fatal=fatal)


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(sorted(names)[:SHOWN]) + more
