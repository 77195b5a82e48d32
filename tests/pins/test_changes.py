"""Files of a pin: which differ, in which order they are written, and what a failed write leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from blackwheel.pins import changes


def test_locks_come_first_and_the_stack_file_last(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    names = ("a.toml", "mine/torch.toml", "mine/z.txt", "mine/same.txt")
    for name in names:
        for root in (before, after):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("same" if "same" in name else root.name, encoding="utf-8")
    assert list(map(str, changes.differing(before, after))) == [
        "mine/z.txt",
        "mine/torch.toml",
        "a.toml",
    ]


def test_failed_write_puts_back_what_was_there_and_removes_what_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, last = (tmp_path / name for name in ("old", "new", "last"))
    old.write_bytes(b"before")
    put = changes._put

    def fails(target: Path, data: bytes) -> None:
        if target == last:
            raise OSError("no space left")
        put(target, data)

    monkeypatch.setattr(changes, "_put", fails)
    with pytest.raises(OSError, match="no space left"):
        changes.write({old: b"after", new: b"after", last: b"after"})
    assert old.read_bytes() == b"before"
    assert not new.exists() and not last.exists()
