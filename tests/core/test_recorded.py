"""A RECORD is read within its bound, by one reader; what it does not tell is a fault."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest

from blackwheel.core import recorded
from blackwheel.core.settled import Digests

CODED = base64.urlsafe_b64encode(hashlib.sha256(b"x").digest()).rstrip(b"=").decode()


@pytest.fixture
def record(tmp_path: Path) -> Path:
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (tmp_path / "toy.py").write_bytes(b"x")
    (info / "RECORD").write_text(
        f"toy.py,sha256={CODED},1\nmore/toy.so,md5=aa,1\ntoy-1.0.dist-info/RECORD,,\n"
    )
    return info / "RECORD"


def changed(record: Path) -> list[str]:
    packages = record.parent.parent
    return [str(one) for one in recorded.changed(packages, Digests(packages, None))]


def test_each_file_has_its_sha256_or_none(record: Path) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    own = "toy-1.0.dist-info/RECORD"
    assert list(recorded.entries(record)) == [("toy.py", digest), ("more/toy.so", ""), (own, None)]
    assert list(recorded.entries(record, ("more/",))) == [("more/toy.so", "")]


def test_record_over_its_bound_is_a_fault_though_its_beginning_is_right(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.write_text(f"toy.py,sha256={CODED},1\ngone.py,sha256={CODED},1\n")
    assert changed(record) == ["gone.py of toy is missing"]
    monkeypatch.setattr(recorded, "MOST_BYTES", record.read_bytes().index(b"gone.py"))
    assert changed(record) == ["toy-1.0.dist-info/RECORD of toy has no sha256 in RECORD"]


def test_record_that_is_a_pipe_is_a_fault(record: Path) -> None:
    record.unlink()
    os.mkfifo(record)
    assert list(recorded.entries(record)) == [("toy-1.0.dist-info/RECORD", "")]
