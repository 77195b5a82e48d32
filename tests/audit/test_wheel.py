"""Wheels that pip or uv would install, or choke on: each is refused by name."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from wheelwright import ARCHS, BARE, LABEL, NAME, make_wheel, record_row

from blackwheel.audit.audit import AuditedWheel, audit, inspect
from blackwheel.core.errors import BlackwheelError, Exit


def findings(wheel: Path) -> list[str]:
    report = inspect(wheel, archs=ARCHS, expected=BARE)
    assert all(finding.fatal for finding in report.findings)
    return [str(finding) for finding in report.findings]


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("toy/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def pipe() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("toy/pipe")
    info.external_attr = (stat.S_IFIFO | 0o644) << 16
    return info


def listed(path: str, data: bytes) -> Callable[[str], str]:
    return lambda text: text + record_row(path, data)


def with_flipped_byte(wheel: Path) -> Path:
    """Change stored bytes so that the archive's own checksum no longer holds."""
    data = wheel.read_bytes()
    assert data.count(b"NAME = 'toy'") == 1
    wheel.write_bytes(data.replace(b"NAME = 'toy'", b"NAME = 'tox'"))
    return wheel


def test_right_wheel_has_no_finding_and_passes(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    assert findings(wheel) == []
    audited = audit(wheel, expected=BARE)
    assert isinstance(audited, AuditedWheel)
    assert audited.path == wheel
    assert audited.section() == {"libraries": [], "links": [], "findings": []}


def test_path_that_climbs_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path, unlisted=[("toy/../../evil.py", b"x")], record=listed("toy/../../evil.py", b"x")
    )
    assert findings(wheel) == ["unsafe-path: toy/../../evil.py: leaves its folder"]


@pytest.mark.parametrize("path", ["toy\\..\\evil.py", "toy/./__init__.py", "toy//evil.py"])
def test_path_with_two_spellings_is_refused(tmp_path: Path, path: str) -> None:
    wheel = make_wheel(tmp_path, unlisted=[(path, b"x")], record=listed(path, b"x"))
    assert f"unsafe-path: {path}: leaves its folder" in findings(wheel)


@pytest.mark.parametrize("path", ["/toy/evil.py", "C:/toy/evil.py"])
def test_absolute_path_is_refused(tmp_path: Path, path: str) -> None:
    wheel = make_wheel(tmp_path, unlisted=[(path, b"x")], record=listed(path, b"x"))
    assert f"unsafe-path: {path}: is an absolute path" in findings(wheel)


def test_record_with_another_digest_is_refused(tmp_path: Path) -> None:
    wrong = record_row("toy/__init__.py", b"NAME = 'tox'\n")
    right = record_row("toy/__init__.py", b"NAME = 'toy'\n")
    wheel = make_wheel(tmp_path, record=lambda text: text.replace(right, wrong))
    assert findings(wheel) == ["wrong-record: toy/__init__.py: RECORD has other bytes"]


@pytest.mark.parametrize("weak", ["md5=x,12", ",12", "sha1=Pg,13"])
def test_record_with_a_weak_digest_or_none_is_refused(tmp_path: Path, weak: str) -> None:
    right = record_row("toy/__init__.py", b"NAME = 'toy'\n")
    wheel = make_wheel(
        tmp_path, record=lambda text: text.replace(right, f"toy/__init__.py,{weak}\n")
    )
    assert findings(wheel) == ["wrong-record: toy/__init__.py: RECORD has other bytes"]


def test_record_that_is_no_table_is_refused(tmp_path: Path) -> None:
    record = f"toy-1.0+{LABEL}.dist-info/RECORD"
    wheel = make_wheel(tmp_path, record=lambda text: "one,two\n")
    assert findings(wheel) == [f"bad-record: {record}: Row Index 0: expected 3 elements, got 2"]


def test_record_that_lists_a_file_twice_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, record=lambda text: text + text.splitlines()[0] + "\n")
    assert findings(wheel) == ["bad-record: toy/__init__.py: RECORD lists it 2 times"]


def test_record_that_lists_a_file_which_is_not_there_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, record=listed("toy/gone.py", b"x"))
    assert findings(wheel) == ["missing-file: toy/gone.py: RECORD lists it, the wheel lacks it"]


def test_unlisted_file_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, unlisted=[("toy/evil.py", b"x")])
    assert findings(wheel) == ["unlisted-file: toy/evil.py: RECORD does not list it"]


def test_wheel_without_record_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        kept = [(i, archive.read(i)) for i in archive.infolist() if "RECORD" not in i.filename]
    with zipfile.ZipFile(wheel, "w") as archive:
        for info, data in kept:
            archive.writestr(info, data)
    assert findings(wheel) == ["no-record: the wheel holds no RECORD"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, unlisted=[("toy/__init__.py", b"NAME = 'toy'\n")])
    assert findings(wheel) == ["duplicate-entry: toy/__init__.py: occurs 2 times"]


def test_metadata_version_unlike_the_file_name_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, metadata_version="9.9")
    fact = f"METADATA says 9.9, the file name 1.0+{LABEL}"
    assert findings(wheel) == [f"version-mismatch: {fact}"]


def test_dist_info_of_another_project_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    other = wheel.rename(tmp_path / NAME.replace("toy-", "joy-"))
    fact = f"bad-dist-info: toy-1.0+{LABEL}.dist-info: the file is named joy 1.0+{LABEL}"
    assert fact in findings(other)
    assert "name-mismatch: METADATA says toy, the file name joy" in findings(other)
    assert "other-project: it is joy, not toy" in findings(other)


def test_second_dist_info_is_refused(tmp_path: Path) -> None:
    path = "pip-99.dist-info/METADATA"
    wheel = make_wheel(tmp_path, unlisted=[(path, b"x")], record=listed(path, b"x"))
    fact = f"one dist-info folder is needed, there is pip-99.dist-info, toy-1.0+{LABEL}.dist-info"
    assert f"bad-dist-info: {fact}" in findings(wheel)


def test_symbolic_link_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, unlisted=[(link(), b"/etc")], record=listed("toy/link", b"/etc"))
    assert findings(wheel) == ["symlink: toy/link: is a symbolic link"]


def test_pipe_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, unlisted=[(pipe(), b"x")], record=listed("toy/pipe", b"x"))
    assert findings(wheel) == ["special-file: toy/pipe: is a device, pipe or socket"]


@pytest.mark.parametrize("path", ["evil.pth", f"toy-1.0+{LABEL}.data/purelib/evil.pth"])
def test_pth_file_is_refused(tmp_path: Path, path: str) -> None:
    wheel = make_wheel(tmp_path, {path: b"import os\n"})
    assert findings(wheel) == [f"pth-file: {path}: runs code whenever Python starts"]


def test_files_of_another_package_are_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"pip/__init__.py": b"", "pip/__main__.py": b""})
    assert findings(wheel) == ["foreign-top-level: pip: 2 files there, the stack allows toy"]


def test_module_of_another_name_at_the_top_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"other.py": b""})
    fact = "foreign-top-level: other.py: 1 file there, the stack allows toy"
    assert findings(wheel) == [fact]


@pytest.mark.parametrize("scheme", ["scripts", "data", "headers"])
def test_files_outside_site_packages_are_refused(tmp_path: Path, scheme: str) -> None:
    data = f"toy-1.0+{LABEL}.data"
    wheel = make_wheel(tmp_path, {f"{data}/{scheme}/toy-run": b""})
    fact = f"foreign-top-level: {data}/{scheme}: 1 file there, the stack allows toy"
    assert findings(wheel) == [fact]


def test_bad_checksum_is_refused(tmp_path: Path) -> None:
    wheel = with_flipped_byte(make_wheel(tmp_path, compression=zipfile.ZIP_STORED))
    fact = "bad-crc: toy/__init__.py: cannot be read: its checksum is another"
    assert findings(wheel) == [fact]


def test_truncated_wheel_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    wheel.write_bytes(wheel.read_bytes()[:-100])
    assert findings(wheel) == [
        "truncated-wheel: the archive cannot be read: File is not a zip file"
    ]


def test_web_page_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / NAME
    wheel.write_text("\n<!DOCTYPE html><title>Log in</title>")
    fact = "html-file: the file is a web page, as a proxy or a login page sends it"
    assert findings(wheel) == [fact]


def test_empty_file_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / NAME
    wheel.write_bytes(b"")
    assert findings(wheel) == ["empty-file: the file is empty"]


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    wheel = tmp_path / NAME
    wheel.write_bytes(b"\x7fELF not a wheel")
    assert findings(wheel) == ["not-a-wheel: the file is no zip archive"]


def test_absent_file_is_refused(tmp_path: Path) -> None:
    assert findings(tmp_path / NAME) == ["no-wheel: there is no such file"]


def test_file_name_that_is_no_wheel_name_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path).rename(tmp_path / "toy.whl")
    fact = "bad-file-name: Invalid wheel filename (wrong number of parts): 'toy'"
    assert findings(wheel) == [fact]


def test_error_names_every_fatal_finding(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"evil.pth": b""}, requires=["torch"])
    with pytest.raises(BlackwheelError) as caught:
        audit(wheel, expected=BARE)
    assert caught.value.code == Exit.AUDIT
    assert str(caught.value) == "\n".join(
        [
            "error: wheel-refused",
            f"  {NAME}:",
            "  pth-file: evil.pth: runs code whenever Python starts",
            "  torch-not-pinned: it requires torch, which does not accept exactly one torch:"
            " torch===2.11.0 does",
            f"  where: {wheel}",
            "  fix:   correct what is named above and build again; nothing was shelved",
        ]
    )
