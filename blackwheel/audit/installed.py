"""Reads the device code of an installed environment, one distribution after another."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from blackwheel.audit.kernels import Library, read_library
from blackwheel.core import recorded
from blackwheel.core.cards import Card

PLACES: Final = (
    "lib/python3*/site-packages",
    "lib/python3*/dist-packages",
    "lib64/python3*/site-packages",
)
FILES: Final = re.compile(r"\.(so(\.[\w.]+)?|cubin|fatbin|ptx)$")
"""Names of files that may hold device code, as wheels install it."""
NOBODY: Final = "(no distribution)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """One distribution of an environment, with its files that hold device code."""

    name: str
    version: str
    libraries: tuple[Library, ...]


def folders(path: Path) -> list[Path]:
    """Return the module folders of an environment, its Python or such a folder, or none."""
    if path.is_file() and path.parent.name == "bin" and path.name.startswith("python"):
        path = path.parent.parent
    if path.name in ("site-packages", "dist-packages") and path.is_dir():
        return [path]
    found = [one for place in PLACES for one in sorted(path.glob(place))]
    return list({one.resolve(): one for one in found}.values())


def installed(
    places: list[Path], card: Card, *, told: Callable[[int, int, str], None]
) -> Iterator[Installed]:
    """Yield every distribution that has files of such names, with those that hold device code.

    `told` is called with what is done of all bytes, and the file. Nothing of the environment runs.
    """
    grouped: dict[tuple[str, str], list[tuple[str, Path]]] = {}
    owners: dict[Path, tuple[str, str]] = {}
    for place in places:
        owners |= _owners(place)
    seen: set[tuple[int, int]] = set()
    total = 0
    for place in places:
        for path in _files(place):
            facts = path.stat()
            if (facts.st_dev, facts.st_ino) in seen:  # linked under a second name
                continue
            seen.add((facts.st_dev, facts.st_ino))
            total += facts.st_size
            owner = owners.get(path, (NOBODY, ""))
            grouped.setdefault(owner, []).append((str(path.relative_to(place)), path))
    done = 0
    for (name, version), files in sorted(grouped.items()):
        libraries = []
        for short, path in files:
            told(done >> 20, total >> 20, path.name)
            done += path.stat().st_size
            libraries.append(read_library(path, path=short, sha256="", wanted=card.archs))
        device = tuple(one for one in libraries if not one.host_only)
        yield Installed(name=name, version=version, libraries=device)


def _files(place: Path) -> Iterator[Path]:
    for folder, inner, names in os.walk(place):
        inner.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if FILES.search(name) and path.is_file():
                yield path


def _owners(place: Path) -> dict[Path, tuple[str, str]]:
    """Return whose each file is, as the RECORD of each distribution says."""
    owners: dict[Path, tuple[str, str]] = {}
    for record in place.glob("*.dist-info/RECORD"):
        name, _, version = record.parent.name.removesuffix(".dist-info").partition("-")
        for path, _ in recorded.entries(record):
            if FILES.search(path):
                owners[place / path] = (canonicalize_name(name), version)
    return owners
