"""Finds the oldest glibc that a library runs on, by manylinux policies (PEP 600).

The table of policies is auditwheel's, which the packaging authority keeps up to date. Its checks of
whole wheels do not serve here: a torch extension links libtorch, which no policy allows.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from packaging.version import Version

from blackwheel.audit.elf import Elf, Wanted

RELR: Final = "GLIBC_ABI_DT_RELR"
"""No symbol: what a library with packed relocations needs, whether it says so or not."""
_MARKS: Final = {RELR: "2.36", "GLIBC_ABI_GNU_TLS": "2.42", "GLIBC_ABI_GNU2_TLS": "2.42"}
"""Needs of a feature of the loader, each with the first glibc that has it."""


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
    if version in _MARKS:
        return Version(_MARKS[version])
    prefix, _, number = version.partition("_")
    if prefix == "GLIBC" and re.fullmatch(r"2\.\d+(\.\d+)?", number):
        return max(Version(number), Version(policies()[0].glibc))
    known = (Version(one.glibc) for one in policies() if number in one.versions.get(prefix, ()))
    return next(known, None)


def glibc_need(elf: Elf) -> tuple[Version | None, str]:
    """Return the oldest glibc that serves a library, and the symbols that ask for the most.

    All versions that it needs count, also those that no symbol is taken from. The first is None
    where no manylinux level knows the version that the second names; the second is empty where
    nothing is taken from the system.
    """
    highest, culprit = Version(policies()[0].glibc), ""
    users = {wanted.version: wanted.name for wanted in elf.wanted if wanted.version}
    needs = [version for file, version in elf.dynamic.versions if file in system_libraries()]
    if elf.dynamic.packed_relocations:
        needs.append(RELR)
    for version in needs:
        known, user = level(version), users.get(version, version)
        if known is None:
            return None, user if user == version else f"{user} ({version})"
        if not culprit or known > highest:
            highest, culprit = known, user
    return highest, culprit
