"""Checks the ABI closure: the environment exports every symbol that a wheel's libraries need."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from packaging.tags import Tag
from packaging.version import Version

from blackwheel.audit.elf import Elf, Wanted
from blackwheel.audit.exports import Exports, Shelf, system_exports
from blackwheel.audit.findings import Finding
from blackwheel.audit.glibc import glibc_need, of_system, system_libraries
from blackwheel.audit.torch_abi import OF_TORCH, RUNTIME, SHIM, of_torch

SHOWN: Final = 5
DRIVER: Final = {
    "libcuda.so.1": re.compile(r"cu[A-Z]"),
    "libnvidia-ml.so.1": re.compile(r"nvml[A-Z]"),
}
"""The driver's libraries: on the machine that runs, in no package; their symbols by prefix."""

_TORCH_SYMBOL: Final = re.compile(r"_Z(T[TVIS])?N?[VK]*[RO]?(3c10|2at|5torch|6caffe2)")
"""C++ names that begin with one of torch's namespaces."""
_OF_CUDA: Final = re.compile(r"lib(cu|nv|nccl|accinj|OpenCL)\w*\.so|libnvidia-")
"""Libraries by how CUDA's packages and the driver name theirs."""
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
    """The symbol, or the version without one, that asks for so new a one."""
    missing: tuple[Missing, ...] = ()
    elsewhere: tuple[str, ...] = ()
    """Libraries that it needs and that are not here: what they export cannot be told."""


def links(
    elves: Mapping[str, Elf], exports: Exports, *, before: Exports | None = None
) -> tuple[tuple[Links, ...], tuple[Finding, ...]]:
    """Resolve every library of a wheel against an environment, as the loader would.

    `elves` are its libraries by their path in it; `before` is the environment that the wheel was
    built for, to tell where a symbol used to be.
    """
    found: list[Links] = []
    findings: list[Finding] = []
    own = _own(elves)
    for path, elf in elves.items():
        absent = _absent(elf, exports, own)
        for name in absent:
            fact = f"needs {name}, which neither torch {exports.torch} nor the system brings"
            findings.append(Finding(name="unknown-library", fact=fact, library=path))
        lost = tuple(
            Missing(
                symbol=symbol,
                demangled=demangled(symbol),
                was_in=before.owner(symbol) if before else "",
            )
            for symbol in _missing(path, elf, exports, own, elsewhere=_elsewhere(elf, exports, own))
        )
        if lost:
            findings.append(_undefined(path, lost, exports))
        glibc, culprit = glibc_need(elf)
        found.append(
            Links(
                library=path,
                torch=_bond(elf, exports),
                glibc=str(glibc or ""),
                glibc_for=culprit,
                missing=lost,
                elsewhere=absent,
            )
        )
    return tuple(found), tuple(findings)


def unlinked(
    elves: Mapping[str, Elf], *, requires: Container[str], provider: bool
) -> Iterator[Finding]:
    """Judge symbols and libraries without looking at an environment.

    `requires` are the distributions that the wheel wants; `provider` is one of them itself.
    """
    system = Exports(torch="", python="", libraries=system_exports())
    own = _own(elves)
    for path, elf in elves.items():
        absent = _absent(elf, system, own)
        for name in absent:
            brought = (
                provider or ("torch" in requires and OF_TORCH.match(name)) or _OF_CUDA.match(name)
            )
            if not brought:
                fact = f"needs {name}, which neither the wheel nor the system brings"
                yield Finding(name="unknown-library", fact=fact, library=path)
        if elf.kind == "library" and not _elsewhere(elf, system, own):
            lost = _missing(path, elf, system, own, elsewhere=False)
            lost = [name for name in lost if not _PYTHON_SYMBOL.match(name)]
            if lost:
                shown = ", ".join(map(demangled, lost[:SHOWN]))
                more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
                fact = f"nothing that it needs brings {shown}{more}"
                yield Finding(name="unresolved-symbol", fact=fact, library=path, fatal=False)


def torch_findings(elves: Mapping[str, Elf], exports: Exports | None) -> Iterator[Finding]:
    """Find libraries that are bound to torch, of a wheel that is said to link none."""
    taken = of_torch(elves, exports)
    for path, elf in elves.items():
        needed = [name for name in elf.needed if OF_TORCH.match(name)]
        if needed or taken[path]:
            shown = ", ".join([*needed, *map(demangled, taken[path][:SHOWN])])
            fact = f"takes {shown} from torch, and its stack says that it links no torch"
            yield Finding(name="links-torch", fact=fact, library=path)


def _own(elves: Mapping[str, Elf]) -> dict[str, Shelf]:
    """The wheel's own libraries by every name that another one may need them by."""
    return {
        name: Shelf(needed=elf.needed, exports=elf.exports)
        for path, elf in elves.items()
        for name in {elf.soname, path.rsplit("/", 1)[-1]}
    }


def is_known(name: str, libraries: Container[str]) -> bool:
    """Tell whether a needed library is among these, or comes with the system or the driver."""
    known = name in libraries or name in DRIVER or name in system_libraries()
    return known or name.startswith(("ld-linux", "libpython3"))


def _absent(elf: Elf, exports: Exports, own: Mapping[str, Shelf]) -> tuple[str, ...]:
    """The libraries that it needs and that are neither in the wheel nor in the environment."""
    both = {*own, *exports.libraries}
    return tuple(name for name in elf.needed if not is_known(name, both))


def _elsewhere(elf: Elf, exports: Exports, own: Mapping[str, Shelf]) -> bool:
    """Tell whether a library that is not here may bring its symbols, or one of the wheel's own."""
    seen: set[str] = set()
    waiting = list(elf.needed)
    while waiting:
        name = waiting.pop()
        if not is_known(name, {*own, *exports.libraries}):
            return True
        if name in own and name not in seen:
            seen.add(name)
            waiting += own[name].needed
    return False


def _missing(
    path: str, elf: Elf, exports: Exports, own: Mapping[str, Shelf], *, elsewhere: bool
) -> list[str]:
    """The symbols that the loader would not find.

    Where a library is `elsewhere`, only those are missing that no other than torch can bring.
    """
    both = replace(exports, libraries={**own, **exports.libraries})
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
        and not (elsewhere and not _of_torch(wanted, exports))
    ]


def _of_torch(wanted: Wanted, exports: Exports) -> bool:
    """Tell whether a symbol can be torch's alone, by the library it was linked with or its name."""
    if wanted.file:
        return wanted.file in exports.libraries
    return bool(_TORCH_SYMBOL.match(wanted.name) or SHIM.fullmatch(wanted.name))


def _undefined(path: str, lost: Sequence[Missing], exports: Exports) -> Finding:
    shown = "; ".join(str(one) for one in lost[:SHOWN])
    rest = f"; and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
    count = f"{len(lost)} symbol{'s' if len(lost) > 1 else ''}"
    where = f"with torch {exports.torch}" if exports.torch else "without torch"
    fact = f"{count} cannot be found {where}: {shown}{rest}"
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
        if not RUNTIME.match(wanted.name) and any(wanted.name in names for names in own)
    }
    if not used:
        return "none"
    return "stable" if all(SHIM.fullmatch(name) for name in used) else "full"


def system_findings(
    elves: Mapping[str, Elf], tags: Iterable[Tag], *, floor: str
) -> Iterator[Finding]:
    """Hold the libraries' glibc to the stack's floor and to the promise of the platform tag."""
    lowest = min((promise for tag in tags if (promise := _promise(tag))), default=None)
    for path, elf in elves.items():
        glibc, culprit = glibc_need(elf)
        if glibc is None:
            fact = f"needs {culprit}, a version which no manylinux level knows"
            yield Finding(name="unknown-version", fact=fact, library=path)
            continue
        if floor and glibc > Version(floor):
            fact = f"needs glibc {glibc} for {culprit}, the stack allows {floor}"
            yield Finding(name="glibc-too-new", fact=fact, library=path)
        if lowest is not None and glibc > lowest:
            fact = f"needs glibc {glibc} for {culprit}, the file name promises {lowest}"
            yield Finding(name="false-platform-tag", fact=fact, library=path)


def _promise(tag: Tag) -> Version | None:
    """The glibc that a platform tag promises to serve; `linux_x86_64` promises none."""
    found = _MANYLINUX.match(tag.platform)
    if found:
        return Version(f"{found[1]}.{found[2]}")
    old = _OLD_NAMES.get(tag.platform.partition("_")[0])
    return Version(old) if old else None


def demangled(symbol: str) -> str:
    """Return a C++ name in readable form; the symbol itself where it is none."""
    import pycxxfilt  # noqa: PLC0415  seldom is anything lost

    try:
        return str(pycxxfilt.demangle(symbol) or symbol)
    except (ValueError, RuntimeError):
        return symbol
