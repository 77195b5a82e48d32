"""A wheel of blackwheel itself carries its license, as its metadata says (PEP 639)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blackwheel as `pip wheel` packs it, from a copy: setuptools writes beside its sources."""
    source = tmp_path_factory.mktemp("source")
    for name in FILES:
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "blackwheel", source / "blackwheel")
    code = "import sys; from setuptools import build_meta as b; b.build_wheel(sys.argv[1])"
    out = tmp_path_factory.mktemp("out")
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, check=True, stdout=-3)
    (made,) = out.glob("*.whl")
    return made


def test_wheel_carries_license_and_notice_and_names_them(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (folder,) = {name.partition("/")[0] for name in archive.namelist() if "dist-info" in name}
        metadata = message_from_string(archive.read(f"{folder}/METADATA").decode())
        assert metadata["License-Expression"] == "Apache-2.0"
        assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
        for name in ("LICENSE", "NOTICE"):
            assert archive.read(f"{folder}/licenses/{name}") == (ROOT / name).read_bytes()


def test_wheel_carries_every_data_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    files = (path for path in (ROOT / "blackwheel").rglob("*") if path.is_file())
    there = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert there and there <= packed


def test_license_is_the_text_of_apache_2_0_and_the_one_that_pyproject_names() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.split()[:5] == ["Apache", "License", "Version", "2.0,", "January"]
    assert "END OF TERMS AND CONDITIONS" in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"


def test_notice_names_every_project_that_is_patched() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8").lower()
    names = {path.name for path in (ROOT / "patches").iterdir() if path.is_dir()}
    known = {"flash-attn": "flash-attention"}
    assert not [name for name in names if known.get(name, name) not in notice]


def test_private_key_that_is_made_here_is_no_file_of_the_repository() -> None:
    said = subprocess.run(
        ["git", "check-ignore", "wheels.key", "wheels.key.pub"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout.split() == ["wheels.key"]
