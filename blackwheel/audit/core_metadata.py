"""Reads METADATA field by field: fields that installers act on must hold, the rest may be odd."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

MOST_FIELDS: Final = 5_000
_READ: Final = ("metadata-version", "name", "version", "requires-dist")
"""Fields without which no installer does anything."""
_LATER: Final = re.compile(r"introduced in metadata version")
"""A field of a later version of the format: readers of the earlier one pass over it."""
_RETIRED: Final = ("obsoletes-dist", "provides-dist", "requires", "provides", "obsoletes")
_DISAGREE: Final = ("content-type", "content-transfer-encoding", "mime-version")
"""Readers that take METADATA for a mail find another text behind these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One field that is not as its standard says."""

    fact: str
    read: bool
    """Installers act on that field, or readers disagree."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CoreMetadata:
    """The fields of a wheel's METADATA."""

    name: str = ""
    version: Version | None = None
    requires: tuple[Requirement, ...] = ()
    requires_python: SpecifierSet | None = None
    retired: tuple[str, ...] = ()
    """Fields that claim to be, or to take the place of, other distributions."""
    faults: tuple[Fault, ...] = ()


def core_metadata(text: bytes) -> CoreMetadata:
    """Read METADATA; an unreadable field is among its faults."""
    head = re.split(rb"\r?\n\r?\n", text, maxsplit=1)[0] + b"\n"
    fields = len(re.findall(rb"^[^ \t\r\n]", head, re.MULTILINE))
    if fields > MOST_FIELDS:
        fact = f"it has {fields:,} fields, more than {MOST_FIELDS:,}"
        return CoreMetadata(faults=(Fault(fact=fact, read=True),))
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return CoreMetadata(faults=(Fault(fact="it is not UTF-8", read=True),))
    metadata = Metadata.from_email(head, validate=False)
    return CoreMetadata(
        name=_of(metadata, "name") or "",
        version=_of(metadata, "version"),
        requires=tuple(_of(metadata, "requires_dist") or ()),
        requires_python=_of(metadata, "requires_python"),
        retired=tuple(name for name in _RETIRED if _of(metadata, name.replace("-", "_"))),
        faults=tuple(_faults(head)),
    )


def _of(metadata: Metadata, field: str) -> Any:
    try:
        return getattr(metadata, field)
    except ValueError:  # InvalidMetadata, or a version of 5,000 digits
        return None


def _faults(head: bytes) -> Iterator[Fault]:
    if re.search(rb"\r(?!\n)", head):
        fact = "a carriage return stands alone in it: readers disagree where its lines end"
        yield Fault(fact=fact, read=False)
    try:
        Metadata.from_email(head)
    except ExceptionGroup as group:
        for error in group.exceptions:
            field = getattr(error, "field", "")
            read = (field in _READ and not _LATER.search(str(error))) or field in _DISAGREE
            yield Fault(fact=str(error), read=read)
    except ValueError as error:
        yield Fault(fact=str(error), read=True)
