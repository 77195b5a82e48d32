from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blackwheel.builder import timeline_page
from blackwheel.commands import report
from blackwheel.core import site
from blackwheel.core.errors import BlackwheelError


def one(began: float, seconds: float, **more: Any) -> dict[str, Any]:
    held = {"source": "one.cu", "cpu_seconds": seconds, "peak_bytes": 1 << 30, "exit": 0}
    return {**held, "began": began, "seconds": seconds, **more}


def test_objects_at_the_same_time_lie_on_lanes_of_their_own() -> None:
    run = report.drawn([one(1000, 10), one(1001, 3), one(1004.1, 5), one(1010, 2)])
    assert (run.lanes, run.width, run.seconds) == ((0, 1, 1, 0), 2, 12)


def test_only_the_last_run_is_drawn() -> None:
    run = report.drawn([one(1000, 10), one(9000, 5)])
    assert (len(run.objects), run.seconds) == (1, 5)


@pytest.mark.parametrize(
    ("objects", "word"),
    [
        ([one(0, 10), one(0, 10)], "cores: the 2 lanes were busy with 2.0 cores"),
        ([one(0, 10), one(0, 2)], "one long object at the end: 8.0 s alone"),
        ([one(0, 10, cpu_seconds=2), one(0, 10)], "not its own work"),
    ],
)
def test_report_says_what_limited_the_build(objects: list[dict[str, Any]], word: str) -> None:
    assert report.limit(report.drawn(objects)).startswith(word)


def test_page_asks_nothing_of_any_network_and_escapes_names() -> None:
    run = report.drawn([one(0, 4, source="<b>.cu", cached=True)])
    text = timeline_page.page("a build", report.told(run), run, report.slowest(run))
    assert "&lt;b&gt;.cu" in text
    assert "<b>" not in text
    assert 'class="cached"' in text
    assert not [word for word in ("http", "src=", "@import", "@bars@") if word in text]


def test_report_of_a_stack_that_was_never_built_says_how_to_build_it(tmp_path: Path) -> None:
    here = site.here({"BLACKWHEEL_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    with pytest.raises(BlackwheelError) as caught:
        report.show_report(here, "quickstart", project="", python="", out="")
    assert str(caught.value) == (
        "error: no-records\n"
        "  nothing of quickstart was compiled here\n"
        f"  where: {tmp_path}/builds/quickstart\n"
        "  fix:   invoke build-wheels --stack quickstart"
    )
