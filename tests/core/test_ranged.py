"""A wheel is read at its address, part by part, and within bounds."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator

import pytest
from nightly_index import Index, serving, torch

from blackwheel.core import ranged
from blackwheel.core.http import AbsentError, FailedError, Patience

ONCE = Patience(tries=2, pause=lambda _: None)
NAME = "torch-2.15.0-cp311-cp311-manylinux_2_28_x86_64.whl"


@pytest.fixture
def index() -> Iterator[Index]:
    with serving() as index:
        index.add(NAME, torch("2.15.0", size=8 << 20))
        yield index


def address(index: Index) -> str:
    return f"{index.channel()}/{NAME}"


def test_member_of_a_large_wheel_costs_a_few_parts(index: Index) -> None:
    with ranged.opened_remotely(address(index), ONCE) as file, zipfile.ZipFile(file) as wheel:
        assert b"git_version" in wheel.read("torch/version.py")
        assert file.seek(0, 2) == len(index.files[f"/whl/nightly/cu128/{NAME}"].data)
    asked = [headers["Range"] for headers in index.requests_for(NAME)]
    spans = [tuple(map(int, one.removeprefix("bytes=").split("-"))) for one in asked]
    assert sum(last - first + 1 for first, last in spans) < 4 << 20
    assert index.sent == []


def test_what_is_no_part_of_one_file_is_refused(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AbsentError):
        ranged.opened_remotely(f"{index.channel()}/other.whl", ONCE)
    file = ranged.opened_remotely(address(index), ONCE)
    index.add(NAME, torch("2.15.0", size=9 << 20))
    with pytest.raises(FailedError, match="changed while it was read"):
        file.read(9)
    monkeypatch.setattr(ranged, "MOST", 2 << 20)
    with pytest.raises(FailedError, match="more than 2097152 bytes"):
        ranged.opened_remotely(address(index), ONCE).read()
    index.ranges = False
    with pytest.raises(FailedError, match="sends no part of a file"):
        ranged.opened_remotely(address(index), ONCE)
