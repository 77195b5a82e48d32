"""The whole way of a nightly, against a stand-in of the index in today's form.

`pin torch latest`, hashed pins, a build against that torch, smoke, shelf, and the installs of who
takes the wheel: from the shelf and kept wheels, from the printed line, from a lock of its own.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from checkout import Checkout, Done, new_checkout, persons_environment
from nightly_index import GIT, PLATFORM
from todays_index import CHANNEL, TAG, Today, serving_today, toy_torch
from uv import find_uv_bin

from blackwheel.core.errors import Exit
from blackwheel.receipts import document as receipts
from blackwheel.stacks import loader

pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]

NEWEST = f"2.16.0.dev20261007+{CHANNEL}"
TORCH = f"torch-{NEWEST}-{TAG}-{TAG}-{PLATFORM}.whl"
WHEEL = f"toy_night-1.0+{CHANNEL}torch2.16.0.dev20261007.sm120a.1-{TAG}-{TAG}-linux_x86_64.whl"


@dataclass
class Walk:
    """A checkout whose stack `toy` follows the stand-in, and what each command of it said."""

    checkout: Checkout
    index: Today
    said: dict[str, Done]


def night(home: Path, shared: Path, index: Today) -> Checkout:
    """A checkout whose stack names the stand-in; nothing of it is pinned."""
    checkout = new_checkout(home, shared, "toy_night")
    checkout.edit(checkout.toml, "https://index.invalid/whl/nightly", index.channel("").rstrip("/"))
    checkout.edit(checkout.toml, '["3.0"]', f'["3.{sys.version_info.minor}"]')
    return checkout


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[Walk]:
    home = tmp_path_factory.mktemp("night") / "walk"
    with serving_today() as index:
        for day in (5, 6, 7):
            index.nightly(day, git=f"{day}" * 40)
            index.nightly(day, channel="cu132")
        checkout, said = night(home, shared, index), {}
        for name, words in {
            "pin": ("pin", "torch", "latest", "--stack", "toy"),
            "lock": ("-s", "lock", "--", "toy"),
            "build": ("build-wheels", "--stack", "toy"),
        }.items():
            said[name] = checkout.nox(*words) if name == "lock" else checkout.invoke(*words)
            assert said[name].code == 0, said[name].said
        yield Walk(checkout=checkout, index=index, said=said)
    shutil.rmtree(home)


def fresh_environment(place: Path) -> Path:
    """An environment without anything, and its interpreter."""
    argv = [find_uv_bin(), "venv", "--quiet", "--python", sys.executable, str(place)]
    subprocess.run(argv, check=True, env=persons_environment())
    return place / "bin" / "python"


def uses(python: Path) -> str:
    """Import the wheel; return the torch beside it and a number that torch's library gives."""
    code = "import toy_night as t; print(t.torch.__version__, t.devices())"
    done = subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, check=False, cwd="/"
    )
    return done.stdout.strip() or done.stderr


def test_newest_of_the_channel_is_pinned_with_what_belongs_to_it(walk: Walk) -> None:
    torch = loader.load("toy", walk.checkout.root / "constraints").torch
    assert (torch.version, torch.git_version) == (NEWEST, "7" * 40)
    wheel = torch.wheels[TAG]
    assert [one.name.split("-")[0] for one in wheel.by_url] == ["torch", "triton", "torchvision"]
    assert all(one.url.startswith(walk.index.files_root) for one in wheel.by_url)
    assert walk.index.files_root not in walk.index.root
    assert "torchaudio: no nightly" in walk.said["pin"].said, "its pages answer 403"
    assert "toy: next: nox -s lock -- toy" in walk.said["pin"].said


def test_wheel_is_built_against_that_torch_smoked_and_shelved(walk: Walk) -> None:
    assert [wheel.name for wheel in walk.checkout.wheels] == [WHEEL]
    document = receipts.load(walk.checkout.shelf / f"{WHEEL}.receipt.json")
    assert receipts.verify(document, walk.checkout.wheels[0]) == ()
    held = receipts.sections(document)
    assert held["torch"]["git_version"] == held["smoke"]["torch"]["git_version"] == "7" * 40
    assert held["smoke"]["imports"].keys() == {"toy_night"}
    (library,) = held["audit"]["libraries"]
    assert library["kernels_by_arch"] == [["sm_120a", 1]]


def test_consumer_installs_from_shelf_and_kept_wheels_with_the_index_gone(
    walk: Walk, tmp_path: Path
) -> None:
    files, walk.index.files = walk.index.files, {}
    walk.index.sent.clear()
    try:
        done = walk.checkout.invoke("install", "--stack", "toy", "--into", str(tmp_path / "into"))
    finally:
        walk.index.files = files
    assert done.code == 0, done.said
    assert walk.index.sent == []
    assert uses(tmp_path / "into" / "current" / "bin" / "python") == f"{NEWEST} 1"


def pasted(line: str, python: Path) -> None:
    """Run a printed `uv …` line in an environment, as a person pastes it."""
    words = [*shlex.split(line.replace("uv", find_uv_bin(), 1)), "--python", str(python)]
    done = subprocess.run(
        words, env=persons_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_printed_line_installs_torch_of_the_index_and_the_wheel(walk: Walk, tmp_path: Path) -> None:
    line = re.search(r"^  uv:  (uv pip install .*)$", walk.said["build"].out, re.MULTILINE)
    assert line, walk.said["build"].out
    python = fresh_environment(tmp_path / "venv")
    pasted(line[1], python)
    assert uses(python) == f"{NEWEST} 1"


def test_lock_for_another_machine_installs_there(walk: Walk, tmp_path: Path) -> None:
    out = tmp_path / "requirements.txt"
    done = walk.checkout.invoke("lock-consumer", "--stack", "toy", "--out", str(out))
    assert done.code == 0, done.said
    line = re.search(r"^uv pip install .*$", done.out, re.MULTILINE)
    assert line, done.out
    python = fresh_environment(tmp_path / "venv")
    pasted(line[0], python)
    assert uses(python) == f"{NEWEST} 1"


def test_build_with_nothing_to_do_asks_the_index_nothing(walk: Walk) -> None:
    walk.index.asked.clear()
    done = walk.checkout.build()
    assert done.code == 0 and "nothing changed" in done.said
    assert walk.index.asked == []


@pytest.fixture
def clone(walk: Walk, tmp_path: Path) -> Iterator[Checkout]:
    """A second machine's clone: the pins, an empty store, an empty shelf."""
    other = walk.checkout.copy(tmp_path / "clone")
    shutil.rmtree(other.root / "wheels", ignore_errors=True)
    for name in ("torch", "builds", "pins", "sessions"):
        shutil.rmtree(other.store / name, ignore_errors=True)
    before = {name: replace(file) for name, file in walk.index.files.items()}
    walk.index.sent.clear()
    yield other
    walk.index.files = before


PLACE = f"/whl/nightly/{CHANNEL}/{TORCH}"


def test_pinned_wheel_that_is_gone_is_told_before_anything_is_made(
    walk: Walk, clone: Checkout
) -> None:
    del walk.index.files[PLACE]
    walk.index.nightly(8, git="8" * 40)
    done = clone.build()
    assert done.code == Exit.TORCH
    assert "error: torch-gone" in done.err
    line = "invoke pin torch latest --stack toy"
    assert f"to move the pin to 2.16.0.dev20261008+{CHANNEL}, the newest" in done.err
    assert done.err.rstrip().endswith(line)
    assert walk.index.sent == [] and not (clone.store / "builds").exists()
    assert loader.load("toy", clone.root / "constraints").torch.version == NEWEST


def test_pinned_wheel_with_other_bytes_is_refused_and_the_move_named(
    walk: Walk, clone: Checkout
) -> None:
    walk.index.nightly(8, git="8" * 40)
    same = len(walk.index.files[PLACE].data)
    for data in (toy_torch(NEWEST, git="f" * 40), walk.index.files[PLACE].data + b"\0"):
        walk.index.files[PLACE].data = data
        walk.index.sent.clear()
        done = clone.build()
        assert done.code == Exit.TORCH
        assert "error: other-bytes" in done.err
        assert "invoke pin torch latest --stack toy" in done.err
        assert list((clone.store / "torch").glob("*")) == []
        if len(data) != same:
            assert walk.index.sent == [], "the length alone tells"
    moved = clone.invoke("pin", "torch", "latest", "--stack", "toy")
    assert moved.code == 0, moved.said
    assert f'-git_version = "{"7" * 40}"' in moved.out
    assert loader.load("toy", clone.root / "constraints").torch.git_version == "8" * 40


def test_unlocked_stack_with_lock_names_a_missing_toolkit_before_the_first_byte(
    walk: Walk, clone: Checkout
) -> None:
    text = clone.toml.read_text(encoding="utf-8")
    toolkit = '[toolchain]\nsource = "host"\ncuda = "13.0"\nnvcc = "13.0.77"\n\n[projects'
    clone.toml.write_text(text.replace("[projects", toolkit, 1), encoding="utf-8")
    shutil.rmtree(clone.toml.with_suffix(""))
    walk.index.asked.clear()
    clone.variables["BLACKWHEEL_CUDA_HOME"] = str(clone.home / "no-toolkit")
    done = clone.build("--lock")
    assert done.code == Exit.MACHINE, done.said
    assert "error: no-host-toolkit" in done.err
    assert walk.index.asked == []


RENAMED = "#pragma once\nnamespace c10 { int devices_found(); }\n"


def test_bump_that_fails_reports_object_header_and_commits_and_leaves_the_pin(
    walk: Walk, clone: Checkout, tmp_path: Path
) -> None:
    """Then a night that compiles is taken, locked, built and shelved."""
    walk.index.nightly(8, git="8" * 40, header=RENAMED)
    constraints = clone.root / "constraints"
    kept = {path: path.read_bytes() for path in constraints.rglob("*.t*t") if path.is_file()}
    kept |= {path: path.read_bytes() for path in constraints.rglob("*.toml")}
    shutil.copytree(walk.checkout.store / "torch", clone.store / "torch")
    said = clone.nox("-s", "bump", "--", "toy", "--report", str(tmp_path / "report.md"))
    assert said.code, said.said
    assert {path: path.read_bytes() for path in kept} == kept
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    old, new = (f"2.16.0.dev202610{day}+{CHANNEL}" for day in ("07", "08"))
    assert report.startswith(f"## toy: torch {old} → {new}: failed (build)\n")
    assert f"/compare/{'7' * 40}...{'8' * 40}\n" in report
    assert f"- the pin stays: torch {old}\n" in report
    assert "bindings.o`: " in report and "device_count" in report
    assert f"- header `c10/toy.h`: `git log {'7' * 40}..{'8' * 40} -- c10/toy.h`" in report
    assert "-namespace c10 { int device_count(); }\n" in report
    assert clone.wheels == []
    walk.index.nightly(9, git="9" * 40)
    said = clone.nox("-s", "bump", "--", "toy", "--report", str(tmp_path / "report.md"))
    assert said.code == 0, said.said
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"torch {old} → 2.16.0.dev20261009+{CHANNEL}: built, audited and smoked" in report
    assert loader.load("toy", constraints).torch.git_version == "9" * 40
    assert [wheel.name for wheel in clone.wheels] == [WHEEL.replace("20261007", "20261009")]
    said = clone.nox("-s", "bump", "--", "toy")
    assert said.code == 0 and f"torch 2.16.0.dev20261009+{CHANNEL} is the newest" in said.said


def test_git_of_the_first_night_differs(walk: Walk) -> None:
    """The toys differ as nightlies do, or nothing above would see another torch."""
    nights = [toy_torch(NEWEST, git=git) for git in (GIT, "7" * 40)]
    assert nights[0] != nights[1]
