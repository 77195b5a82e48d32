"""How templates are filled: escaped, bounded, strict, and always alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import UndefinedError
from page_reader import Reader

from blackwheel.pages import render

HEADS = {"title": "t", "crumbs": (), "here": ""}


def test_value_that_a_page_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="stacks"):
        render.render("stacks", **HEADS)


def test_text_is_bounded_and_shows_what_cannot_be_seen() -> None:
    assert render.plain("a" * 1000) == "a" * 1000
    assert render.plain("a" * 1001) == "a" * 999 + "…"
    assert render.plain("a\nb\x1b[31m\u202ec") == "a�b�[31m�c"


def test_every_text_of_a_template_is_bounded_and_escaped() -> None:
    text = render.render("stacks", **{**HEADS, "title": "<b>" + "x" * 2000}, stacks=[])
    assert f"<title>&lt;b&gt;{'x' * 996}…</title>" in text
    assert "x" * 1000 not in text


def test_name_may_be_broken_after_its_parts() -> None:
    text = render.render("stacks", **HEADS, stacks=[("a/b-c.d&e", [])])
    assert ">a/<wbr>b-<wbr>c.<wbr>d&amp;e</a>" in text
    assert Reader(text).links == {"a/b-c.d&e": "a/b-c.d%26e/index.html"}


def test_long_list_is_cut_and_says_so() -> None:
    from blackwheel.builder import timeline, timeline_page

    many = [
        {
            "source": f"{n}.cu",
            "began": n,
            "seconds": 1,
            "cpu_seconds": 1,
            "peak_bytes": 1,
            "exit": 0,
        }
        for n in range(render.MOST_ROWS + 7)
    ]
    page = Reader(timeline_page.page("many", [], timeline.drawn(many)))
    assert len([one for one in page.attributes("tr") if "id" in one]) == render.MOST_ROWS
    assert "and 7 more" in page.words


def test_stamp_is_found_and_the_rest_compared_without_it() -> None:
    text = render.render("stacks", **HEADS, stacks=[]).encode()
    by, rest = render.without_stamp(text)
    assert by == render.stamp()
    assert len(rest.split(b"\n")) == len(text.split(b"\n"))
    assert render.without_stamp(text.replace(by.encode(), b"blackwheel 9, pages 0123456789ab")) == (
        "blackwheel 9, pages 0123456789ab",
        rest,
    )
    assert render.without_stamp(b"<html>") == ("", b"<html>")


def test_stamp_covers_every_module_that_draws() -> None:
    package = Path(render.__file__).parents[1]
    drawing = {
        path.name
        for path in package.rglob("*.py")
        if "pages.render import render" in path.read_text(encoding="utf-8")
    }
    assert drawing and all(name.endswith("page.py") for name in drawing)


def test_colors_can_be_read_in_light_and_dark() -> None:
    style = (Path(render.__file__).parent / "style.css").read_text(encoding="utf-8")
    light, dark = (colors(part) for part in style.split("prefers-color-scheme: dark"))
    for theme in (light, dark):
        for ink, paper in (
            *((name, "paper") for name in ("ink", "soft", "link", "native", "amber", "missing")),
            *((name, "shade") for name in ("ink", "soft", "native", "missing")),
            ("amber", "amber-paper"),
        ):
            assert contrast(theme[ink], theme[paper]) >= 4.5, (ink, paper)


def colors(text: str) -> dict[str, str]:
    import re

    found: dict[str, str] = {}
    for name, color in re.findall(r"--([\w-]+): (#[0-9a-f]{6})", text):
        found.setdefault(name, color)
    return found


def contrast(one: str, other: str) -> float:
    """The ratio that WCAG 2 defines."""

    def light(color: str) -> float:
        parts = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        red, green, blue = (
            p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
