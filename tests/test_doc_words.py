"""Documents say how kernels run on a card in the words of the audit, and in no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from blackwheel.audit import on_card

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OTHERS = re.compile(
    r"SASS of the family|other SASS|only PTX|nothing for 12"
    r"|\| native 12\.0a \|.*\| (nothing|none) \|"
)
"""Names that the four ways had before; decisions keep the words of their day."""


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.parent.name != "decisions"],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_pages_call_the_four_ways_by_no_other_name(page: Path) -> None:
    assert not OTHERS.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["README.md", "docs/architecture.md", "docs/registry-wheels.md"])
def test_words_are_explained_where_readers_meet_them(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8").lower()
    assert not [way for way in on_card.WAYS.values() if f"*{way.lower()}*" not in text]


def test_tables_of_the_audited_wheels_have_the_heads_of_the_audit() -> None:
    text = (ROOT / "docs" / "registry-wheels.md").read_text(encoding="utf-8")
    heads = f"| {' | '.join(on_card.HEADS)} |"
    assert text.count(heads) == 4
    found = OTHERS.search("| wheel | kernels | native 12.0a | family | only PTX | none |")
    assert found, "the names of before are no longer looked for"
