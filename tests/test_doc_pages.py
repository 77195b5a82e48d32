"""The documents lead to each other, README every command, stacks.md every stack."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_scripts import script

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
PAGES = [
    *ROOT.glob("*.md"),
    *(path for name in ("docs", "benchmarks", "wheels") for path in (ROOT / name).rglob("*.md")),
]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (
        re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", head).lower().replace("`", "") for head in heads
    )
    return {re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in plain}


def broken(page: Path) -> list[str]:
    """Return the relative links of a page that lead to no file or no heading."""
    found = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    assert not broken(page)


def test_link_to_a_heading_that_is_gone_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Exit codes\n", encoding="utf-8")
    page = tmp_path / "b.md"
    page.write_text("[a](a.md#exit-codes) [b](a.md#gone) [c](c.md)\n", encoding="utf-8")
    assert broken(page) == ["a.md#gone", "c.md"]


def test_index_links_every_page() -> None:
    text = (DOCS / "README.md").read_text(encoding="utf-8")
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in LINK.findall(text)}
    wanted = {path for path in PAGES if path.is_relative_to(DOCS) or "benchmarks" in path.parts}
    wanted -= {*(DOCS / "decisions").glob("[0-9]*.md"), DOCS / "README.md"}
    assert len(wanted) > 20
    assert not sorted(str(path.relative_to(ROOT)) for path in wanted - linked)


def test_readme_names_every_stack() -> None:
    rows = (DOCS / "stacks.md").read_text(encoding="utf-8")
    few = README.partition("\n## Stacks")[2].partition("\n## ")[0]
    shown = [line for line in few.splitlines() if line.startswith("| `")]
    assert shown
    assert set(shown) <= set(rows.splitlines())
    named = set(re.findall(r"`([\w-]+)`", rows))
    assert {path.stem for path in (ROOT / "constraints").glob("*.toml")} <= named


def test_readme_names_every_command_in_its_group() -> None:
    commands = script("commands")
    found = commands.tasks()
    for group, names in commands.GROUPS.items():
        row = " ".join(f"`{name}`" for name in names if name in found)
        assert f"| {group} | {row} |" in README


def test_readme_explains_the_words_that_a_first_reader_meets() -> None:
    words = README.partition("**Words:**")[2].lower()
    assert words
    wanted = ("sass", "natively", "through ptx", "family", "series", "revision", "recipe")
    wanted += ("shelf", "receipt")
    assert [word for word in wanted if f"*{word}*" not in words] == []


def test_readme_is_read_in_five_minutes() -> None:
    assert len(re.findall(r"[^\s|]+", README)) < 940
