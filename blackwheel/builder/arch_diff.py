"""Compares two arch plans to show the effects of a patch. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from blackwheel.builder.arch_plan import ArchPlan, PlannedObject

_EXCEPTION: Final = re.compile(r"[\w.]*(Error|Exception|CMake Error[^:]*): \S")
_SHOWN: Final = 3
"""How many names a line holds before it counts the others."""


def effects(full: ArchPlan, without: ArchPlan) -> tuple[str, ...]:
    """Return the differences without a patch, archs first; empty when there are none.

    Each line is `what: with the patch → without it`.
    """
    if without.failure:
        return (f"configure: succeeds → fails: {_reason(without.failure)}",)
    return (
        *_objects(full, without),
        *_lines("metadata", full.metadata, without.metadata),
        *_contents("wheel", full.files, without.files),
        *_texts(full, without),
    )


def _reason(words: str) -> str:
    """Return the exception that a build ended with; the last line is only its frontend's."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    named = [line for line in lines if _EXCEPTION.match(line)]
    return (named or lines)[-1]


def _objects(full: ArchPlan, without: ArchPlan) -> list[str]:
    ours = {(each.target, each.source): each for each in full.objects}
    theirs = {(each.target, each.source): each for each in without.objects}
    both = [(ours[key], theirs[key]) for key in ours if key in theirs]
    moved = Counter(
        (one.target, archs_text(one.archs), archs_text(other.archs))
        for one, other in both
        if one.archs != other.archs
    )
    found = [
        f"archs: {target or 'objects'}: {_count(n)} {was} → {now}"
        for (target, was, now), n in sorted(moved.items())
    ]
    for word, mine, other in (("only with it", ours, theirs), ("only without it", theirs, ours)):
        extra = Counter(
            (each.target, archs_text(each.archs)) for key, each in mine.items() if key not in other
        )
        found += [
            f"objects: {target or '-'}: {_count(n)} of {archs} {word}"
            for (target, archs), n in sorted(extra.items())
        ]
    flags = [one for one, other in both if _other_flags(one, other)]
    if flags:
        found.append(f"flags: {_count(len(flags))} with another command line")
    return found


def _other_flags(one: PlannedObject, other: PlannedObject) -> bool:
    return one.archs == other.archs and one.command != other.command


def archs_text(archs: Sequence[str]) -> str:
    """Name SASS as it is and PTX as PTX."""
    words = (f"{arch} PTX" if arch.startswith("compute_") else arch for arch in archs)
    return ", ".join(words) or "no arch"


def _count(number: int) -> str:
    return f"{number} object{'s' * (number != 1)}"


def _lines(what: str, full: Sequence[str], without: Sequence[str]) -> list[str]:
    gone = [line for line in full if line not in without]
    new = [line for line in without if line not in full]
    return [f"{what}: {_named(gone)} → {_named(new)}"] if gone or new else []


def _contents(what: str, full: Mapping[str, str], without: Mapping[str, str]) -> list[str]:
    gone = [path for path in full if path not in without]
    new = [path for path in without if path not in full]
    other = [path for path in full if path in without and full[path] != without[path]]
    found = [f"{what}: only with it: {_named(gone)}"] if gone else []
    found += [f"{what}: only without it: {_named(new)}"] if new else []
    return found + ([f"{what}: other bytes: {_named(other)}"] if other else [])


def _texts(full: ArchPlan, without: ArchPlan) -> list[str]:
    """Only what both compile from: other objects were told of above."""
    both = [path for path in full.texts if path in without.texts]
    other = [path for path in both if full.texts[path] != without.texts[path]]
    return [f"compiled text: {_named(other)}"] if other else []


def _named(names: Sequence[str]) -> str:
    if not names:
        return "nothing"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(sorted(names)[:_SHOWN]) + more
