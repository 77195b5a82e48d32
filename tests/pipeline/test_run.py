"""What is built beside what: Pythons that are asked for, lanes, and who goes on when one fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blackwheel.builder import memory_pool
from blackwheel.core import isolation, site
from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.isolation import Isolation
from blackwheel.core.site import Site
from blackwheel.pipeline import chain, sessions, todo
from blackwheel.pipeline import run as building
from blackwheel.pipeline.session_file import BuildOrder, build_order
from blackwheel.stacks.ask import for_pythons


@pytest.fixture
def here(tmp_path: Path) -> Site:
    return site.here({"BLACKWHEEL_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})


def asked(here: Site, python: str) -> list[tuple[str, str]]:
    found = for_pythons(here, "torch211", python)
    return [(request.project, chosen.version) for request, chosen in found]


def items(here: Site, python: str) -> list[todo.Work]:
    return [
        todo.work(here, request, chosen)
        for request, chosen in for_pythons(here, "torch211", python)
    ]


def test_several_pythons_are_asked_for_by_a_list_or_all_of_the_stack(here: Site) -> None:
    both = [("flash-attn", "3.12"), ("vllm", "3.12"), ("flash-attn", "3.13"), ("vllm", "3.13")]
    assert asked(here, "3.12, 3.13") == both
    assert asked(here, "3.12,3.13,3.12,") == both, "each once, and an empty word is none"
    assert {version for _, version in asked(here, "all")} == {"3.11", "3.12", "3.13"}
    assert len(asked(here, "")) == 2, "one Python where none is named"
    with pytest.raises(BlackwheelError, match="python-not-served"):
        asked(here, "3.12,3.9")


@pytest.mark.parametrize(
    ("python", "mode", "cached", "pooled", "jobs", "expected"),
    [
        ("3.12", isolation.NAMESPACES, False, True, 0, ["flash-attn", "vllm"]),
        (
            "3.12,3.13",
            isolation.NAMESPACES,
            False,
            True,
            0,
            ["flash-attn 3.12", "vllm 3.12", "flash-attn 3.13", "vllm 3.13"],
        ),
        ("3.12,3.13", isolation.NAMESPACES, True, True, 0, ["flash-attn", "vllm"]),
        ("3.12,3.13", isolation.PROCESSES, False, True, 0, [""]),
        ("3.12", isolation.NAMESPACES, False, False, 0, [""]),
        ("3.12", isolation.NAMESPACES, False, True, 2, [""]),
    ],
    ids=["projects", "pythons", "cache", "one place", "nothing shares memory", "jobs"],
)
def test_lanes_hold_what_can_be_built_at_the_same_time(
    here: Site,
    monkeypatch: pytest.MonkeyPatch,
    python: str,
    mode: str,
    cached: bool,
    pooled: bool,
    jobs: int,
    expected: list[str],
) -> None:
    known = Isolation(mode=mode, reason="")
    monkeypatch.setattr(todo, "isolation_mode", lambda _: known)
    monkeypatch.setattr(building.compile_cache, "found", lambda *_: object() if cached else None)
    monkeypatch.setattr(memory_pool, "folder", lambda _: here.store if pooled else None)
    pending = items(here, python)
    orders = [build_order(item, here.constraints) for item in pending]
    lanes = building._lanes(here, orders, jobs=jobs)
    assert list(lanes) == expected
    assert sorted(one.item.key.digest for lane in lanes.values() for one in lane) == sorted(
        item.key.digest for item in pending
    )
    for lane in lanes.values():
        for one in lane:
            assert f"build({one.item.request.project})" in one.command
            assert one.command[-1] == "--session-file"
            assert isinstance(one.order, BuildOrder)
            assert (one.order.python, one.order.jobs) == (one.item.python.where, 0)


@pytest.mark.parametrize("keep_going", [True, False])
def test_source_out_of_reach_ends_the_run_unless_it_keeps_going(
    here: Site, monkeypatch: pytest.MonkeyPatch, keep_going: bool
) -> None:
    console = Quiet()
    here = replace(here, console=console)
    gone = BlackwheelError("source-missing", "no host", where="vllm", fix="", code=Exit.SOURCE)
    began: list[str] = []

    def patched(_: Site, request: Any, series: Any) -> None:
        assert series.project == request.project
        if request.project == "vllm":
            raise gone

    def run(_: Site, lanes: Any, *, keep_going: bool) -> tuple[int, list[sessions.Outcome]]:
        began.extend(lanes)
        return 0, []

    monkeypatch.setattr(chain, "patched_tree", patched)
    monkeypatch.setattr(sessions, "run", run)
    monkeypatch.setattr(building, "_require_disk", lambda *_: None)

    def built() -> int:
        pending = items(here, "3.12")
        return building._built(here, pending, jobs=2, again=True, keep_going=keep_going)[0]

    if not keep_going:
        with pytest.raises(BlackwheelError, match="source-missing"):
            built()
        assert began == []
        return
    assert built() == Exit.SOURCE
    assert began == [""], "the other project"
    assert "error: source-missing" in console.lines


@pytest.mark.parametrize("keep_going", [True, False])
def test_session_that_ended_well_without_a_wheel_of_the_key_is_an_error(
    here: Site, monkeypatch: pytest.MonkeyPatch, keep_going: bool
) -> None:
    here = replace(here, console=Quiet())
    other = here.store / "other.whl"
    here.store.mkdir(exist_ok=True)
    other.write_bytes(b"")
    Path(f"{other}.receipt.json").write_text("{}", encoding="utf-8")
    pending = items(here, "3.12")

    def run(_: Site, lanes: Any, *, keep_going: bool) -> tuple[int, list[sessions.Outcome]]:
        wheels = zip(pending, (None, other), strict=True)
        return 0, [sessions.Outcome(item=item, code=0, wheel=wheel) for item, wheel in wheels]

    monkeypatch.setattr(chain, "patched_tree", lambda *_: None)
    monkeypatch.setattr(sessions, "run", run)
    monkeypatch.setattr(building, "_require_disk", lambda *_: None)

    def built() -> tuple[int, Any]:
        return building._built(here, pending, jobs=2, again=True, keep_going=keep_going)

    if keep_going:
        assert built() == (Exit.BUILD, [])
        return
    with pytest.raises(BlackwheelError) as caught:
        built()
    assert (caught.value.name, pending[0].key.digest in caught.value.fact) == (
        "wheel-missing",
        True,
    )
