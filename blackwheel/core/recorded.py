"""Compares installed files with the RECORD of the wheels that they came from.

uv checks a wheel's hash when it fetches it, and believes its cache from then on: a file that
was changed there is installed by a hashed sync without a word.
"""

from __future__ import annotations

import base64
import csv
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from installer.records import InvalidRecordEntry, RecordEntry, parse_record_file

from blackwheel.core import files
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.settled import Digests

MOST_BYTES: Final = 64 << 20
"""Of one RECORD; that of torch takes 2 MB."""
_SHOWN: Final = 8
OWN: Final = ("_virtualenv.py", "_virtualenv.pth")
"""Files that the maker of an environment puts beside the packages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """An installed file that differs from its wheel's RECORD."""

    distribution: str
    """Empty for a file that no RECORD names."""
    path: str
    why: str

    def __str__(self) -> str:
        owner = f" of {self.distribution}" if self.distribution else ""
        return f"{self.path}{owner} {self.why}"


def changed(
    packages: Path,
    digests: Digests,
    *,
    place: Callable[[str], Path] | None = None,
    wanted: Callable[[str], bool] = lambda _: True,
) -> list[Changed]:
    """Return the files in a site-packages folder that are not those of their wheels.

    `place` tells where a path of a RECORD lies, where it was moved; only `wanted` ones are read. A
    file that two wheels bring is right as either of them has it: the one installed last wrote it.
    """
    told: dict[str, list[tuple[str, str]]] = {}
    for record in sorted(packages.glob("*.dist-info/RECORD")):
        name = record.parent.name.partition("-")[0]
        for path, digest in entries(record):
            if digest is not None and wanted(path):
                told.setdefault(os.path.normpath(path), []).append((name, digest))
    found = []
    for path, owners in told.items():
        file = place(path) if place else packages / path
        faults = [(name, _fault(file, digest, digests)) for name, digest in owners]
        if all(why for _, why in faults):
            found += [Changed(distribution=name, path=path, why=why) for name, why in faults]
    return found


def strays(packages: Path, *, own: Collection[str] = ()) -> list[Changed]:
    """Return the files in a site-packages folder that no RECORD names, but for our `own`.

    Python reads `.pth` files and imports modules whoever put them there. Compiled modules belong to
    their source.
    """
    known = {
        os.path.normpath(path)
        for record in packages.glob("*.dist-info/RECORD")
        for path, _ in entries(record)
    }
    return [
        Changed(distribution="", path=path, why="is in no RECORD")
        for path in sorted(str(file.relative_to(packages)) for file in files.below(packages))
        if path not in known and path not in (*OWN, *own) and not _compiled(path)
    ]


def unlike(
    environment: Path, store: Path, *, own: Collection[str] = ()
) -> Iterator[tuple[Path, list[Changed]]]:
    """Yield each site-packages folder of an environment with its files that are not of wheels."""
    for packages in sorted(environment.glob("lib/python3*/site-packages")):
        digests = Digests(packages, store)
        found = changed(packages, digests)
        digests.keep(whole=True)
        yield packages, [*found, *strays(packages, own=own)]


def refusal(found: Sequence[Changed], *, where: str, folder: Path) -> BlackwheelError:
    """Return the error `changed-package`; its cure cleans uv's cache."""
    names = sorted({one.distribution for one in found} - {""})
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    clean = [f"uv cache clean {' '.join(names)}"] if names else []
    return BlackwheelError(
        "changed-package",
        "\n".join(
            ["installed files are not those of their wheels", *map(str, found[:_SHOWN]), *more]
        ),
        where=where,
        fix="\n".join([*clean, f"rm -r '{folder}'", "and run the same command again"]),
        code=Exit.SOURCE,
    )


def _fault(file: Path, digest: str, digests: Digests) -> str:
    if not file.is_file():
        return "is missing"
    if not digest:
        return "has no sha256 in RECORD"
    found = digests.sha256(file)
    return "" if found == digest else f"has sha256 {found[:16]}… instead of {digest[:16]}…"


def entries(record: Path, begins: tuple[str, ...] = ("",)) -> Iterator[tuple[str, str | None]]:
    """Yield path and sha256 of each file in a RECORD; None for files that need none, "" for none.

    Only lines that begin so are read. A RECORD that is over its bound, or none, has one entry: its
    own, without a digest.
    """
    try:
        text = files.bounded(record, MOST_BYTES).decode("utf-8", "surrogateescape")
        rows = list(parse_record_file(x for x in text.splitlines() if x.startswith(begins)))
    except (OSError, ValueError, InvalidRecordEntry, csv.Error):
        yield f"{record.parent.name}/RECORD", ""
        return
    for row in rows:
        try:
            entry = RecordEntry.from_elements(*row)
        except InvalidRecordEntry:
            yield ",".join(row), ""
            continue
        free = entry.path.endswith(("/RECORD", ".pyc")) and entry.hash_ is None
        kept = entry.hash_ if entry.hash_ and entry.hash_.name == "sha256" else None
        yield entry.path, None if free else _hex(kept.value) if kept else ""


def _hex(coded: str) -> str:
    try:
        return base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).hex()
    except ValueError:
        return coded


def _compiled(path: str) -> bool:
    return path.endswith(".pyc") and "__pycache__/" in path
