"""The rule for CI: a test of a compiler, of torch or of a program is not skipped there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import programs

TESTS = Path(__file__).parent
SKIPPING = """
import pytest

@pytest.mark.{mark}
def test_that_skips():
    pytest.skip("nothing here; pip install it")
"""


COPIED = ("tests/conftest.py", "tests/toys/checkout.py", "tests/toys/programs.py", "pyproject.toml")


def outcome(folder: Path, *, mark: str, **variables: str) -> tuple[int, str]:
    """Run one skipping test under this repository's conftest and settings."""
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TESTS.parent / name, folder / name)
    (folder / "tests" / "test_one.py").write_text(SKIPPING.format(mark=mark), encoding="utf-8")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, **variables}
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def test_in_ci_a_skipped_test_of_a_compiler_or_of_torch_fails_and_says_why(tmp_path: Path) -> None:
    for mark in ("toolchain", "torch", 'needs("git")'):
        code, said = outcome(tmp_path, mark=mark, CI="true")
        assert code == 1
        assert f"CI skips no test marked {mark.partition('(')[0]}: " in said
        assert "nothing here; pip install it" in said


def test_elsewhere_and_for_other_marks_a_skip_is_a_skip(tmp_path: Path) -> None:
    assert outcome(tmp_path, mark="toolchain", CI="")[0] == 0
    assert outcome(tmp_path, mark="gpu", CI="true")[0] == 0


def test_test_of_a_program_that_is_not_here_is_skipped_with_the_line_that_installs_it(
    tmp_path: Path,
) -> None:
    lacking = {"mark": 'needs("bwrap", "hadolint")', "PATH": str(tmp_path)}
    code, said = outcome(tmp_path, **lacking, CI="")
    assert code == 0
    assert "no bwrap: apt-get install bubblewrap; no hadolint: python3 -m venv V; " in said
    code, said = outcome(tmp_path, **lacking, CI="true")
    assert code == 1
    assert "CI skips no test marked needs: " in said
    assert "no bwrap: apt-get install bubblewrap" in said


def test_program_that_nobody_says_how_to_get_is_an_error(tmp_path: Path) -> None:
    code, said = outcome(tmp_path, mark='needs("no-such-program")', CI="")
    assert code == 1
    assert "no-such-program: no line in tests/toys/programs.py says how it is had" in said


def test_ci_is_told_every_package_that_the_machine_lacks(tmp_path: Path) -> None:
    argv = [sys.executable, str(TESTS / "toys" / "programs.py")]
    told = subprocess.check_output(argv, env={"PATH": str(tmp_path)}, text=True).split()
    lacking = [name for name in programs.DEBIAN if not Path("/usr/sbin", name).exists()]
    assert {programs.DEBIAN[name] for name in lacking} <= set(told)
    assert "bubblewrap" in told
    for program in programs.DEBIAN:
        (tmp_path / program).touch(mode=0o755)
    told = subprocess.check_output(argv, env={"PATH": str(tmp_path)}, text=True).split()
    assert not set(programs.DEBIAN.values()) & set(told)
