"""`invoke stacks`: a list that a terminal of 80 columns takes, and a nightly that nobody saw."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from blackwheel.commands import stack_list
from blackwheel.core.console import Quiet
from blackwheel.core.site import Site
from blackwheel.doctor import for_building
from blackwheel.stacks import loader

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Three stacks, and a machine that lacks nothing but for one of them."""
    for name in ("nightly", "stable", "newest"):
        shutil.copytree(ROOT / "constraints" / name, tmp_path / "constraints" / name)
        shutil.copy(ROOT / "constraints" / f"{name}.toml", tmp_path / "constraints")
    lacks = {"newest": ("vllm 0.33.0 wants gcc 13 or newer; /usr/bin/g++ is gcc 12.2",)}
    monkeypatch.setattr(for_building, "buildable", lambda stack, _: lacks.get(stack.name, ()))
    return Site(checkout=tmp_path, store=tmp_path / "store", environment={}, console=Quiet())


def shown(site: Site, monkeypatch: pytest.MonkeyPatch, columns: int = 0) -> list[str]:
    console = site.console
    assert isinstance(console, Quiet)
    console.__init__()  # type: ignore[misc]
    if columns:
        monkeypatch.setattr(console._kept_out, "isatty", lambda: True, raising=False)
        console._environment = {"COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
    stack_list.show_stacks(site, default="nightly")
    return console.results.splitlines()


@pytest.mark.parametrize("columns", [80, 120])
def test_narrow_terminal_gets_few_lines_a_stack(
    site: Site, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    lines = shown(site, monkeypatch, columns)
    assert max(map(len, lines)) <= columns
    assert lines[0] == stack_list.HEAD
    starts = [line for line in lines if line.startswith(("ok ", "LACKS ", "note "))]
    assert starts[:2] == [
        "LACKS  newest             flash-attn 2.8.3.post2, vllm 0.33.0",
        "note   nightly (default)  flash-attn 2.8.3.post2, vllm 0.28.0",
    ]
    assert starts[2].startswith("ok     stable             flash-attn 2.8.3.post2, flashinfer ")
    at = lines.index(starts[0])
    assert lines[at + 1] == f"{'':26}torch 2.14.1+cu130, Python 3.11 to 3.13, driver ≥ 580"
    assert lines[at + 2].startswith(f"{'':26}vllm 0.33.0 wants gcc 13 or newer;")
    at = lines.index(starts[1])
    assert f"{'':26}not seen from here" in lines[at + 2 : at + 4]
    at = lines.index(starts[2])
    assert f"{'':26}torch 2.13.0+cu130, Python 3.11 to 3.13, driver ≥ 580" in lines[at : at + 3]


def test_pipe_gets_one_row_a_stack(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    head, *rows = shown(site, monkeypatch)
    assert head.split()[:4] == ["stack", "torch", "CUDA", "Python"]
    assert [row.split()[0] for row in rows[:3]] == ["newest", "nightly", "stable"]


def test_nightly_is_not_called_buildable_until_its_wheels_were_seen(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(site, monkeypatch)
    (row,) = [line for line in lines if line.startswith("nightly (default)")]
    assert row.endswith(stack_list.UNSEEN)
    told = "\n".join(lines)
    assert "nightly, the default: its torch is at https://download.pytorch.org/whl/nightly/" in told
    assert lines[-1] == "What builds here without it: invoke build-wheels --stack stable"
    keep(site)
    lines = shown(site, monkeypatch)
    (row,) = [line for line in lines if line.startswith("nightly (default)")]
    assert row.endswith("  yes")
    assert "the default: its torch" not in "\n".join(lines)


def test_json_names_the_default_and_what_was_never_seen(site: Site) -> None:
    stack_list.show_stacks(site, default="nightly", as_json=True)
    assert isinstance(site.console, Quiet)
    document = json.loads(site.console.results)
    assert (document["schema"], document["default"]) == ("blackwheel.stacks/1", "nightly")
    unseen = {one["stack"]: one["unseen"] for one in document["stacks"]}
    assert (unseen["stable"], unseen["newest"]) == ([], [])
    assert any(name.startswith("torch-2.16.0.dev") for name in unseen["nightly"])


def keep(site: Site) -> None:
    """Put files of the names and sizes that nightly locks where downloads are kept."""
    folder = site.store / "torch"
    folder.mkdir(parents=True)
    for wheel in loader.load("nightly", site.constraints).torch.wheels["cp312"].by_url:
        with (folder / wheel.name).open("wb") as file:
            file.truncate(wheel.size or 1)
