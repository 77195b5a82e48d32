"""The rule for CI: a test of a compiler or of torch is never skipped without a word."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
SKIPPING = """
import pytest

@pytest.mark.{mark}
def test_that_skips():
    pytest.skip("nothing here; pip install it")
"""


def outcome(folder: Path, *, mark: str, ci: str) -> tuple[int, str]:
    """Run one skipping test under this repository's conftest and settings."""
    for name in ("tests/conftest.py", "tests/toys/checkout.py", "pyproject.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TESTS.parent / name, folder / name)
    (folder / "tests" / "test_one.py").write_text(SKIPPING.format(mark=mark), encoding="utf-8")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "CI": ci}
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def test_in_ci_a_skipped_test_of_a_compiler_or_of_torch_fails_and_says_why(tmp_path: Path) -> None:
    for mark in ("toolchain", "torch"):
        code, said = outcome(tmp_path, mark=mark, ci="true")
        assert code == 1
        assert f"CI skips no test marked {mark}: " in said
        assert "nothing here; pip install it" in said


def test_elsewhere_and_for_other_marks_a_skip_is_a_skip(tmp_path: Path) -> None:
    assert outcome(tmp_path, mark="toolchain", ci="")[0] == 0
    assert outcome(tmp_path, mark="gpu", ci="true")[0] == 0
