"""`invoke plan --objects` and `check-patches`: the real build, less its compiling."""

from __future__ import annotations

import difflib
import json
import sys

import pytest
from checkout import Checkout, git

from blackwheel.core.errors import Exit

pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]

VERSION = f"3.{sys.version_info.minor}"
PLAN = ("plan", "--stack", "toy", "--objects")
CHECK = ("check-patches", "--stack", "toy")
IDLE = """\
From: blackwheel <blackwheel@localhost>
Subject: setup.py: a word in its docstring

It changes nothing, and is there to be found.

Origin: vendor, blackwheel
Forwarded: not-needed (a toy)
Last-Update: 2026-11-22
---

diff --git a/setup.py b/setup.py
"""


def add_idle_patch(checkout: Checkout) -> None:
    """Add a patch that only changes a docstring of setup.py."""
    path = checkout.upstream / "toy_cuda" / "setup.py"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    changed = [lines[0].replace("Upstream's build", "The build"), *lines[1:]]
    diff = "".join(difflib.unified_diff(lines, changed, "a/setup.py", "b/setup.py"))
    (checkout.series / "0003-setup-say-less.patch").write_text(IDLE + diff, encoding="utf-8")
    with (checkout.series / "series").open("a", encoding="utf-8") as series:
        series.write("0003-setup-say-less.patch\n")


def test_objects_are_planned_without_compiling_one_and_known_the_second_time(
    fresh: Checkout,
) -> None:
    done = fresh.invoke(*PLAN)
    assert (done.code, done.out) == (
        0,
        f"toy-cuda 1.0+cu130torch2.11.0.sm120a.1 for Python {VERSION}\n"
        "target    sources          asked    command line  objects\n"
        "_kernels  csrc/bindings.c  -        -             1\n"
        "_kernels  csrc/*.cu        sm_120a  sm_120a       2\n"
        "3 objects\n",
    ), done.err
    assert not (fresh.store / "builds").exists()
    assert list(fresh.store.glob("plans/toy/toy-cuda/*/*/")) == [], "the trial's tree is gone"
    again = fresh.invoke(*PLAN, "--json")
    assert (again.code, again.err) == (0, ""), "out of the store: no environment was looked at"
    (row,) = json.loads(again.out)["plans"]
    assert row["holds"]
    assert [(g["requested"], g["effective"], g["objects"]) for g in row["groups"]] == [
        ([], [], 1),
        (["sm_120a"], ["sm_120a"], 2),
    ]


def test_plan_that_breaks_the_arch_contract_names_every_group(fresh: Checkout) -> None:
    (fresh.series / "0001-setup-take-12.0a.patch").unlink()
    fresh.edit(fresh.series / "series", "0001-setup-take-12.0a.patch\n", "")
    done = fresh.invoke(*PLAN)
    assert done.code == Exit.BUILD
    assert "_kernels  csrc/*.cu        sm_120a  no arch       2        lacks sm_120a\n" in done.out
    assert done.err[done.err.index("error: ") :] == (
        "error: wrong-arch\n"
        "  toy-cuda 1.0: _kernels: csrc/*.cu (2): asks for no arch, the contract needs sm_120a\n"
        "  where: constraints/toy.toml\n"
        "  fix:   correct the patch or the variable that hands the archs to nvcc:"
        " patches/toy-cuda/1.0/\n"
    )


def test_each_patch_shows_what_it_changes_and_one_that_changes_nothing_is_stale(
    fresh: Checkout,
) -> None:
    add_idle_patch(fresh)
    done = fresh.invoke(*CHECK)
    assert (done.code, done.out) == (
        Exit.PATCH,
        "toy-cuda 1.0 in stack toy\n"
        "  0001-setup-take-12.0a.patch\n"
        "    archs: _kernels: 2 objects sm_120a → no arch\n"
        "  0002-scale-by-three.patch\n"
        "    compiled text: csrc/scale.cu\n"
        "  0003-setup-say-less.patch\n"
        "    stale: changes nothing\n",
    ), done.err
    assert done.err[done.err.index("error: ") :] == (
        "error: patch-changes-nothing\n"
        "  0003-setup-say-less.patch: without it toy-cuda 1.0 of stack toy has the same objects,"
        " archs, metadata and files\n"
        "  where: patches/toy-cuda/1.0/series\n"
        "  fix:   take it out of the series, or correct what it was to change\n"
    )


def test_patch_that_is_proved_by_includes_is_stale_without_one_and_may_leave_none(
    fresh: Checkout,
) -> None:
    probe = '["0002-scale-by-three.patch"]\ninputs = "csrc/*.cu"\nwithout = ["{}"]\nwhy = "x"\n'
    (fresh.series / "probes.toml").write_text(probe.format("ATen/"), encoding="utf-8")
    done = fresh.invoke(*CHECK)
    assert done.code == Exit.PATCH
    assert "  0002-scale-by-three.patch\n    stale: changes nothing\n" in done.out, done.err
    assert (
        "error: patch-changes-nothing\n"
        "  0002-scale-by-three.patch: without it toy-cuda 1.0 of stack toy has the same"
        " includes of csrc/*.cu\n"
    ) in done.err
    (fresh.series / "probes.toml").write_text(probe.format("cuda/std/"), encoding="utf-8")
    done = fresh.invoke(*CHECK)
    assert done.code == Exit.PATCH
    assert "error: kept-out-header\n  csrc/offset.cu includes cuda/std/tuple\n" in done.err, (
        done.err
    )


def test_setup_that_fails_ends_the_plan_with_its_own_words(fresh: Checkout) -> None:
    old, new = 'TOY_CUDA_NVCC_FLAGS = ""', 'TOY_CUDA_NVCC_FLAGS = "\'"'
    fresh.edit(fresh.toml, old, new)
    done = fresh.invoke(*PLAN)
    assert done.code == Exit.BUILD
    assert done.out == ""
    error = done.err[done.err.index("error: ") :]
    assert error.startswith("error: plan-failed\n  toy-cuda 1.0 ended with exit code 1\n")
    assert "\n  ValueError: No closing quotation\n" in error
    assert (
        "  where: toy-cuda 1.0 in stack toy\n"
        "  fix:   correct the patch, the pin or the variable that its words name\n"
    ) in error
    assert "nox > " not in done.err, "nox's own words are in the log"


def test_pin_that_moves_is_planned_before_and_after_and_its_objects_are_counted(
    fresh: Checkout,
) -> None:
    upstream = fresh.upstream / "toy_cuda"
    git(upstream, "tag", "v1.0")
    fresh.edit(upstream / "setup.py", '"csrc/offset.cu", ', "")
    fresh.edit(upstream / "setup.py", 'version="1.0+"', 'version="1.1+"')
    git(upstream, "commit", "--quiet", "--all", "--message", "1.1")
    git(upstream, "tag", "v1.1")
    headers = git(fresh.upstream / "toy_headers", "rev-parse", "HEAD")
    named = ("--commit", f"third_party/toy_headers={headers}")
    done = fresh.invoke("pin", "toy-cuda", "1.1", "--stack", "toy", "--objects", *named)
    assert done.code == 0, done.said
    assert (
        "  objects  3 → 2\n"
        "  objects  _kernels: csrc/*.cu: 2 of sm_120a → none\n"
        "  objects  _kernels: csrc/scale.cu: none → 1 of sm_120a\n"
    ) in done.out
    assert "objects = 2\n" in fresh.toml.read_text(encoding="utf-8")
    again = fresh.invoke(*PLAN)
    assert again.out.endswith("2 objects\n")
    assert "nox >" not in again.err, "out of the store: no environment was looked at"
