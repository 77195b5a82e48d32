"""Two projects of a stack in one command: built at the same time, stopped together."""

from __future__ import annotations

import os
import re
import shutil
import signal

import pytest
from checkout import TOYS, Checkout, descendants, ended, repository, within

from blackwheel import isolation
from blackwheel.errors import Exit

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

NAMES = (("toy_cuda", "toy_twin"), ("toy-cuda", "toy-twin"), ("TOY_CUDA", "TOY_TWIN"))


def twin(text: str) -> str:
    for old, new in NAMES:
        text = text.replace(old, new)
    return text


@pytest.fixture
def twins(fresh: Checkout) -> Checkout:
    """A stack of two projects: the toy, and the same under another name."""
    place = fresh.home / "twin"
    shutil.copytree(TOYS / "toy_cuda" / "upstream", place)
    shutil.copytree(fresh.series, fresh.root / "patches" / "toy-twin" / "1.0")
    (place / "toy_cuda").rename(place / "toy_twin")
    patches = fresh.root / "patches" / "toy-twin"
    for file in (*place.rglob("*"), *patches.rglob("*")):
        if file.is_file():
            file.write_text(twin(file.read_text(encoding="utf-8")), encoding="utf-8")
    commit, tree = repository(place, fresh.upstream / "toy_twin")
    text = fresh.toml.read_text(encoding="utf-8")
    table = twin(text[text.index("[projects.toy-cuda]") :])
    ids = (f'commit = "{commit}"', f'tree = "{tree}"')
    for line in ids:
        table = re.sub(rf"(?m)^{line.partition(' ')[0]} = .*$", line, table, count=1)
    text = text.replace('build = ["toy-cuda"]', 'build = ["toy-cuda", "toy-twin"]')
    fresh.toml.write_text(f"{text}\n{table}", encoding="utf-8")
    for lock in fresh.toml.with_suffix("").glob("*toy-cuda*"):
        shutil.copy2(lock, lock.with_name(twin(lock.name)))
    return fresh


def make_slow(checkout: Checkout, project: str) -> None:
    """Give cicc seconds of work with one object of a project."""
    flags = f"{project.upper().replace('-', '_')}_NVCC_FLAGS"
    checkout.edit(checkout.toml, f'{flags} = ""', f'{flags} = "-DSTEPS=200"')


def alive(top: int) -> list[str]:
    return [process.line for process in descendants(top)]


def test_both_are_built_at_the_same_time_and_shelved_together(twins: Checkout) -> None:
    done = twins.build()
    assert done.code == 0, done.said
    assert [wheel.name.partition("-")[0] for wheel in twins.wheels] == ["toy_cuda", "toy_twin"]
    lines = done.err.splitlines()
    builds = [line for line in lines if re.match(r"toy-(cuda|twin): build for Python ", line)]
    began = [line for line in builds if " done in " not in line and "/" not in line]
    ended_ = [line for line in builds if " done in " in line]
    assert (len(began), len(ended_)) == (2, 2)
    assert max(map(lines.index, began)) < min(map(lines.index, ended_))
    assert len(re.findall(r"^(wheel    |install: )", done.out, re.MULTILINE)) == 3
    again = twins.build()
    assert (again.code, again.err) == (0, "toy: nothing changed since these wheels were built\n")


def test_one_that_fails_stops_the_other_which_goes_on_where_it_was(twins: Checkout) -> None:
    make_slow(twins, "toy-cuda")
    patch = twins.root / "patches" / "toy-twin" / "1.0" / "0002-scale-by-three.patch"
    twins.edit(patch, "+#define FACTOR 3.0f", "+#define FACTOR 3.0f three")
    done = twins.build()
    assert done.code == Exit.BUILD, done.said
    assert "toy-twin: error: build-failed\n" in done.err
    assert "toy-cuda: stopped, because toy-twin failed; what was compiled is kept" in done.err
    assert twins.wheels == []
    twins.edit(patch, "+#define FACTOR 3.0f three", "+#define FACTOR 3.0f")
    assert twins.build().code == 0
    assert len(twins.wheels) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_ends_both_and_leaves_no_process(twins: Checkout, number: int) -> None:
    for project in ("toy-cuda", "toy-twin"):
        make_slow(twins, project)
    run = twins.start("build-wheels", "--stack", "toy")
    assert within(300, lambda: sum("/cicc" in line for line in alive(run.pid)) == 2), alive(run.pid)
    left = descendants(run.pid)
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as Ctrl-C does
    else:
        run.send_signal(number)
    done = ended(run)
    assert done.code == 128 + number, done.said
    assert done.err.endswith("stopped; what was compiled is kept: the same command continues\n")
    assert within(5, lambda: not any(process.alive for process in left))
    assert twins.wheels == []
