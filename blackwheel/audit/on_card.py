"""Words how kernels run on a card: natively, as code of the family, through PTX, not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from blackwheel.audit.kernels import KernelCounts, Library
from blackwheel.core.archs import from_sm
from blackwheel.core.cards import Card

NATIVELY: Final = "natively"
FAMILY: Final = "as code of the family"
PARTLY_PTX: Final = "partly through PTX"
PTX: Final = "through PTX"
PARTLY: Final = "in part"
NOT: Final = "not at all"
UNKNOWN: Final = "cannot be told"
NONE: Final = "no kernels"
WAYS: Final = {"native": NATIVELY, "family": FAMILY, "ptx": PTX, "missing": NOT}
"""Fields of KernelCounts, and how such kernels run: the words of every table, page and document."""
HEADS: Final = (NATIVELY, "family", "PTX", NOT)
"""The same, short, as heads of columns."""
WELL: Final = ("", NATIVELY, FAMILY, NONE)
"""States in which nothing is left to wish, and that of a stack's own wheel, which has none."""
CACHE: Final = "~/.nv/ComputeCache"
"""Where NVIDIA's driver keeps code that it compiled from PTX, unless CUDA_CACHE_PATH says so."""
PTX_COST: Final = f"Your driver compiles it at first use and keeps it in {CACHE}."
_SHOWN: Final = 3

Uncalled = Callable[[str], str]
"""Returns the reason why nothing calls a library of this path on the card; empty: unknown."""


def tally(libraries: Sequence[Library]) -> KernelCounts:
    """Add up the kernels of several files."""
    names = KernelCounts.__dataclass_fields__
    return KernelCounts(**{n: sum(getattr(one.kernels, n) for one in libraries) for n in names})


def others(counts: KernelCounts) -> str:
    """Say how kernels run that are not native: `5 run as code of the family, 2 not at all`."""
    told = [(getattr(counts, name), way) for name, way in WAYS.items() if name != "native"]
    shown = [f"{count} {way}" for count, way in told if count]
    verb = "runs" if shown and shown[0].startswith("1 ") else "run"
    return ", ".join(shown).replace(" ", f" {verb} ", 1)


def running(counts: KernelCounts) -> int:
    """Return the number of kernels that run in any way."""
    return counts.native + counts.family + counts.ptx


def idle(libraries: Sequence[Library]) -> list[Library]:
    """Return the files of whose kernels none runs on the card."""
    return [one for one in libraries if one.kernels.total and not running(one.kernels)]


def state(libraries: Sequence[Library], uncalled: Uncalled) -> str:
    """Return in two or three words how the kernels of these files run on the card.

    What nothing calls there, and code for other cards beside code that runs, takes nothing away.
    """
    counts = tally(libraries)
    if not counts.total:
        return UNKNOWN if any(one.unreadable for one in libraries) else NONE
    if not running(counts):
        return NOT
    if any(not uncalled(one.path) for one in idle(libraries)):
        return PARTLY
    if counts.ptx:
        return PTX if counts.ptx == running(counts) else PARTLY_PTX
    return FAMILY if counts.family else NATIVELY


def lines(libraries: Sequence[Library], card: Card, uncalled: Uncalled) -> Iterator[str]:
    """Yield the sentences for the card's owner, one or two a line."""
    yield first_line(libraries, card)
    if not tally(libraries).total:
        return
    through = sorted(
        (one for one in libraries if one.kernels.ptx), key=lambda one: -one.kernels.ptx
    )
    if through:
        yield f"Through PTX: {_files(through, lambda one: one.kernels.ptx)}. {PTX_COST}"
    yield from _not_at_all(libraries, uncalled)
    beside = [one for one in libraries if one.kernels.missing and running(one.kernels)]
    if beside:
        yield f"Code for other cards lies beside code that runs in {_files(beside, _missing)}."
    yield from _unread(libraries)


def first_line(libraries: Sequence[Library], card: Card) -> str:
    """Return the sentence that counts all kernels, or says why none can be counted."""
    counts = tally(libraries)
    if counts.total:
        return f"On {card} {_shares(libraries, counts, card)}."
    if unread := [one for one in libraries if one.unreadable]:
        return f"Whether it runs on {card} cannot be told: {_files(unread)} cannot be read."
    return f"It holds no kernels, so it runs on {card} as on any card."


def lacking(libraries: Sequence[Library], uncalled: Uncalled) -> Iterator[str]:
    """Yield a sentence for each part that does not run on the card or cannot be read."""
    yield from _not_at_all(libraries, uncalled)
    yield from _unread(libraries)


def _unread(libraries: Sequence[Library]) -> Iterator[str]:
    if unread := [one for one in libraries if one.unreadable]:
        yield f"Some of {_files(unread)} cannot be read: what that would run on is not known."


def _shares(libraries: Sequence[Library], counts: KernelCounts, card: Card) -> str:
    if counts.native == counts.total:
        return f"all {counts.total:,} kernels run natively"
    own = {arch.sm for arch in card.archs}
    kin = {
        name
        for one in libraries
        if one.kernels.family
        for name, _ in one.kernels_by_arch
        if name not in own and all(from_sm(name).runs_on(arch) for arch in card.archs)
    }
    family = f"{FAMILY} ({', '.join(sorted(kin, key=from_sm))})" if kin else FAMILY
    parts = ((counts.family, family), (counts.ptx, PTX), (counts.missing, NOT))
    told = [f"{count:,} {text}" for count, text in parts if count]
    return ", ".join([f"{counts.native:,} of {counts.total:,} kernels run natively", *told])


def _not_at_all(libraries: Sequence[Library], uncalled: Uncalled) -> Iterator[str]:
    """Say of which files nothing runs, and whether anything would call them there."""
    reasons: dict[str, list[Library]] = {}
    for one in idle(libraries):
        reasons.setdefault(uncalled(one.path), []).append(one)
    for reason, same in sorted(reasons.items(), key=lambda pair: not pair[0]):
        held: Counter[str] = Counter()
        for one in same:
            held.update(dict(one.pieces))
        archs = ", ".join(sorted(held, key=from_sm))
        what = f"Not at all: {_files(same, _missing)}, compiled for {archs} alone"
        if reason:
            yield f"{what}; nothing calls it there: {reason}."
        else:
            yield f"{what}; a call of it fails. Whether anything calls it the file does not tell."


def _missing(one: Library) -> int:
    return one.kernels.missing


def _files(same: Sequence[Library], count: Callable[[Library], int] | None = None) -> str:
    """Name the first files, each with its number of kernels."""
    shown = [f"{one.path} ({count(one):,})" if count else one.path for one in same[:_SHOWN]]
    more = len(same) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
