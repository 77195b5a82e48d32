"""Sums up the libraries of a wheel in few rows: files of one kind and the same archs together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from blackwheel.audit.kernels import KernelCounts, Library

MANY: Final = 40
"""From so many files on rows are joined: a wheel of cubins has 16,000."""


def rows(libraries: Sequence[Library]) -> tuple[Library, ...]:
    """Return the libraries, or one that stands for each group of equal ones."""
    if len(libraries) < MANY:
        return tuple(libraries)
    groups: dict[tuple[object, ...], list[Library]] = defaultdict(list)
    for one in libraries:
        groups[_likeness(one)].append(one)
    return tuple(_joined(same) if len(same) > 1 else same[0] for same in groups.values())


def _likeness(library: Library) -> tuple[object, ...]:
    counts = library.kernels
    return (
        library.kind,
        library.host_only,
        library.unreadable,
        tuple(name for name, _ in library.elf_archs),
        tuple(name for name, _ in library.ptx_archs),
        tuple(bool(getattr(counts, name)) for name in KernelCounts.__dataclass_fields__),
    )


def _joined(same: Sequence[Library]) -> Library:
    first = same[0]
    counts = KernelCounts(
        **{
            name: sum(getattr(one.kernels, name) for one in same)
            for name in KernelCounts.__dataclass_fields__
        }
    )
    return Library(
        path=f"{first.path} and {len(same) - 1:,} more files like it",
        size=sum(one.size for one in same),
        sha256="",
        host_only=first.host_only,
        elf_archs=_sums(one.elf_archs for one in same),
        ptx_archs=_sums(one.ptx_archs for one in same),
        kernels_by_arch=_sums(one.kernels_by_arch for one in same),
        kernels=counts,
        examples=first.examples,
        unreadable=first.unreadable,
        unread_archs=_sums(one.unread_archs for one in same),
        kind=first.kind,
    )


def _sums(pairs: Iterable[tuple[tuple[str, int], ...]]) -> tuple[tuple[str, int], ...]:
    total: Counter[str] = Counter()
    for each in pairs:
        total.update(dict(each))
    return tuple(sorted(total.items()))
