"""What nobody here has of a project is one list, and no traceback or half a plan."""

from __future__ import annotations

import json
from pathlib import Path

import proved
import pytest

from blackwheel.commands import views
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site
from blackwheel.pipeline.missing import missing
from blackwheel.pipeline.todo import work
from blackwheel.stacks.ask import requests


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A stack whose project `toy` lacks all that can be lacking; `other` lacks nothing."""
    site = proved.new_checkout(tmp_path / "checkout")
    toml = site.constraints / "toy.toml"
    text = toml.read_text("utf-8").replace('modules = ["toy"]', 'modules = ["toy"]\ngcc = "99"')
    nested = '[[projects.toy.nested]]\npath = "third_party/n"\nurl = "https://upstream.invalid/n"\n'
    toml.write_text(text + nested, encoding="utf-8")
    (site.patches / "toy" / "1.0" / "series").unlink()
    (site.patches / "toy" / "1.0").rmdir()
    return site


def test_plan_ends_with_one_list_of_what_is_missing(site: Site) -> None:
    views.show_plan(site, "toy")
    lines = proved.said(site).splitlines()
    start = lines.index(f"missing, before toy 1.0+{proved.LABEL}.1 can be built:")
    assert lines[start + 1 : start + 3] == [
        "  nested source third_party/n: nobody here has seen which commit is wanted",
        "  there is no series of patches for toy 1.0, not even an empty one;"
        " invoke pin toy 1.0 --stack toy makes it",
    ]
    assert lines[start + 3].startswith("  toy 1.0 wants gcc 99 or newer; ")
    assert lines[start + 3].endswith("; apt-get install g++-99, then: export CXX=g++-99")
    assert len(lines) == start + 4
    assert any(line.startswith("other 1.0+") for line in lines[:start])


def test_plan_as_json_says_what_is_missing(site: Site) -> None:
    views.show_plan(site, "toy", as_json=True)
    document = json.loads(proved.said(site))
    assert document["schema"] == "blackwheel.plan/1"
    assert [row["project"] for row in document["plans"]] == ["other"]
    assert [len(lines) for lines in document["missing"].values()] == [3]


def test_build_of_a_project_without_a_series_names_the_command(site: Site) -> None:
    (asked, other), python = requests(site, "toy")
    assert list(missing(site, other)) == []
    with pytest.raises(BlackwheelError) as caught:
        work(site, asked, python)
    assert (caught.value.name, caught.value.where) == ("no-series", "patches/toy/1.0/series")
