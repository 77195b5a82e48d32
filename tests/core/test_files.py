"""Names that others wrote, before they become paths."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from packaging.version import Version

from blackwheel.core import files
from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.file_lock import held
from blackwheel.core.files import component
from blackwheel.pytorch import archive, nightly_index
from blackwheel.shelf import simple_api

TRAVERSING = "toy-1.0-1/../../../traversed-py3-none-any.whl"


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/etc/passwd", "a/b", "..\\a", "a\0b", "a\nb", "a\x1b[2Jb", "a" * 256),
        *(TRAVERSING, "\ud800"),
    ],
)
def test_what_is_no_single_component_is_refused(name: str) -> None:
    with pytest.raises(BlackwheelError) as error:
        component(name)
    assert error.value.name == "unsafe-name"
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("name", ["toy-1.0+cu130-py3-none-any.whl", "größe", ".hidden", "a b"])
def test_a_plain_name_is_itself(name: str) -> None:
    assert component(name) == name


def test_archive_keeps_nothing_under_a_name_that_leaves_it(tmp_path: Path) -> None:
    offer = nightly_index.Offer(
        name=TRAVERSING, url="http://x/y", version=Version("1.0"), pythons=frozenset()
    )
    kept = archive.archive(tmp_path / "store", {}, Quiet())
    with pytest.raises(BlackwheelError) as error:
        archive.take(offer, kept)
    assert error.value.name == "unsafe-name"


def test_an_entry_of_a_page_names_no_file_elsewhere(tmp_path: Path) -> None:
    entry = simple_api.Entry(
        filename=TRAVERSING,
        hashes=simple_api.Hashes(sha256="0" * 64),
        core_metadata=simple_api.Hashes(sha256="0" * 64),
        size=0,
        upload_time=datetime.now(UTC).isoformat(),
    )
    with pytest.raises(BlackwheelError) as error:
        simple_api.from_entry(entry, "toy", tmp_path)
    assert error.value.name == "unsafe-name"


def test_a_lock_lies_in_the_folder_of_locks(tmp_path: Path) -> None:
    with (
        pytest.raises(BlackwheelError),
        held(tmp_path, "../outside", project="toy", console=Quiet()),
    ):
        pass
    assert not (tmp_path / "outside.lock").exists()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o177, 0o777])
def test_folder_for_readers_may_be_entered_by_all_whatever_the_umask(
    tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        files.make_folder(tmp_path / "shelf" / "simple" / "toy")
    finally:
        os.umask(before)
    made = [
        tmp_path / "shelf",
        tmp_path / "shelf" / "simple",
        tmp_path / "shelf" / "simple" / "toy",
    ]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o755] * 3
    made[0].chmod(0o750)
    files.make_folder(made[2])
    assert made[0].stat().st_mode & 0o777 == 0o750, "a folder that was there is a person's own"


def test_who_is_killed_while_a_file_is_written_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, seen = tmp_path / "record.json", []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append([*tmp_path.iterdir()]), sync(fd)))
    files.replace_file(target, b"old", mode=0o640)
    files.replace_file(target, b"new", mode=0o640)
    assert seen[0] == [], "what SIGKILL would leave"
    assert {path for paths in seen for path in paths} == {target}
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"new", 0o640)


@pytest.mark.parametrize("nameless", [True, False])
def test_file_that_cannot_be_written_leaves_the_old_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    """NFS has no files without a name."""
    if not nameless:
        monkeypatch.setattr(os, "O_TMPFILE", 0)
    target = tmp_path / "record.json"
    files.replace_file(target, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            files.replace_file(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
    assert target.read_bytes() == b"old"
    files.replace_file(target, b"new")
    assert target.read_bytes() == b"new"
