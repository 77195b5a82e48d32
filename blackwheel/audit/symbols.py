"""Checks the ABI closure: the environment exports every symbol that a wheel's libraries need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.tags import Tag
from packaging.version import Version

from blackwheel.audit.elf import Elf, UnreadableLibraryError, read_elf
from blackwheel.audit.exports import Exports, Shelf
from blackwheel.audit.findings import Finding
from blackwheel.audit.glibc import glibc_need, of_system, system_libraries

SHOWN: Final = 5
DRIVER: Final = {
    "libcuda.so.1": re.compile(r"cu[A-Z]"),
    "libnvidia-ml.so.1": re.compile(r"nvml[A-Z]"),
}
"""The driver's libraries: on the machine that runs, in no package; their symbols by prefix."""

_STABLE: Final = re.compile(r"(aoti_torch|torch)_[a-z0-9_]+")
"""torch's stable C interface: torch/csrc/stable/c/shim.h and torch/csrc/inductor/aoti_torch/c."""
_RUNTIME: Final = re.compile(r"_Z(T[TVIS])?N?[VK]*[RO]?(St|S[absiod])|_Z(n|d)[wal]|__(cxa|gxx)_")
"""The C++ runtime's own names, of which torch's libraries carry copies."""
THROW: Final = "__cxa_throw"
OWN_RUNTIME: Final = (
    "holds a C++ runtime of its own (libstdc++ was linked statically): an exception that crosses"
    " to torch crashes; link with a compiler that has libstdc++.so"
)
"""Seen: every refused call of such a wheel was a segfault instead of an error."""
_PYTHON_SYMBOL: Final = re.compile(r"_?Py[A-Z_]")
_PYTHON_TAG: Final = re.compile(r"\.(cpython-3\d+)")
_MANYLINUX: Final = re.compile(r"manylinux_(\d+)_(\d+)_")
_OLD_NAMES: Final = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """One symbol that nothing exports."""

    symbol: str
    demangled: str
    was_in: str = ""
    """The library of the other torch that exports it, where one was looked at."""

    def __str__(self) -> str:
        return self.demangled + (f" (was in {self.was_in})" if self.was_in else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Torch and glibc that one library is bound to, and its missing symbols."""

    library: str
    torch: str
    """`none`, `stable` (only torch's stable C interface) or `full` (this very build of torch)."""
    glibc: str
    """The oldest that has its symbol versions; empty where no manylinux level knows them."""
    glibc_for: str
    """The symbol that asks for so new a one."""
    missing: tuple[Missing, ...] = ()


def links(
    files: Sequence[tuple[str, Path]], exports: Exports, *, before: Exports | None = None
) -> tuple[tuple[Links, ...], tuple[Finding, ...]]:
    """Resolve every library of a wheel against an environment, as the loader would.

    `before` is the environment that the wheel was built for, to tell where a symbol used to be.
    """
    found: list[Links] = []
    findings: list[Finding] = []
    elves: dict[str, Elf] = {}
    for path, file in files:
        try:
            elves[path] = read_elf(file)
        except UnreadableLibraryError as error:
            findings.append(Finding(name="unreadable-library", fact=str(error), library=path))
    own = _own(elves)
    for path, elf in elves.items():
        findings += _needed_findings(path, elf, exports, own)
        missing = _missing(path, elf, exports, own)
        glibc, culprit = glibc_need(elf.wanted)
        if glibc is None and culprit:
            fact = f"{culprit.name} has version {culprit.version}, which no manylinux level knows"
            findings.append(Finding(name="unknown-version", fact=fact, library=path))
        lost = tuple(
            Missing(
                symbol=symbol,
                demangled=demangled(symbol),
                was_in=before.owner(symbol) if before else "",
            )
            for symbol in missing
        )
        if lost:
            findings.append(_undefined(path, lost, exports))
        bond = _bond(elf, exports)
        if bond == "full" and THROW in elf.exports:
            findings.append(Finding(name="own-cxx-runtime", fact=OWN_RUNTIME, library=path))
        found.append(
            Links(
                library=path,
                torch=bond,
                glibc=str(glibc or ""),
                glibc_for=culprit.name if culprit else "",
                missing=lost,
            )
        )
    return tuple(found), tuple(findings)


def _own(elves: Mapping[str, Elf]) -> dict[str, Shelf]:
    """The wheel's own libraries by every name that another one may need them by."""
    return {
        name: Shelf(needed=elf.needed, exports=elf.exports)
        for path, elf in elves.items()
        for name in {elf.soname, path.rsplit("/", 1)[-1]}
    }


def _needed_findings(
    path: str, elf: Elf, exports: Exports, own: Mapping[str, Shelf]
) -> Iterable[Finding]:
    for name in elf.needed:
        known = name in exports.libraries or name in own or name in DRIVER
        if known or name in system_libraries() or name.startswith(("ld-linux", "libpython3")):
            continue
        fact = f"needs {name}, which neither torch {exports.torch} nor the system brings"
        yield Finding(name="unknown-library", fact=fact, library=path)


def _missing(path: str, elf: Elf, exports: Exports, own: Mapping[str, Shelf]) -> list[str]:
    """The symbols that the loader would not find."""
    both = Exports(
        torch=exports.torch, python=exports.python, libraries={**own, **exports.libraries}
    )
    reach = both.reach(elf.needed)
    scope = [both.libraries[name].exports for name in reach]
    drivers = [pattern for name, pattern in DRIVER.items() if name in elf.needed]
    tag = _PYTHON_TAG.search(path)
    other_python = tag is not None and tag[1] != exports.python
    return [
        wanted.name
        for wanted in elf.wanted
        if not wanted.weak
        and not of_system(wanted)
        and not any(wanted.name in names for names in scope)
        and not any(pattern.match(wanted.name) for pattern in drivers)
        and not (other_python and _PYTHON_SYMBOL.match(wanted.name))
    ]


def _undefined(path: str, lost: Sequence[Missing], exports: Exports) -> Finding:
    shown = "; ".join(str(one) for one in lost[:SHOWN])
    rest = f"; and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
    count = f"{len(lost)} symbol{'s' if len(lost) > 1 else ''}"
    fact = f"{count} cannot be found with torch {exports.torch}: {shown}{rest}"
    return Finding(name="undefined-symbol", fact=fact, library=path)


def _bond(elf: Elf, exports: Exports) -> str:
    """How closely a library is tied to torch: by the symbols that it takes from torch."""
    own = [
        one.exports
        for name, one in exports.libraries.items()
        if name.startswith(("libtorch", "libc10"))
    ]
    used = {
        wanted.name
        for wanted in elf.wanted
        if not _RUNTIME.match(wanted.name) and any(wanted.name in names for names in own)
    }
    if not used:
        return "none"
    return "stable" if all(_STABLE.fullmatch(name) for name in used) else "full"


def floor_findings(
    found: Sequence[Links], tags: Iterable[Tag], *, floor: str
) -> tuple[Finding, ...]:
    """Compare the libraries' glibc with the stack's floor and with the platform tag."""
    findings = []
    lowest = min((promise for tag in tags if (promise := _promise(tag))), default=None)
    for one in found:
        if not one.glibc:
            continue
        if floor and Version(one.glibc) > Version(floor):
            fact = f"needs glibc {one.glibc} for {one.glibc_for}, the stack allows {floor}"
            findings.append(Finding(name="glibc-too-new", fact=fact, library=one.library))
        if lowest is not None and Version(one.glibc) > lowest:
            fact = f"needs glibc {one.glibc} for {one.glibc_for}, the file name promises {lowest}"
            findings.append(Finding(name="false-platform-tag", fact=fact, library=one.library))
    return tuple(findings)


def _promise(tag: Tag) -> Version | None:
    """The glibc that a platform tag promises to serve; `linux_x86_64` promises none."""
    found = _MANYLINUX.match(tag.platform)
    if found:
        return Version(f"{found[1]}.{found[2]}")
    old = _OLD_NAMES.get(tag.platform.partition("_")[0])
    return Version(old) if old else None


def demangled(symbol: str) -> str:
    """Return a C++ name in readable form; the symbol itself where libstdc++ cannot demangle it."""
    # Imported here: it then starts programs to find libstdc++, and seldom is anything lost.
    import cxxfilt  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        return str(cxxfilt.demangle(symbol))
    except cxxfilt.Error:
        return symbol
