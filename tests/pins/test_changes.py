"""Files of a pin are written together."""

from __future__ import annotations

from pathlib import Path

import pytest

from blackwheel.pins import changes


def test_files_of_a_pin_are_all_written_or_none(tmp_path: Path) -> None:
    own, lock, after = tmp_path / "own.toml", tmp_path / "own" / "run.txt", tmp_path / "later"
    own.write_text("old")
    own.chmod(0o600)
    after.mkdir()  # a folder: nothing can be put in its place
    with pytest.raises(OSError, match="directory"):
        changes.write({lock: b"new", own: b"new", after: b"new"})
    assert (own.read_text(), lock.exists()) == ("old", False)
    changes.write({lock: b"new", own: b"new"})
    assert (own.read_text(), lock.read_text(), own.stat().st_mode & 0o777) == ("new", "new", 0o600)


def test_locks_come_before_the_stack_that_names_them(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for folder, text in ((before, "old"), (after, "new")):
        (folder / "own").mkdir(parents=True)
        for name in ("own.toml", "own/torch.toml", "own/run.txt"):
            (folder / name).write_text(text)
        (folder / "same.toml").write_text("same")
    found = [str(path) for path in changes.differing(before, after)]
    assert found == ["own/run.txt", "own/torch.toml", "own.toml"]
