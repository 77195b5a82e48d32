"""The import guard that the series gives to flash_attn, beside a torch that may be another."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from blackwheel.core.process import Completed, capture

PATCH = Path(__file__).parents[2] / "patches/flash-attn/2.8.3/0005-refuse-another-torch.patch"
BUILT_FOR = {
    "wheel": "2.8.3+cu130torch2.11.0.sm120a.1",
    "requirement": "torch===2.11.0",
    "version": "2.11.0+cu130",
    "git_version": "70d99e998b4955e0049d13a98d77ae1b14db1f45",
    "cuda": "13.0",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the guard as the patch writes it, and what setup.py wrote beside it."""
    argv = ["git", "apply", "--include=flash_attn/_torch_guard.py", str(PATCH)]
    environment = {"PATH": "/usr/bin:/bin", "GIT_CEILING_DIRECTORIES": "/"}
    capture(argv, environment=environment, cwd=tmp_path)
    (tmp_path / "flash_attn/_built_for.py").write_text(f"TORCH = {BUILT_FOR!r}\n")
    (tmp_path / "flash_attn/__init__.py").write_text("from flash_attn import _torch_guard\n")
    return tmp_path


def imported(site: Path, *, allow: str = "", **torch: str) -> Completed:
    seen = {**BUILT_FOR, **torch}
    folder = site / "torch"
    folder.mkdir()
    (folder / "__init__.py").write_text(f"__version__ = {seen['version']!r}\nfrom . import version")
    (folder / "version.py").write_text(
        f"git_version = {seen['git_version']!r}\ncuda = {seen['cuda']!r}\n"
    )
    environment = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"}
    environment |= {"FLASH_ATTN_ALLOW_OTHER_TORCH": allow} if allow else {}
    return capture(
        [sys.executable, "-c", "import flash_attn; print('imported')"],
        environment=environment,
        cwd=site,
        check=False,
    )


def test_guard_lets_the_torch_it_was_built_for_pass(site: Path) -> None:
    assert imported(site).stdout == "imported\n"


def test_guard_names_both_torches_and_the_cure(site: Path) -> None:
    seen = imported(site, version="2.13.0+cu130", git_version="f" * 40)
    assert seen.code == 1
    assert seen.stderr.splitlines()[-1] == (
        "ImportError: flash_attn 2.8.3+cu130torch2.11.0.sm120a.1 was built for torch 2.11.0+cu130"
        " (git 70d99e998b49, CUDA 13.0), and found torch 2.13.0+cu130 (git ffffffffffff, CUDA"
        " 13.0): its symbols need not match. Install the torch it was built for: python -m pip"
        " install 'torch===2.11.0'. To import it all the same: FLASH_ATTN_ALLOW_OTHER_TORCH=1"
    )


@pytest.mark.parametrize(
    "difference",
    [{"version": "2.11.0+cu128"}, {"git_version": "0" * 40}, {"cuda": "12.8"}],
    ids=lambda difference: next(iter(difference)),
)
def test_guard_refuses_a_torch_that_differs_in_one_thing(
    site: Path, difference: dict[str, str]
) -> None:
    assert "ImportError: flash_attn 2.8.3" in imported(site, **difference).stderr


def test_guard_can_be_overridden(site: Path) -> None:
    assert imported(site, version="2.13.0", allow="1").stdout == "imported\n"
