"""A file of a zip archive is read within a bound."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from blackwheel.core.zips import UNREADABLE, held


def packed(path: Path, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", data)
    return path


def test_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    with zipfile.ZipFile(packed(tmp_path / "a.zip", b"x" * 100)) as archive:
        assert held(archive, "a", most=100) == b"x" * 100
        with pytest.raises(zipfile.BadZipFile, match="a has more than 99 bytes"):
            held(archive, "a", most=99)


def test_bomb_takes_no_memory(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", bytes(200 << 20))
    with zipfile.ZipFile(path) as archive, pytest.raises(zipfile.BadZipFile):
        held(archive, "a", most=1 << 20)


def test_damaged_archive_is_unreadable(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", b"text" * 100)
    data = path.read_bytes()
    path.write_bytes(data[:40] + bytes([data[40] ^ 255]) + data[41:])
    with zipfile.ZipFile(path) as archive, pytest.raises(UNREADABLE):
        held(archive, "a")
