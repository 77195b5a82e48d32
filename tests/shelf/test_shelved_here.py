"""The store's note of what it shelved: a witness that a forger of the shelf does not have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blackwheel.receipts import document as receipts
from blackwheel.shelf import shelved_here

NAME = "toy-1.0-py3-none-any.whl"


def receipt(device: str) -> receipts.Document:
    return receipts.receipt(NAME, "a" * 64, {"smoke": {"device": device}})


def test_store_knows_the_receipts_that_it_shelved_and_no_others(tmp_path: Path) -> None:
    assert shelved_here.is_known(tmp_path, NAME, receipt("one")) is None
    shelved_here.remember(tmp_path, NAME, receipt("one"))
    shelved_here.remember(tmp_path, NAME, receipt("two"))
    shelved_here.remember(tmp_path, NAME, receipt("one"))
    known = shelved_here.known_receipts(tmp_path, NAME)
    assert known is not None and len(known) == 2
    assert shelved_here.is_known(tmp_path, NAME, receipt("two"))
    assert shelved_here.is_known(tmp_path, NAME, receipt("forged")) is False


def test_note_stays_small(tmp_path: Path) -> None:
    for number in range(70):
        shelved_here.remember(tmp_path, NAME, receipt(str(number)))
    assert len(shelved_here.known_receipts(tmp_path, NAME) or ()) == shelved_here.MOST
    assert shelved_here.is_known(tmp_path, NAME, receipt("69"))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"receipts": 7}', '{"receipts": [7]}', "[" * 90_000, "NaN"]
)
def test_note_that_cannot_be_read_proves_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "receipts" / f"{NAME}.json"
    path.parent.mkdir()
    path.write_text(text)
    assert shelved_here.is_known(tmp_path, NAME, receipt("one")) is False
    path.unlink()
    os.mkfifo(path)
    assert shelved_here.is_known(tmp_path, NAME, receipt("one")) is False
