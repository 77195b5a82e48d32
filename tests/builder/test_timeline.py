from __future__ import annotations

from typing import Any

import pytest
from page_reader import Reader

from blackwheel.builder import timeline, timeline_page


def one(began: float, seconds: float, **more: Any) -> dict[str, Any]:
    held = {"source": "one.cu", "cpu_seconds": seconds, "peak_bytes": 1 << 30, "exit": 0}
    return {**held, "began": began, "seconds": seconds, **more}


def test_objects_at_the_same_time_lie_on_lanes_of_their_own() -> None:
    run = timeline.drawn([one(1000, 10), one(1001, 3), one(1004.1, 5), one(1010, 2)])
    assert (run.lanes, run.width, run.seconds) == ((0, 1, 1, 0), 2, 12)


def test_only_the_last_run_is_drawn() -> None:
    run = timeline.drawn([one(1000, 10), one(9000, 5)])
    assert (len(run.objects), run.seconds) == (1, 5)


@pytest.mark.parametrize(
    ("objects", "word"),
    [
        ([one(0, 10), one(0, 10)], "the cores: 2 lanes kept 2.0 of them busy"),
        (
            [one(0, 10, source="last.cu"), one(0, 2)],
            "one long object at the end: last.cu ran alone for 8.0 s",
        ),
        (
            [one(0, 10, cpu_seconds=2), one(0, 10)],
            "something beside the compilers: 2 lanes used only 1.2 cores",
        ),
    ],
)
def test_report_says_what_limited_the_build(objects: list[dict[str, Any]], word: str) -> None:
    assert timeline.limit(timeline.drawn(objects)).startswith(word)


def test_records_are_put_in_order_of_their_start() -> None:
    assert timeline.drawn([one(9, 1), one(0, 10)]).began == 0


def page(*found: dict[str, Any]) -> Reader:
    run = timeline.drawn(found)
    return Reader(timeline_page.page("toy", timeline.told(run), run))


def test_page_has_an_axis_with_times() -> None:
    axis = page(one(0, 600), one(0, 500)).words
    assert "0:00 2:00 4:00 6:00 8:00 10:00 Time since" in axis
    assert [text for _, text in timeline_page._ticks(9000)][:3] == ["0:00", "30:00", "1:00:00"]
    assert all(len(timeline_page._ticks(seconds)) <= 8 for seconds in range(1, 600_000, 997))


def test_bar_names_its_object_and_leads_to_the_row_with_all_of_it() -> None:
    seen = page(one(0, 4, source="small.cu"), one(4, 16, source="large.cu", peak_bytes=4 << 30))
    bars = [attrs for attrs in seen.attributes("a") if "title" in attrs]
    assert [(bar["href"], bar["title"]) for bar in bars] == [
        ("#o1", "large.cu: 16 s, 4.0 GiB"),
        ("#o2", "small.cu: 4.0 s, 1.0 GiB"),
    ]
    assert "left:20.000%;width:80.000%" in str(bars[0]["style"])
    assert "--share:100%" in str(bars[0]["style"]) and "--share:25%" in str(bars[1]["style"])
    assert [row["id"] for row in seen.attributes("tr") if "id" in row] == ["o1", "o2"]
    assert "1 large.cu 16 s 16 s 4.0 s 4.0 GiB 2 small.cu 4.0 s 4.0 s 0.0 s 1.0 GiB" in seen.words


def test_cached_and_failed_objects_are_told_in_words() -> None:
    seen = page(one(0, 4, cached=True), one(4, 4, exit=2))
    classes = [attrs["class"] for attrs in seen.attributes("a") if "title" in attrs]
    assert sorted(map(str, classes)) == ["heat cached", "heat failed"]
    assert "from the cache" in seen.words and "exit code 2" in seen.words


def test_page_asks_nothing_of_any_network_and_escapes_names() -> None:
    seen = page(one(0, 4, source="<b>.cu"))
    assert not [word for word in ("http", "src=", "@import") if word in seen.text]
    assert "<b>.cu" in seen.words


def test_report_of_a_receipt_says_what_it_leaves_out() -> None:
    objects = [one(0, 4, source="old.cu"), one(9000, 4, source="new.cu")]
    seen = Reader(timeline_page.recorded_page("toy", objects, [("Wheels", "index.html")]))
    assert "1 more objects are of earlier runs" in seen.words
    assert "old.cu" not in seen.words
    assert seen.links["Wheels"] == "index.html"
    assert timeline_page.recorded_page("toy", [], []) == ""
