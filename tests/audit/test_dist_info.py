"""WHEEL, entry points and the name of the dist-info folder: what readers disagree on is named."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from wheelwright import INFO, LABEL, NAME, SO, make_wheel, native, require, rewritten

from blackwheel.audit.dist_info import bad_tags

BOMB = "-".join(".".join(f"{letter}{n}" for n in range(300)) for letter in "abc")


@pytest.mark.parametrize(
    ("change", "name", "foreign"),
    [
        (lambda t: t.replace("Wheel-Version: 1.0\n", ""), "bad-wheel-file", "fatal"),
        (lambda t: "Wheel-Version: 2.0\n" + t, "bad-wheel-file", "fatal"),
        (lambda t: "Wheel-Version: 1.0\n" + t, "bad-wheel-file", "fatal"),
        (lambda t: t.replace("1.0", "1"), "bad-wheel-file", "fatal"),
        (lambda t: t.replace("false", "true"), "other-purelib", "note"),
        (lambda t: t.replace("false", "perhaps"), "bad-wheel-file", "fatal"),
        (lambda t: t + "Root-Is-Purelib: true\n", "bad-wheel-file", "fatal"),
        (lambda t: t + "Tag: nonsense\n", "tag-mismatch", "note"),
        (lambda t: t + "Tag: cp312-cp312-\n", "tag-mismatch", "note"),
        (lambda t: t + f"Tag: {BOMB}\n", "tag-mismatch", "note"),
        (lambda t: t + "Tag: py3-none-any\n", "tag-mismatch", "note"),
        (lambda t: t + "\nTag: py3-none-any\n", "loose-wheel-file", "note"),
    ],
)
def test_wheel_file_like_that_is_named(
    tmp_path: Path, change: object, name: str, foreign: str
) -> None:
    wheel = make_wheel(tmp_path, {SO: native()})
    require(rewritten(wheel, f"{INFO}/WHEEL", change), name, foreign)


def test_set_of_tags_is_counted_before_it_is_made() -> None:
    began = time.monotonic()
    assert bad_tags(BOMB) == "one line stands for 27,000,000 tags"
    assert bad_tags("cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64") == ""
    assert time.monotonic() - began < 1


def test_set_of_tags_in_a_file_name_is_counted_too(tmp_path: Path) -> None:
    tags = "-".join(".".join(f"{letter}{n}" for n in range(20)) for letter in "abc")
    wheel = make_wheel(tmp_path, {SO: native()}).rename(tmp_path / f"toy-1.0+{LABEL}-{tags}.whl")
    require(wheel, "bad-file-name", "fatal")


@pytest.mark.parametrize(
    "name",
    [
        "toy-1.0-cp312-cp312.whl",
        "toy.whl",
        f"toy-banana-{NAME.split('-', 2)[2]}",
        f"-1.0-{NAME.split('-', 2)[2]}",
        f"toy-1.0--{NAME.split('-', 2)[2]}",
        "toy-1.0-cp312-cp312-.whl",
        "toy-1.0-\x1b[2J-none-any.whl",
    ],
)
def test_file_name_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    wheel = make_wheel(tmp_path, {SO: native()}).rename(tmp_path / name)
    require(wheel, "bad-file-name", "fatal")


@pytest.mark.parametrize(
    ("text", "name", "foreign"),
    [
        ("[console_scripts]\npip = toy:main\n", "extra-entry-point", "note"),
        ("[console_scripts]\npython3.12 = toy:main\n", "extra-entry-point", "note"),
        ("[gui_scripts]\nnvcc = toy:main\n", "extra-entry-point", "note"),
        ("[console_scripts]\n../../bin/x = toy:main\n", "extra-entry-point", "note"),
        ("[console_scripts]\nother = toy:main\n", "extra-entry-point", ""),
        ("[console_scripts]\ntoy = os:system\n", "extra-entry-point", ""),
        ("[torch.backends]\ntoy = toy:load\n", "extra-entry-point", "note"),
        ("[pytest11]\ntoy = toy.testing\n", "extra-entry-point", ""),
        ("[toy.x]\na = toy:a\n  pip = os:system\n", "extra-entry-point", "note"),
        ("[console_scripts\n", "bad-entry-points", "fatal"),
        ("[a]\nx = toy\nx = toy\n", "bad-entry-points", "fatal"),
    ],
)
def test_entry_point_like_that_is_named(tmp_path: Path, text: str, name: str, foreign: str) -> None:
    files = {SO: native(), f"{INFO}/entry_points.txt": text.encode()}
    require(make_wheel(tmp_path, files), name, foreign)


def test_own_entry_points_pass(tmp_path: Path) -> None:
    from wheelwright import ARCHS, TOY

    from blackwheel.audit.audit import inspect

    text = b"[console_scripts]\ntoy-run = toy.cli:main\n\n[toy.plugins]\na.b = toy.plugins:a\n"
    wheel = make_wheel(tmp_path, {SO: native(), f"{INFO}/entry_points.txt": text})
    assert inspect(wheel, archs=ARCHS, expected=TOY).findings == ()


@pytest.mark.parametrize(
    ("folder", "name", "foreign"),
    [
        (INFO.replace("+", "_"), "odd-dist-info", "note"),
        (INFO.replace("toy-", "Toy-"), "", ""),
        (INFO.replace("1.0+", "1.0.0+"), "odd-dist-info", "note"),
        (INFO.replace("toy-", "joy-"), "bad-dist-info", "fatal"),
        (INFO.replace("1.0+", "1.1+"), "bad-dist-info", "fatal"),
        ("toy.dist-info", "bad-dist-info", "fatal"),
    ],
)
def test_name_of_the_folder_is_that_of_the_file(
    tmp_path: Path, folder: str, name: str, foreign: str
) -> None:
    wheel = make_wheel(tmp_path, {SO: native()}, info=folder)
    if name:
        require(wheel, name, foreign)
