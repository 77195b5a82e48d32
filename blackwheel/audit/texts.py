"""Tells text from binary data: a text is text to its last byte."""

from __future__ import annotations

import codecs
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from blackwheel.audit.blob import CHUNK
from blackwheel.audit.member import Source

PYTHON: Final = (".py", ".pyi", ".pyw")
TEXT: Final = re.compile(
    r"(\.(txt|md|rst|h|hh|hpp|hxx|cuh|cu|inl|inc|c|cc|cpp|cxx|pyx|pxd|json|cmake|html|css|js|f90)"
    r"|/(LICEN[CS]E|COPYING|NOTICE|README|AUTHORS|CHANGELOG|CHANGES)[^/]*)$",
    re.IGNORECASE,
)
"""Such a file is text although its letters are those of an old code page."""
_COOKIE: Final = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A file that is text as a whole."""

    digest: bytes
    """sha256."""
    size: int
    kept: bytes
    """Its bytes, where they were asked for."""
    names_a_target: bool
    """PTX may be in it."""


class UnheldError(Exception):
    """A file that must be held in memory as text is none, or larger than it may be."""


def read_text(stream: Source, first: bytes, path: str, keep: int) -> Text | None:
    """Read a text to its end; None where it turns out to be none."""
    decoder = codecs.getincrementaldecoder(_encoding(first, path))("strict")
    digest, size, target, kept = hashlib.sha256(), 0, False, b""
    chunk, last = first, b""
    while chunk:
        size += len(chunk)
        if keep and size > keep:
            raise UnheldError(f"is larger than {keep >> 20} MiB")
        digest.update(chunk)
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError:
            return None
        if b"\0" in chunk:
            return None
        target = target or b".target" in last + chunk
        kept += chunk if keep else b""
        last = chunk[-16:]
        chunk = stream.read(CHUNK)
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return None
    return Text(digest=digest.digest(), size=size, kept=kept, names_a_target=target)


def _encoding(first: bytes, path: str) -> str:
    """The code page that a text may be in: UTF-8 unless it or its name says otherwise."""
    if path.endswith(PYTHON):
        found = _COOKIE.search(b"\n".join(first.split(b"\n", 2)[:2]))
        name = found[1].decode("ascii") if found else "utf-8"
        try:
            return codecs.lookup(name).name
        except LookupError:
            return "utf-8"
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(first)
    except UnicodeDecodeError:
        return "latin-1" if TEXT.search(path) else "utf-8"
    return "utf-8"
