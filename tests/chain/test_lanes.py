"""Two projects of a stack in one command: built at the same time, stopped together."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkout import (
    TOYS,
    Checkout,
    Done,
    descendants,
    ended,
    new_checkout,
    repository,
    within,
)

from blackwheel.core import isolation
from blackwheel.core.errors import Exit

FORBIDDEN = isolation.available_isolation().reason
pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(FORBIDDEN), reason=f"one after another without namespaces: {FORBIDDEN}"
    ),
]

VERSION = f"3.{sys.version_info.minor}"
NAMES = (("toy_cuda", "toy_twin"), ("toy-cuda", "toy-twin"), ("TOY_CUDA", "TOY_TWIN"))


def twin(text: str) -> str:
    for old, new in NAMES:
        text = text.replace(old, new)
    return text


def add_twin(checkout: Checkout) -> None:
    """Make the stack one of two projects: the toy, and the same under another name."""
    place = checkout.home / "twin"
    shutil.copytree(TOYS / "toy_cuda" / "upstream", place)
    shutil.copytree(checkout.series, checkout.root / "patches" / "toy-twin" / "1.0")
    (place / "toy_cuda").rename(place / "toy_twin")
    patches = checkout.root / "patches" / "toy-twin"
    for file in (*place.rglob("*"), *patches.rglob("*")):
        if file.is_file():
            file.write_text(twin(file.read_text(encoding="utf-8")), encoding="utf-8")
    commit, tree = repository(place, checkout.upstream / "toy_twin")
    text = checkout.toml.read_text(encoding="utf-8")
    table = twin(text[text.index("[projects.toy-cuda]") :])
    for line in (f'commit = "{commit}"', f'tree = "{tree}"'):
        table = re.sub(rf"(?m)^{line.partition(' ')[0]} = .*$", line, table, count=1)
    text = text.replace('build = ["toy-cuda"]', 'build = ["toy-cuda", "toy-twin"]')
    checkout.toml.write_text(f"{text}\n{table}", encoding="utf-8")
    for lock in checkout.toml.with_suffix("").glob("*toy-cuda*"):
        shutil.copy2(lock, lock.with_name(twin(lock.name)))


@pytest.fixture(scope="module")
def twins(
    tmp_path_factory: pytest.TempPathFactory, shared: Path
) -> Iterator[tuple[Checkout, Done]]:
    """Both built once: their environments are there for all that follows."""
    home = tmp_path_factory.mktemp("twins") / "run"
    checkout = new_checkout(home, shared)
    add_twin(checkout)
    done = checkout.build()
    assert done.code == 0, done.said
    yield checkout, done
    shutil.rmtree(home)


@pytest.fixture
def slow(twins: tuple[Checkout, Done], tmp_path: Path) -> Checkout:
    """A copy that has to compile anew, with seconds of cicc for one object of each project."""
    checkout = twins[0].copy(tmp_path / "slow")
    text = checkout.toml.read_text(encoding="utf-8")
    text = text.replace('NVCC_FLAGS = ""', 'NVCC_FLAGS = "-DSTEPS=500"')
    checkout.toml.write_text(text.replace("revision = 1", "revision = 2"), encoding="utf-8")
    return checkout


def compiled(checkout: Checkout, project: str) -> list[dict[str, Any]]:
    """The records of the objects that were compiled for revision 2."""
    path = checkout.workshop.parents[1] / project / checkout.workshop.name
    lines = (path / "work" / "objects.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines[3:]) if line["exit"] == 0]


def compiling(top: int) -> set[str]:
    """The projects of which a cicc runs."""
    return {
        name
        for process in descendants(top)
        for name in ("toy-cuda", "toy-twin")
        if re.search(rf"blackwheel build \S+/build-toy-{name}-cp", process.line)
        and any("/cicc" in one.line for one in descendants(process.pid))
    }


def test_two_projects_are_one_command_and_one_shelf(twins: tuple[Checkout, Done]) -> None:
    checkout, done = twins
    assert [wheel.name.partition("-")[0] for wheel in checkout.wheels] == ["toy_cuda", "toy_twin"]
    assert len(re.findall(r"^(wheel    |install, in )", done.out, re.MULTILINE)) == 3
    for name in ("toy-cuda", "toy-twin"):
        assert f"{name}: build for Python {VERSION}: done in " in done.err
    again = checkout.build()
    assert (again.code, again.err) == (0, "toy: nothing changed since these wheels were built\n")


def test_objects_of_both_are_compiled_at_the_same_time(slow: Checkout) -> None:
    done = slow.build()
    assert done.code == 0, done.said
    spans = []
    for project in ("toy-cuda", "toy-twin"):
        objects = compiled(slow, project)
        assert sorted(one["source"] for one in objects) == ["offset.cu", "scale.cu"]
        spans.append(
            (min(o["began"] for o in objects), max(o["began"] + o["seconds"] for o in objects))
        )
    assert max(begin for begin, _ in spans) < min(end for _, end in spans)


def test_one_that_fails_stops_the_other_which_goes_on_where_it_was(slow: Checkout) -> None:
    patch = slow.root / "patches" / "toy-twin" / "1.0" / "0002-scale-by-three.patch"
    slow.edit(patch, "+#define FACTOR 3.0f", "+#define FACTOR 3.0f three")
    done = slow.build()
    assert done.code == Exit.BUILD, done.said
    assert "toy-twin: error: build-failed\n" in done.err
    assert "toy-cuda: stopped, because toy-twin failed; what was compiled is kept" in done.err
    assert len(slow.wheels) == 2, "of revision 1"
    slow.edit(patch, "+#define FACTOR 3.0f three", "+#define FACTOR 3.0f")
    assert slow.build().code == 0
    assert len(slow.wheels) == 4
    sources = sorted(line["source"] for line in compiled(slow, "toy-cuda"))
    assert sources == ["offset.cu", "scale.cu"], "each once"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_ends_both_and_leaves_no_process(slow: Checkout, number: int) -> None:
    text = slow.toml.read_text(encoding="utf-8")  # longer: one must still compile when both do
    slow.toml.write_text(text.replace("-DSTEPS=500", "-DSTEPS=1500"), encoding="utf-8")
    run = slow.start("build-wheels", "--stack", "toy")
    assert within(300, lambda: len(compiling(run.pid)) == 2), compiling(run.pid)
    left = descendants(run.pid)
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as Ctrl-C does
    else:
        run.send_signal(number)
    done = ended(run)
    assert done.code == 128 + number, done.said
    assert done.err.endswith("stopped; what was compiled is kept: the same command continues\n")
    assert within(5, lambda: not any(process.alive for process in left))
    assert len(slow.wheels) == 2, "of revision 1"
    assert not list(slow.store.glob("sessions/*"))
