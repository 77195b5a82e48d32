"""The rendered site has every page in its navigation; `nox -s docs` renders it and checks links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_scripts import script

ROOT = Path(__file__).parents[1]
site = script("site/conf")


def test_every_page_is_in_the_navigation_once() -> None:
    listed = re.findall(r"^/(\S+)$", site.toctrees(), re.MULTILINE)
    folders = ("docs", "benchmarks")
    wanted = {"wheels/README", *(name for folder in folders for name in site.pages(folder))}
    wanted |= {path.stem for path in ROOT.glob("*.md")} - {site.root_doc}
    assert len(wanted) > 50
    assert sorted(listed) == sorted(wanted), "link it from docs/README.md"


def test_groups_are_the_headings_of_the_index() -> None:
    text = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    groups = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert list(site.navigation()) == [*groups, "Decisions"]
    for group in groups:
        assert f":caption: {group}\n" in site.toctrees()


def test_page_that_the_index_does_not_link_is_in_no_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs" / "decisions").mkdir(parents=True)
    for name in ("here", "lonely"):
        (tmp_path / "docs" / f"{name}.md").write_text(f"# {name}\n", encoding="utf-8")
    index = "# All\n\n## Use it\n[here](here.md#a) [file](here.txt) [again](here.md)\n"
    (tmp_path / "docs" / "README.md").write_text(index, encoding="utf-8")
    monkeypatch.setattr(site, "ROOT", tmp_path)
    groups = {"Use it": ["docs/here"], "Decisions": ["docs/decisions/README"]}
    assert site.navigation() == groups


def test_link_to_a_folder_becomes_its_words_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "peers").mkdir()
    text = "[peers](peers), [gone](gone), [page](a.md#b), [web](https://web.invalid/peers)"
    made = site.without_folders(text, tmp_path / "page.md")
    assert made == text.replace("[peers](peers)", "peers")


def test_a_warning_ends_the_session_and_the_lock_is_its_own() -> None:
    text = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    session = text[text.index("def docs(") :].partition("@nox.session")[0]
    assert '"--fail-on-warning"' in session
    assert '_sync(session, ".ci/docs.txt")' in session
