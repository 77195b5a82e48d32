"""Index of decisions: complete, and equal to its notes; relative links lead to files."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "decisions"
NOTES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
GIVEN_OUT_FROM = 31
"""From here on a number is taken when work on a note begins, and notes are merged in any order."""
ROW = re.compile(r"^\| \[(?P<title>.+)\]\((?P<file>[^)]+)\) \| (?P<day>\S+) \| (?P<short>.+) \|$")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def rows() -> list[dict[str, str]]:
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    return [found.groupdict() for line in lines if (found := ROW.match(line))]


def test_index_lists_every_note_once_and_in_order() -> None:
    assert [row["file"] for row in rows()] == [note.name for note in NOTES]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["file"])
def test_row_of_the_index_says_what_its_note_says(row: dict[str, str]) -> None:
    title, blank, short = (FOLDER / row["file"]).read_text(encoding="utf-8").splitlines()[:3]
    assert (title, blank) == (f"# {row['title']}", "")
    assert short == f"In short: {row['short']}"
    assert row["title"].startswith(f"{row['file'][:4]} ")
    assert row["short"].endswith(".") and "? " not in row["short"]
    assert date.fromisoformat(row["day"]) >= date(2026, 11, 22)


def test_number_without_a_note_is_explained() -> None:
    used = {int(note.name[:4]) for note in NOTES}
    gaps = [number for number in range(1, GIVEN_OUT_FROM) if number not in used]
    text = (FOLDER / "README.md").read_text(encoding="utf-8").partition("\n| note")[0]
    said = [int(number) for number in re.findall(r"\b\d{4}\b", text)]
    assert said == [*gaps, GIVEN_OUT_FROM]


def documents() -> list[Path]:
    folders = ("docs", "benchmarks")
    return [*ROOT.glob("*.md"), *(path for name in folders for path in (ROOT / name).rglob("*.md"))]


def test_relative_links_of_all_documents_lead_to_files() -> None:
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents()
        for target in LINK.findall(document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert not broken


def test_code_names_only_notes_that_exist() -> None:
    found = {
        name
        for path in (ROOT / "blackwheel").rglob("*.py")
        for name in re.findall(r"decisions/([\w.-]+\.md)", path.read_text(encoding="utf-8"))
    }
    assert found and found <= {note.name for note in NOTES}
