"""Commands and their logs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blackwheel.core import process


def test_log_that_is_continued_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LOG_BYTES", 40)
    log = tmp_path / "logs" / "packages.log"
    for number in range(9):
        argv = ["/bin/sh", "-c", f"echo line {number}"]
        done = process.run(argv, environment=os.environ, cwd=tmp_path, log=log)
        assert done.stdout == f"line {number}"
    files = sorted(log.parent.iterdir())
    assert [file.name for file in files] == ["packages.log", "packages.log.old"]
    assert all(file.stat().st_size < 100 for file in files)
    assert "line 8" in log.read_text()
