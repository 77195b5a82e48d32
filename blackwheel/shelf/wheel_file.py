"""Reads the facts of an index entry from a wheel file."""

from __future__ import annotations

import hashlib
import zipfile
from datetime import datetime
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from blackwheel.core import files
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.zips import UNREADABLE, held
from blackwheel.shelf.simple_api import ShelvedWheel


def described(wheel: Path, shelf: Path, now: datetime) -> tuple[ShelvedWheel, bytes]:
    """Return the index entry of a wheel file, and its METADATA."""
    from packaging.metadata import parse_email  # noqa: PLC0415  0.2 s that only shelving pays

    try:
        project, version, _, _ = parse_wheel_filename(wheel.name)
        metadata = read_metadata(wheel)
        fields, _ = parse_email(metadata)
        named = (canonicalize_name(fields.get("name", "")), Version(fields.get("version", "")))
        if named != (project, version):
            raise bad_wheel(wheel, f"METADATA says {named[0]} {named[1]}, unlike the file name")
        digest, size = files.sha256(wheel), wheel.stat().st_size
    except (*UNREADABLE, InvalidWheelFilename, InvalidVersion) as error:
        raise bad_wheel(wheel, getattr(error, "strerror", None) or str(error)) from error
    entry = ShelvedWheel(
        path=shelf / wheel.name,
        project=project,
        version=str(version),
        sha256=digest,
        size=size,
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        requires_python=fields.get("requires_python", ""),
        shelved_at=now,
    )
    return entry, metadata


def read_metadata(wheel: Path) -> bytes:
    """Return the bytes of the one METADATA in the wheel; raise `bad-wheel` for another number."""
    with zipfile.ZipFile(wheel) as archive:
        names = [
            name
            for name in archive.namelist()
            if name.count("/") == 1 and name.endswith(".dist-info/METADATA")
        ]
        if len(names) != 1:
            raise bad_wheel(wheel, f"holds {len(names)} .dist-info/METADATA, not one")
        return held(archive, names[0])


def bad_wheel(wheel: Path, fact: str) -> BlackwheelError:
    """Return the error for a damaged or incomplete wheel file."""
    return BlackwheelError(
        "bad-wheel", fact, where=str(wheel), fix="invoke build-wheels --again", code=Exit.INDEX
    )
