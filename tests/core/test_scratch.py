"""Folders for a while: removed at the end, and by the next one after a kill."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from blackwheel.core.scratch import scratch


def test_folder_is_empty_and_gone_after_the_block(tmp_path: Path) -> None:
    with scratch(tmp_path, "x-") as folder:
        assert folder.parent == tmp_path
        (folder / "deep").mkdir()
    assert not list(tmp_path.iterdir())


def test_folder_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of the block"), scratch(tmp_path, "x-"):
        raise ValueError("of the block")
    assert not list(tmp_path.iterdir())


def test_next_one_removes_the_folder_of_a_killed_process_and_no_folder_that_is_held(
    tmp_path: Path,
) -> None:
    child = os.fork()
    if not child:
        with scratch(tmp_path, "x-"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    (tmp_path / "x-link").symlink_to(left)
    other = tmp_path / "y-other"
    other.mkdir()
    with scratch(tmp_path, "x-") as first, scratch(tmp_path, "x-") as second:
        assert not left.exists()
        assert {first, second, other} < {*tmp_path.iterdir()}


def test_folder_that_was_just_made_is_not_taken_for_one_that_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process asks for a folder between the making of ours and our lock on it."""
    real, others = tempfile.mkdtemp, list[int]()

    def interrupted(**how: str) -> str:
        made = real(**how)
        others.append(os.fork())
        if not others[-1]:
            monkeypatch.setattr(tempfile, "mkdtemp", real)
            with scratch(tmp_path, "x-"):
                os._exit(0)
        time.sleep(0.5)
        return made

    monkeypatch.setattr(tempfile, "mkdtemp", interrupted)
    with scratch(tmp_path, "x-") as folder:
        assert folder.is_dir()
        (folder / "inside").touch()
    assert [os.waitpid(other, 0)[1] for other in others] == [0]
