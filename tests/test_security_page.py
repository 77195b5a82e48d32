"""SECURITY.md: the tests that play each writer are there, and so is each writer's table."""

from __future__ import annotations

import re
from pathlib import Path

import forging
import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
PLAYED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)


@pytest.mark.parametrize(("file", "test"), PLAYED, ids=lambda one: str(one)[-40:])
def test_test_that_plays_a_writer_is_there(file: str, test: str) -> None:
    assert f"\ndef {test}(" in (ROOT / file).read_text(encoding="utf-8")


def test_each_writer_is_played_and_has_its_table_of_forgeries() -> None:
    rows = dict(re.findall(r"(?m)^\| ([a-z ]+) \| (`tests/.+) \|$", PAGE))
    forged = (ROOT / "docs" / "forgeries.md").read_text(encoding="utf-8")
    for who in ("checkout", "store", "shelf"):
        assert f"writer of the {who}" in rows
        assert f"## Writer of the {who}\n" in forged
    assert "writer of an index" in rows and "## Writer of an index\n" in forged
    assert len(PLAYED) > 8


def test_no_forgery_goes_unnoticed_but_for_those_that_are_named() -> None:
    forged = (ROOT / "docs" / "forgeries.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `(\S+)` \| (\*\*said, not proved\*\*|`.+`) \| (\d+) \|$", forged)
    assert len(rows) > 50
    said = [name for name, what, _ in rows if what.startswith("**")]
    assert [one for one in said if not forging.is_said(one)] == []
    for title, table in re.findall(r"(?ms)^## (Writer of .+?)\n(.+?)(?=^## |\Z)", forged):
        empty = [row for row in table.splitlines() if re.search(r"\|\s+\|", row)]
        assert not empty, f"{title}: {empty}"
