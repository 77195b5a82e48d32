"""What a build is said to cost: measured, told by the nearest version, or unknown."""

from __future__ import annotations

from pathlib import Path

import proved
import pytest

from blackwheel.builder.plan import Width, queued
from blackwheel.builder.spent import Spent, spent
from blackwheel.commands import views
from blackwheel.core.site import Site
from blackwheel.stacks import loader
from blackwheel.stacks.request import Request

ROOT = Path(__file__).parents[2]
TWO = Width(most=2, least=2)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = proved.new_checkout(tmp_path)
    for name, version, seconds, variant in (
        ("oldest", "0.9", 900, ""),
        ("older", "1.2", 1200, ""),
        ("chat", "1.4", 5, "chat"),
        ("newer", "2.0", 2000, ""),
    ):
        text = f'extends = "toy"\n[projects.toy]\nversion = "{version}"\nvariant = "{variant}"\n'
        stack = made.constraints / f"{name}.toml"
        stack.write_text(f"{text}cpu_seconds = {seconds}\n", encoding="utf-8")
    (made.constraints / "broken.toml").write_text("what = 1\n", encoding="utf-8")
    return made


def expected(site: Site, text: str, archs: tuple[str, ...] = ("12.0a",)) -> Spent:
    path = site.constraints / "asked.toml"
    path.write_text(f'extends = "toy"\n[projects.toy]\n{text}', encoding="utf-8")
    stack = loader.load("asked", site.constraints)
    return spent(site, Request(stack=stack, project="toy", python=proved.PYTHON, archs=archs))


def test_own_figure_goes_before_any_other(site: Site) -> None:
    found = expected(site, 'version = "1.2"\ncpu_seconds = 77\n')
    assert found == Spent(seconds=77)
    assert found.took(TWO) == "38 s"


def test_ninja_hands_out_all_that_memory_lets_wait() -> None:
    assert queued(16, 120 << 30) == 480, "seen: of 138 steps on 16 cores the longest came last"
    assert queued(2, 2 << 30) == 16, "eight a core where memory is scarce"


def test_what_was_compiled_before_costs_nothing_more() -> None:
    whole = Spent(seconds=8000, of="stable")
    assert whole.rest(150, 200) == Spent(seconds=2000, of="stable")
    assert whole.rest(200, 200).took(TWO) == ""
    assert whole.rest(3, 0) == whole, "nobody knows of how many"


@pytest.mark.parametrize(
    ("version", "seconds", "of"),
    [("1.3", 1200, "1.2"), ("1.2", 1200, "older"), ("9.0", 2000, "2.0"), ("0.1", 900, "0.9")],
)
def test_nearest_version_that_was_measured_is_named(
    site: Site, version: str, seconds: int, of: str
) -> None:
    found = expected(site, f'version = "{version}"\n')
    assert found == Spent(seconds=seconds, of=of)
    assert found.took(TWO).endswith(f" by {of}'s figures")
    twice = expected(site, f'version = "{version}"\n', ("9.0", "12.0a"))
    assert twice.seconds == 2 * seconds


def test_other_selection_of_kernels_says_nothing(site: Site) -> None:
    found = expected(site, 'version = "1.4"\nvariant = "small"\n')
    assert found == Spent()
    assert found.took(TWO) == ""


def test_vllm_of_stable_is_told_by_its_own_or_an_older_one() -> None:
    stack = loader.load("stable", ROOT / "constraints")
    asked = Request(stack=stack, project="vllm", python="3.12", archs=stack.archs)
    found = spent(proved.site_of(ROOT), asked)
    assert found.seconds > 0
    assert not found.of or found.of != stack.projects["vllm"].version


def test_plan_names_the_version_whose_figures_it_takes(site: Site) -> None:
    text = 'extends = "toy"\nlocks = "toy"\n[projects.toy]\nversion = "1.0"\n'
    (site.constraints / "asked.toml").write_text(text, encoding="utf-8")
    views.show_plan(site, "asked", only=["toy"], python=proved.PYTHON, jobs=1)
    assert "1 at once, 15 min 00 s by 0.9's figures\n" in proved.said(site)
