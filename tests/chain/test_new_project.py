"""A project that looks like no other, from its data alone: no line of the package knows it.

It lies in a folder of its source, is built by a command of its own, leaves its objects elsewhere,
and its wheel is not called as the project is.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from checkout import Checkout, repository

from blackwheel.receipts import document

pytestmark = [pytest.mark.toolchain, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]

PIN = """
subfolder = "python"
command = [
  "{python}", "setup.py", "-q", "build", "--build-temp", "../made/here",
  "bdist_wheel", "--dist-dir", "{wheels}",
]
distribution = "toy-cuda"
"""
KNOWN = """
[[holds]]
title = "archs"
variable = "TOY_CUDA_ARCHS"
words = { "9.0" = "data centers", "12.0a" = "desktops" }
[build]
objects = "made"
stale = ["build/lib*", "build/bdist*"]
tree_gib = 1
costs = [{ source = "*scale", gib = 1, seconds = 2 }]
"""


@dataclass
class Other(Checkout):
    """The toy under another name."""

    @property
    def project(self) -> str:
        return "toy"


@pytest.fixture
def other(fresh: Checkout) -> Other:
    """The checkout of the toy, made anew by renaming and moving alone."""
    made = Other(home=fresh.home)
    shutil.move(fresh.series.parent, made.series.parent)
    for lock in made.toml.with_suffix("").glob("*-toy-cuda-*.txt"):
        lock.rename(lock.with_name(lock.name.replace("toy-cuda", "toy")))
    for patch in made.series.glob("*.patch"):
        text = patch.read_text(encoding="utf-8")
        for name in ("setup.py", "csrc/"):
            text = text.replace(f" a/{name}", f" a/python/{name}")
            text = text.replace(f" b/{name}", f" b/python/{name}")
        patch.write_text(text, encoding="utf-8")
    moved = made.home / "moved"
    shutil.copytree(made.upstream / "toy_cuda", moved / "python", ignore=lambda *_: {".git"})
    commit, tree = repository(moved, made.upstream / "toy_moved")
    text = made.toml.read_text(encoding="utf-8")
    head, _, rest = text.partition("[projects.toy-cuda.source]")
    head = head.replace("toy-cuda", "toy") + PIN
    source = '\n[projects.toy.source]\nurl = "https://upstream.invalid/toy/toy_moved"\n'
    source += f'commit = "{commit}"\ntree = "{tree}"\n\n'
    rest = rest.partition("[[projects")[2].replace("projects.toy-cuda", "projects.toy")
    rest = "[[projects" + rest.replace(".toy-cuda", ".toy", 1)
    made.toml.write_text(head + source + rest, encoding="utf-8")
    (made.series.parent / "project.toml").write_text(KNOWN, encoding="utf-8")
    return made


def test_project_that_looks_like_no_other_is_built_smoked_and_shelved(other: Other) -> None:
    done = other.build()
    assert done.code == 0, done.said
    (wheel,) = other.wheels
    assert wheel.name.startswith("toy_cuda-1.0+cu130torch2.11.0.sm120a.1-")
    assert (other.shelf / "simple" / "toy-cuda").is_dir()
    receipt = document.sections(document.load(wheel.with_name(f"{wheel.name}.receipt.json")))
    assert receipt["stack"]["project"] == "toy"
    limits = {"title": "archs", "can": ["desktops"], "cannot": ["data centers"]}
    assert receipt["stack"]["holds"] == [limits]
    assert "not: data centers" in (other.shelf / "index.html").read_text(encoding="utf-8")
    made = sorted(Path(one["source"]).name for one in receipt["objects"]["each"])
    assert made == ["bindings.c", "offset.cu", "scale.cu"], "objects are found where they land"
    assert receipt["command"]["argv"][1:5] == ["setup.py", "-q", "build", "--build-temp"]
    expected = (other.workshop / "work" / "pool.txt").read_text(encoding="utf-8")
    assert f"take\t*scale\t{1 << 30}\t2\n" in expected
    assert "nothing changed" in other.build().said
    assert "current, key" in other.invoke("status").said
    assert other.invoke("audit", "toy").code == 0
    verified = other.invoke("verify", "--what", "toy")
    assert verified.code == 0, verified.said


def test_command_that_names_what_is_not_known_is_refused(other: Other) -> None:
    other.edit(other.toml, '"{wheels}"', '"{wheel}"')
    done = other.build()
    assert done.code == 3
    assert "error: bad-variable" in done.err
    assert "projects.toy.command: cannot fill in '{wheel}': 'wheel'" in done.err


def test_subfolder_that_is_not_there_is_refused_before_anything_is_compiled(other: Other) -> None:
    other.edit(other.toml, 'subfolder = "python"', 'subfolder = "pyton"')
    done = other.build()
    assert done.code == 3
    assert "subfolder names pyton, and the sources of toy 1.0 hold nothing there" in done.err
    assert not (other.workshop / "src").exists(), json.dumps(sys.argv)
