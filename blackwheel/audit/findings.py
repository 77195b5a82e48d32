"""Defines a finding: one line a person can act on, and whether it stops the wheel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from blackwheel.core.plain_text import one_line

MOST: Final = 50
"""Findings of one name that are written out; the others are counted."""

ACCEPTED: Final = frozenset(
    {
        "archive-comment",
        "compression",
        "extra-entry-point",
        "file-mode",
        "foreign-data-folder",
        "foreign-top-level",
        "glibc-too-new",
        "false-platform-tag",
        "installer-file",
        "interposed-symbol",
        "isa-level",
        "libpython",
        "loose-metadata",
        "loose-wheel-file",
        "may-swap-torch",
        "name-clash",
        "new-limited-api",
        "not-limited-api",
        "not-native",
        "odd-dist-info",
        "odd-elf",
        "odd-file-name",
        "odd-section-headers",
        "other-data",
        "other-machine-code",
        "other-purelib",
        "other-python-extension",
        "other-record-hash",
        "other-sub-loader",
        "own-cxx-runtime",
        "own-unwinder",
        "packed-data",
        "pth-file",
        "pyc-without-source",
        "runpath",
        "same-name",
        "soname-clash",
        "start-file",
        "static-tls",
        "tag-mismatch",
        "text-relocations",
        "torch-not-pinned",
        "trailing-data",
        "unknown-file",
        "unknown-library",
        "unreadable-kernels",
        "url-requirement",
        "writable-code",
        "wrong-record",
    }
)
"""What pip, uv and the loader take from any wheel: it stops only a wheel of our own stacks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that the audit saw; names and texts of the wheel are safe to print in it."""

    name: str
    """Kebab-case and stable: programs may match it."""
    fact: str
    library: str = ""
    """Path in the wheel of the library or file it was seen in; empty for the wheel itself."""
    fatal: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "fact", one_line(self.fact))
        object.__setattr__(self, "library", one_line(self.library))

    def __str__(self) -> str:
        place = f"{self.library}: " if self.library else ""
        return f"{self.name}: {place}{self.fact}"


class RefusedError(Exception):
    """A file of which nothing more can be read; holds why."""

    def __init__(self, name: str, fact: str, *more: Finding) -> None:
        super().__init__(fact)
        self.findings = (Finding(name=name, fact=fact), *more)


def judged(findings: Iterable[Finding], *, own: bool) -> tuple[Finding, ...]:
    """Let a foreign wheel pass with a note where installers and the loader let it pass.

    `own` is a wheel that a stack of this checkout builds. Notes of equal words are told once, and
    of each name the first 50.
    """
    kept: list[Finding] = []
    seen: Counter[tuple[str, bool]] = Counter()
    for one in _together([_judged(one, own=own) for one in findings]):
        seen[one.name, one.fatal] += 1
        if seen[one.name, one.fatal] <= MOST:
            kept.append(one)
    for (name, fatal), count in seen.items():
        if count > MOST:
            fact = f"and {count - MOST:,} more like these"
            kept.append(Finding(name=name, fact=fact, fatal=fatal))
    return tuple(kept)


def _judged(one: Finding, *, own: bool) -> Finding:
    return replace(one, fatal=False) if one.fatal and not own and one.name in ACCEPTED else one


def _together(findings: Sequence[Finding]) -> list[Finding]:
    """Join notes of several files that say the same."""
    files = Counter((one.name, one.fact) for one in findings if not one.fatal and one.library)
    done: set[tuple[str, str]] = set()
    kept = []
    for one in findings:
        key = (one.name, one.fact)
        if one.fatal or not one.library or files[key] == 1:
            kept.append(one)
        elif key not in done:
            done.add(key)
            kept.append(replace(one, fact=f"{one.fact} (and {files[key] - 1:,} more files)"))
    return kept
