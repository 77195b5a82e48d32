"""Where a wheel's files land: beside another package, before a program, under a second name."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest
from wheelwright import (
    ARCHS,
    BARE,
    INFO,
    LABEL,
    SO,
    TOY,
    make_wheel,
    native,
    record_row,
    require,
    verdicts,
)

from blackwheel.audit.audit import inspect

DATA = f"toy-1.0+{LABEL}.data"
PYC = b"\xa7\r\r\n" + bytes(12)


@pytest.mark.parametrize(
    ("path", "name", "foreign"),
    [
        ("zz.pth", "pth-file", "note"),
        (f"{DATA}/platlib/zz.pth", "pth-file", "note"),
        (f"{DATA}/purelib/zz.pth", "pth-file", "note"),
        ("toy.start", "start-file", "note"),
        ("sitecustomize.py", "start-file", "note"),
        ("usercustomize.py", "start-file", "note"),
        ("sitecustomize/__init__.py", "start-file", "note"),
        ("usercustomize.abi3.so", "start-file", "note"),
        (f"{DATA}/purelib/sitecustomize/__init__.py", "start-file", "note"),
        (f"{DATA}/scripts/pip3.12", "extra-entry-point", "note"),
        (f"{DATA}/purelib/toy/__init__.py", "same-name", "note"),
        (f"{DATA}/platlib/{SO}", "same-name", "note"),
        (f"{DATA}/platlib/toy/__INIT__.py", "same-name", "note"),
        ("toy.py", "name-clash", "note"),
        ("toy.cpython-312-x86_64-linux-gnu.so", "name-clash", "note"),
        ("toy.abi3.so", "name-clash", "note"),
        ("toy.evil/x.py", "foreign-top-level", "note"),
        ("toy-extra/x.py", "foreign-top-level", "note"),
        ("torch/_inductor/x.py", "foreign-top-level", "note"),
        ("other/x.py", "foreign-top-level", ""),
        ("other.py", "foreign-top-level", ""),
        ("toy.txt", "foreign-top-level", "note"),
        (f"{DATA}/stdlib/os.py", "unknown-scheme", "fatal"),
        (f"{DATA}/purelib", "unknown-scheme", "fatal"),
        (f"{DATA}/x", "unknown-scheme", "fatal"),
        (f"{DATA}/scripts/toy-run", "foreign-top-level", ""),
        (f"{DATA}/data/etc/toy.conf", "foreign-top-level", ""),
        (f"{DATA}/headers/toy.h", "foreign-top-level", ""),
        ("other-1.0.data/platlib/toy/x.py", "foreign-data-folder", "note"),
        ("toy-9.data/platlib/toy/x.py", "foreign-data-folder", "note"),
        ("toy.egg-info", "installer-file", "note"),
        ("toy.egg-info/PKG-INFO", "installer-file", "note"),
        ("toy/__pycache__/__init__.cpython-312.pyc", "pyc-without-source", "note"),
        ("toy/extra.pyc", "pyc-without-source", "note"),
        ("toy/__INIT__.py", "same-name", "note"),
        ("toy/ﬁle.py", "odd-file-name", ""),
        ("toy/a\x1b[2Jb.py", "unsafe-path", "fatal"),
        ("toy/a\nAll 2 kernels are native 12.0a.py", "unsafe-path", "fatal"),
        ("toy/\u202egnp.py", "unsafe-path", "fatal"),
        ("toy//x.py", "unsafe-path", "fatal"),
        ("toy/__init__.py/x.py", "unsafe-path", "fatal"),
        ("toy/" + "x" * 300 + ".py", "unsafe-path", "fatal"),
        ("toy/" + "x/" * 600 + "x.py", "unsafe-path", "fatal"),
        (f"{INFO}/direct_url.json", "installer-file", "note"),
        (f"{INFO}/INSTALLER", "installer-file", "note"),
        (f"{INFO}/REQUESTED", "installer-file", "note"),
        (f"{INFO}/payload.sh", "unknown-file", "note"),
        (f"{INFO}/deep/METADATA", "unknown-file", "note"),
    ],
)
def test_file_in_such_a_place_is_named(tmp_path: Path, path: str, name: str, foreign: str) -> None:
    data = PYC if path.endswith(".pyc") else native() if path.endswith(".so") else b"x = 1\n"
    wheel = make_wheel(tmp_path, {SO: native(), path: data})
    if name == "odd-file-name":  # two names where letters are unified
        wheel = make_wheel(tmp_path, {SO: native(), path: data, "toy/file.py": b""})
        name, foreign = "same-name", "note"
    require(wheel, name, foreign)


def test_nul_in_a_name_does_not_cut_it_short(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {SO: native(), "toy/abc.py#.txt": b"x"})
    wheel.write_bytes(wheel.read_bytes().replace(b"toy/abc.py#.txt", b"toy/abc.py\0.txt"))
    require(wheel, "unsafe-path", "fatal")


@pytest.mark.parametrize("bits", [stat.S_ISUID, stat.S_ISGID, stat.S_ISVTX])
def test_file_with_a_mode_that_gives_rights_is_named(tmp_path: Path, bits: int) -> None:
    info = zipfile.ZipInfo("toy/helper")
    info.external_attr = (stat.S_IFREG | 0o755 | bits) << 16
    row = record_row("toy/helper", b"#!/bin/sh\n")
    wheel = make_wheel(
        tmp_path,
        {SO: native()},
        unlisted=[(info, b"#!/bin/sh\n")],
        record=lambda text: text + row,
    )
    require(wheel, "file-mode", "note")


def test_library_among_files_for_every_machine_is_named(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {f"{DATA}/purelib/{SO}": native()})
    require(wheel, "other-purelib", "note")


def test_stub_beside_its_module_is_no_clash(tmp_path: Path) -> None:
    files = {SO: native(), "toy/_C.pyi": b"def scale() -> None: ...\n"}
    assert inspect(make_wheel(tmp_path, files), archs=ARCHS, expected=TOY).findings == ()


@pytest.mark.parametrize(
    ("path", "where"),
    [
        (f"{DATA}/purelib/toy/__init__.py", "where it is installed"),
        ("toy/__INIT__.py", "where letters have no case"),
    ],
)
def test_second_file_of_one_place_is_told_with_the_first(
    tmp_path: Path, path: str, where: str
) -> None:
    report = inspect(make_wheel(tmp_path, {SO: native(), path: b""}), archs=ARCHS)
    (found,) = [str(one) for one in report.findings if one.name == "same-name"]
    assert found == f"same-name: {path}: is one with toy/__init__.py {where}"


def test_folders_of_one_place_are_nothing(tmp_path: Path) -> None:
    """Builders write entries for folders, also for those of the data folder."""
    folders = [(zipfile.ZipInfo(f"{path}/"), b"") for path in ("toy", f"{DATA}/platlib/toy")]
    wheel = make_wheel(tmp_path, {SO: native()}, unlisted=folders)
    assert "same-name" not in verdicts(wheel).noted


def test_ordinary_folders_of_other_wheels_are_nothing(tmp_path: Path) -> None:
    files = {
        "other/x.py": b"",
        "other-stubs/x.pyi": b"",
        "toy.libs/libgomp-24e2ab19.so.1.0.0": native(),
        "nvidia/cu13/lib/x.txt": b"",
        f"{DATA}/scripts/run": b"#!python\n",
        f"{INFO}/licenses/LICENSE": b"",
        f"{INFO}/sboms/toy.cdx.json": b"{}",
        f"{INFO}/top_level.txt": b"toy\n",
    }
    seen = verdicts(make_wheel(tmp_path, files), BARE)
    assert (seen.fatal, seen.noted & {"foreign-top-level", "unknown-file"}) == (set(), set())
