"""Finds the oldest glibc that a library runs on, by manylinux policies (PEP 600).

The table of policies is auditwheel's, which the packaging authority keeps up to date. Its checks of
whole wheels do not serve here: a torch extension links libtorch, which no policy allows.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.version import Version

from blackwheel.audit.elf import Wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """One manylinux level."""

    glibc: str
    """`2.28`."""
    libraries: frozenset[str]
    """The system libraries that every such system has."""
    versions: Mapping[str, frozenset[str]]
    """By prefix: GLIBCXX → 3.4, 3.4.1, …"""


@functools.cache
def policies(machine: str = "x86_64") -> tuple[Policy, ...]:
    """Return every manylinux level, oldest first."""
    folder = importlib.resources.files("auditwheel.policy")
    document = json.loads((folder / "manylinux-policy.json").read_text(encoding="utf-8"))
    found = [
        Policy(
            glibc=".".join(name[1].split("_")),
            libraries=frozenset(one["lib_whitelist"]),
            versions={
                key: frozenset(some) for key, some in one["symbol_versions"][machine].items()
            },
        )
        for one in document
        if (name := re.fullmatch(r"manylinux_(\d+_\d+)", one["name"]))
        and machine in one["symbol_versions"]
    ]
    return tuple(sorted(found, key=lambda policy: Version(policy.glibc)))


@functools.cache
def system_libraries() -> frozenset[str]:
    """Return the libraries that every system of the newest level has, and the loader."""
    return policies()[-1].libraries | {"ld-linux-x86-64.so.2"}


def of_system(symbol: Wanted) -> bool:
    """Tell whether a symbol is the system's by policy, so that its version counts for the floor."""
    return bool(symbol.version) and symbol.file in system_libraries()


@functools.cache
def level(version: str) -> Version | None:
    """Return the oldest glibc whose systems have a symbol version; None where no level has it.

    GLIBC_2.32 is 2.32 itself; for GLIBCXX, CXXABI and GCC the policies tell which compiler's
    libraries came with which glibc.
    """
    prefix, _, number = version.partition("_")
    if prefix == "GLIBC" and re.fullmatch(r"2\.\d+(\.\d+)?", number):
        return max(Version(number), Version(policies()[0].glibc))
    known = (Version(one.glibc) for one in policies() if number in one.versions.get(prefix, ()))
    return next(known, None)


def glibc_need(wanted: Iterable[Wanted]) -> tuple[Version | None, Wanted | None]:
    """Return the oldest glibc that has every symbol, and the symbol that needs the newest one.

    The first is None where no manylinux level knows the second's version; the second is None where
    nothing is taken from the system.
    """
    highest, culprit = Version(policies()[0].glibc), None
    for symbol in wanted:
        if not of_system(symbol):
            continue
        needs = level(symbol.version)
        if needs is None:
            return None, symbol
        if culprit is None or needs > highest:
            highest, culprit = needs, symbol
    return highest, culprit
