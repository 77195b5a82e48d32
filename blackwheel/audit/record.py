"""Compares RECORD with the files of the archive, both ways."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from installer.records import InvalidRecordEntry, RecordEntry, parse_record_file

from blackwheel.audit.archive import MOST_FILES
from blackwheel.audit.contents import Content
from blackwheel.audit.findings import Finding

SIGNATURES: Final = ("RECORD.jws", "RECORD.p7s")
STRONGER: Final = ("sha384", "sha512")
_SIZE: Final = re.compile(r"[0-9]*")


def record_findings(
    members: Mapping[str, Content], info_name: str, names: set[str]
) -> Iterator[Finding]:
    """Compare RECORD with the archive; `names` are all that it lists, folders too."""
    record = f"{info_name}/RECORD"
    if record not in members:
        yield Finding(name="no-record", fact="the wheel holds no RECORD")
        return
    try:
        entries = _entries(members[record].text)
    except (InvalidRecordEntry, UnicodeDecodeError, csv.Error, ValueError) as error:
        yield Finding(name="bad-record", fact=str(error), library=record)
        return
    for path, count in Counter(entry.path for entry in entries).items():
        if count > 1:
            yield Finding(name="bad-record", fact=f"RECORD lists it {count} times", library=path)
        if path not in names:
            yield Finding(
                name="missing-file", fact="RECORD lists it, the wheel lacks it", library=path
            )
    listed = {entry.path: entry for entry in entries}
    excused = {record, *(f"{info_name}/{name}" for name in SIGNATURES)}
    for path, member in members.items():
        if path in excused:
            continue
        if path not in listed:
            yield Finding(name="unlisted-file", fact="RECORD does not list it", library=path)
        else:
            yield from _compared(path, listed[path], member)


def _entries(text: bytes) -> list[RecordEntry]:
    lines = parse_record_file(io.StringIO(text.decode("utf-8"), newline=""))
    rows = list(itertools.islice(lines, 2 * MOST_FILES + 1))
    if len(rows) > 2 * MOST_FILES:
        raise ValueError(f"it has more than {2 * MOST_FILES:,} lines")
    for path, _, size in rows:
        if not _SIZE.fullmatch(size):
            raise ValueError(f"the size of {path} is {size!r}")
    return [RecordEntry.from_elements(*row) for row in rows]


def _compared(path: str, entry: RecordEntry, member: Content) -> Iterator[Finding]:
    """Compare a file with its line; weaker hashes than sha256 prove nothing."""
    told = entry.hash_
    if told is not None and told.name in STRONGER and entry.size == member.size:
        fact = f"RECORD has its {told.name} and no sha256: its size alone was compared"
        yield Finding(name="other-record-hash", fact=fact, library=path)
        return
    coded = base64.urlsafe_b64encode(member.digest).decode("ascii").rstrip("=")
    right = told is not None and told.name == "sha256" and told.value.rstrip("=") == coded
    if not right or entry.size != member.size:
        yield Finding(name="wrong-record", fact="RECORD has other bytes", library=path)
