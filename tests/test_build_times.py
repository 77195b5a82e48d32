"""The hours of docs/build-times.md are what benchmarks/build_times.py computes from its data."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from blackwheel.core.units import duration
from blackwheel.stacks import loader

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def times() -> ModuleType:
    path = ROOT / "benchmarks" / "build_times.py"
    spec = importlib.util.spec_from_file_location("build_times", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_times"] = module
    spec.loader.exec_module(module)
    return module


def alike(times: ModuleType, count: int, seconds: float, wanted: int, expected: float = 1) -> list:
    one = times.Object(source="a.cu", seconds=seconds, expected_seconds=expected, wanted=wanted)
    return [one] * count


def test_table_of_the_document_is_computed_from_the_data(times: ModuleType) -> None:
    text = times.PAGE.read_text(encoding="utf-8")
    assert times.written(text) == text, "python benchmarks/build_times.py writes it"
    assert "Computed" in text


def test_every_project_of_the_stack_has_its_objects(times: ModuleType) -> None:
    stack = loader.load(times.STACK, ROOT / "constraints")
    known = times.versions(times.rows())
    for name in stack.build:
        objects = times.objects(name)
        assert all(one.seconds > 0 and one.wanted > 0 for one in objects)
        pin = stack.projects[name]
        if known[name] == pin.version or pin.cpu_seconds:
            total = sum(one.seconds for one in objects)
            assert total == pytest.approx(pin.cpu_seconds, rel=0.02)
            assert len(objects) == pin.objects


def test_memory_is_what_the_launcher_of_a_first_build_waits_for(times: ModuleType) -> None:
    wanted = {one.source: one.wanted >> 30 for one in times.objects("flash-attn")}
    assert wanted["flash_bwd_hdim64_bf16_sm80.cu"] == 7
    assert wanted["flash_fwd_split_hdim64_bf16_sm80.cu"] == 5


def test_cores_and_memory_bound_a_computed_build(times: ModuleType) -> None:
    four = alike(times, 4, 100, 10)
    made = times.ran(four, cores=2, memory=1000)
    assert (made.seconds, made.most) == (200 * times.AROUND, 2)
    assert times.limit(made, four, 2) == "cores"
    tight = times.ran(four, cores=4, memory=19)
    assert (tight.seconds, tight.most) == (400 * times.AROUND, 1)
    assert times.limit(tight, four, 4) == "memory"
    alone = times.ran(alike(times, 1, 50, 99), cores=4, memory=10)
    assert (alone.seconds, alone.most) == (50 * times.AROUND, 1), "one runs however much it takes"


def test_longest_begins_first_and_nobody_passes_it(times: ModuleType) -> None:
    large = alike(times, 1, 90, 8, expected=9)
    small = alike(times, 2, 10, 4)
    made = times.ran([*small, *large], cores=2, memory=10)
    assert made.seconds == pytest.approx(100 * times.AROUND)
    assert made.most == 2


def test_records_of_a_build_become_lines_of_the_data(times: ModuleType, tmp_path: Path) -> None:
    line = {
        "source": "a.cu",
        "exit": 0,
        "cached": False,
        "cpu_seconds": 1.25,
        "peak_bytes": 3 << 20,
    }
    rows = [line, {**line, "exit": 1}, {**line, "cached": True}]
    file = tmp_path / "objects.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert times.read(file, "toy", "1.0") == "toy\t1.0\ta.cu\t1\t1.2\t3"


def test_minutes_of_the_quickstart_are_one_figure_everywhere(times: ModuleType) -> None:
    pin = loader.load("quickstart", ROOT / "constraints").projects["flash-attn"]
    figure = times.words(pin.cpu_seconds / 2 * times.AROUND)
    assert figure == "3 min"
    said = {
        "README.md": f"invoke build-wheels --stack quickstart    # {figure}utes on 2 cores",
        "docs/build-times.md": f"{pin.cpu_seconds} CPU seconds (238 to 314 were"
        f" measured, of 2.8.3.post2): {figure}utes of two cores",
        "docs/flash-attn.md": f"[{figure}](build-times.md) (at most {pin.cpu_seconds} CPU seconds)",
    }
    for name, words in said.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        assert words in text, name
        assert "4 to 8 min" not in text, name
    plan = duration(pin.cpu_seconds / 2)
    assert f"the same without the\n  4 %: {plan}." in times.PAGE.read_text(encoding="utf-8")


def test_memory_of_the_quickstart_is_what_doctor_says(times: ModuleType) -> None:
    selection = [
        one
        for one in times.objects("flash-attn")
        if "split" not in one.source and "bf16" in one.source and "_fwd_" in one.source
        if "hdim64" in one.source or "hdim128" in one.source
    ]
    assert len(selection) == 4
    gib = max(one.wanted for one in selection) >> 30
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"memory: {gib} GiB for one compiler, {2 * gib} GiB for two at once" in " ".join(
        text.split()
    )
