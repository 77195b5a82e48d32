"""Finds the first object that failed in a build's log, and the header that it failed in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOST: Final = 64 << 20
"""Bytes of a log that are read: its last ones."""
_LINE: Final = 4000
_FAILED: Final = re.compile(r"^FAILED: (?:\[code=\d+\] )?(\S+)")
_ENDS: Final = re.compile(r"FAILED: |\[\d+/\d+\] |ninja: ")
"""The line after an object's words: of the next object, or ninja's last."""
_PLACE: Final = re.compile(r"^(/?[^\s:()]+)[:(](\d+)\)?(?::\d+)?: ?(?:fatal )?error\b ?:? ?(.*)")
_INCLUDED: Final = re.compile(r"(?:In file included from|^\s+from) (\S+?):\d+")
_QUOTED: Final = re.compile(r"[\u2018'\"`]([\w:~]{3,200})[\u2019'\"]")
_TORCH: Final = re.compile(r"/torch/include/(.+)$")


_FULL: Final = re.compile(r"No space left on device|Disk quota exceeded")
_CRASHED: Final = re.compile(
    r"internal compiler error|died due to signal|died with <Signals|Killed signal|Bus error"
    r"|Segmentation fault|Illegal instruction|^Killed$",
    re.MULTILINE,
)
_REPORTED: Final = re.compile(
    r"(?<![-\w])(?:[Ee]rror(?: #[\w-]+)?|fatal)\s*:|^CMake Error\b|undefined reference to"
    r"|^\w[\w.]*(?:Error|Exception)\b",
    re.MULTILINE,
)
"""As compilers, linkers, CMake and Python say it: the same input gives the same error again."""
CONTINUES: Final = "run the same command again: it continues with the objects already compiled"


def is_disk_full(words: str) -> bool:
    """Tell whether a failed step had no room for its files: no source is to blame."""
    return bool(_FULL.search(words))


def cure(words: str) -> str:
    """Return the cure of a failed step: other sources for a reported error, else another try."""
    if _CRASHED.search(words) or not _REPORTED.search(words):
        return CONTINUES
    return (
        "correct the patch or the flags named above, then the same command: nothing that"
        " compiled is lost"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """The first error of a compiler in a log."""

    object: str
    """As ninja names it; empty where it was no compiler that failed."""
    place: str
    """`csrc/flash_api.cpp:12`, or the header in which the compiler stopped."""
    error: str
    header: str
    """Of torch, below its include folder: `c10/core/Device.h`; empty where none is involved."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names that the compiler quotes, without their namespaces."""
        words = (word.rpartition("::")[2] for word in _QUOTED.findall(self.error))
        return tuple(dict.fromkeys(word for word in words if len(word) > 2))


def block(lines: Sequence[str]) -> list[str]:
    """Return the lines of the first object that failed, as ninja prints them; none without one."""
    starts = (number for number, line in enumerate(lines) if _FAILED.match(line))
    first = next(starts, len(lines))
    ends = (number for number in range(first + 1, len(lines)) if _ENDS.match(lines[number]))
    return list(lines[first : next(ends, None)])


def first_fault(log: Path) -> Fault | None:
    """Return the first compile error of a log; None where it tells of none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - MOST))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    failed = block([line[:_LINE] for line in lines])
    return _read(failed[0], failed[1:]) if failed else None


def _read(failed: str, words: list[str]) -> Fault:
    """Read the words of one object: where it stopped, and by which header of torch."""
    named = _FAILED.match(failed)
    name = named[1] if named else ""
    included: list[str] = []
    for line in words:
        if found := _INCLUDED.search(line):
            included.append(found[1])
        elif place := _PLACE.match(line):
            where = [place[1], *included]
            headers = [torch[1] for one in where if (torch := _TORCH.search(one))]
            return Fault(
                object=name,
                place=f"{place[1]}:{place[2]}",
                error=place[3].strip() or line,
                header=headers[0] if headers else "",
            )
    return Fault(object=name, place="", error=words[-1] if words else "", header="")
