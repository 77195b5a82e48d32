"""Checks the contract of a stack's wheel: files that must be in it, archs of its kernels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from blackwheel.audit import on_card
from blackwheel.audit.contents import Native
from blackwheel.audit.findings import Finding
from blackwheel.audit.kernels import Library
from blackwheel.core.archs import Arch
from blackwheel.stacks.records import Contract

if TYPE_CHECKING:
    from blackwheel.builder.build import BuiltWheel

MANY: Final = 20
"""From so many files on, those of one verdict are told in one line."""
ALLOWED: Final = "; allowed: "
"""Stands before the reason that a contract gives."""


def contract_of(path: str, contracts: Sequence[Contract]) -> Contract:
    """Return the first contract line that names this library; without one all must be native."""
    for contract in contracts:
        if fnmatchcase(path, contract.library):
            return contract
    return Contract(library=path)


def arch_findings(
    libraries: Sequence[Library], contracts: Sequence[Contract], wanted: Sequence[Arch]
) -> tuple[Finding, ...]:
    """Find libraries that break the arch contract; not fatal where the contract says why."""
    found = []
    for library in libraries:
        contract = contract_of(library.path, contracts)
        if library.unreadable:
            fact = library.unreadable
            if library.unread_archs:
                shown = ", ".join(f"{count} x {arch}" for arch, count in library.unread_archs)
                fact += f"; the headers of what could not be read say {shown}"
            found.append(Finding(name="unreadable-kernels", fact=fact, library=library.path))
        if library.kernels.total != library.kernels.native:
            fact = _lack(library, wanted)
            allowed = not contract.native or _only_older(library, contract, wanted)
            fact += f"{ALLOWED}{contract.why}" if allowed else ""
            found.append(
                Finding(name="not-native", fact=fact, library=library.path, fatal=not allowed)
            )
    return tuple(found) if len(libraries) < MANY else tuple(_grouped(found))


def _grouped(found: Iterable[Finding]) -> Iterator[Finding]:
    """Tell those of equal words in one line: a wheel of cubins has 16,000 files."""
    groups: dict[tuple[str, str, bool], list[Finding]] = {}
    for one in found:
        groups.setdefault((one.name, one.fact, one.fatal), []).append(one)
    for (name, fact, fatal), same in groups.items():
        more = f" (and {len(same) - 1:,} more files)" if len(same) > 1 else ""
        yield Finding(name=name, fact=fact + more, library=same[0].library, fatal=fatal)


def _only_older(library: Library, contract: Contract, wanted: Sequence[Arch]) -> bool:
    """Tell whether no more cubins of another arch are in it than sources that may be older.

    Which source a cubin comes from it does not say; the launcher refuses every other source.
    """
    names = {arch.sm for arch in wanted}
    strays = [count for arch, count in library.elf_archs if arch not in names]
    return 0 < sum(strays) <= len(contract.older)


def _lack(library: Library, wanted: Sequence[Arch]) -> str:
    counts = library.kernels
    names = ", ".join(arch.sm for arch in wanted)
    lacking = f"{counts.total - counts.native} of {counts.total} kernels are not native {names}"
    return f"{lacking}: {on_card.others(counts)}; it holds {library.archs}"


def content_findings(
    libraries: Sequence[Library],
    natives: Sequence[Native],
    contracts: Sequence[Contract],
    names: Iterable[str],
) -> Iterator[Finding]:
    """Find files that the contract asks for in vain, and libraries that no line of it names.

    A stack without a line asks for one library with one kernel: to be content with nothing would
    prove nothing. `names` are those of all kernels.
    """
    lines = contracts or (Contract(library="*"),)
    kernels = frozenset(names)
    for line in lines:
        inside = [one for one in libraries if contract_of(one.path, lines) is line]
        total = sum(one.kernels.total for one in inside)
        if not inside:
            if not line.optional:
                fact = "the contract asks for this library, and the wheel holds none of that name"
                yield Finding(name="missing-library", fact=fact, library=line.library)
            continue
        if total < line.kernels:
            fact = f"{_kernels(total)} there, the contract asks for at least {line.kernels}"
            yield Finding(name="missing-kernels", fact=fact, library=line.library)
        exported = {
            name
            for one in natives
            if contract_of(one.path, lines) is line
            for name in one.elf.exports
        }
        for entry in line.entry_points:
            if not _is_there(entry, kernels | exported):
                fact = f"no kernel and no exported symbol is called {entry}"
                yield Finding(name="missing-entry-point", fact=fact, library=line.library)
    if contracts:
        for one in libraries:
            if not any(fnmatchcase(one.path, line.library) for line in contracts):
                fact = "no line of the contract names it"
                yield Finding(name="undeclared-library", fact=fact, library=one.path)


def _is_there(entry: str, names: Iterable[str]) -> bool:
    """Tell whether a name, or a C++ name that holds it as one of its parts, is among these."""
    part = re.compile(rf"(?<![0-9]){len(entry)}{re.escape(entry)}")
    return any(name == entry or part.search(name) for name in names)


def _kernels(count: int) -> str:
    return f"{count or 'no'} kernel{' is' if count == 1 else 's are'}"


def object_findings(built: BuiltWheel) -> tuple[Finding, ...]:
    """Hold the objects that were compiled to those that the stack's plan counts.

    An upstream that leaves sources out without a word builds a smaller wheel that is whole.
    """
    request = built.plan.request
    planned, compiled = request.pin.objects, len(built.objects)
    most = planned if request.archs == request.stack.archs else compiled
    least = planned if most == planned and not request.without else 1
    if not planned:
        fact = "nobody counted the objects of this project: a wheel that lacks some is not noticed"
        return (Finding(name="objects-not-counted", fact=fact, fatal=False),)
    if least <= compiled <= most:
        return ()
    fact = f"{compiled} objects were compiled, the stack counts {planned}"
    return (Finding(name="other-objects", fact=fact),)
