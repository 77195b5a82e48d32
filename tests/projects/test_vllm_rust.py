"""vLLM's own setup.py with the series: a cargo on PATH changes nothing that nobody asked for."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
import uv
from checkout import decoy, persons_environment, site_with

from blackwheel.sources import sdist
from blackwheel.stacks import loader

pytestmark = [pytest.mark.network, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
VLLM = loader.load("torch211", ROOT / "constraints").projects["vllm"]
LOCK = ROOT / "constraints" / "torch211" / "build-vllm-py311.txt"
TOOLS = ("packaging", "semantic-version", "setuptools", "setuptools-rust", "setuptools-scm")
TOOLS += ("vcs-versioning", "wheel")
FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "tools/build_rust.py")
FILES += ("requirements/common.txt", "vllm/__init__.py", "vllm/envs.py")
TORCH = {
    "torch/__init__.py": "from torch import version\n__version__ = '2.11.0+cu130'\n",
    "torch/version.py": "cuda = '13.0'\nhip = None\ngit_version = '0' * 40\n",
    "torch/utils/__init__.py": "",
    "torch/utils/cpp_extension.py": "CUDA_HOME = ROCM_HOME = None\n",
}
"""What setup.py imports of torch before it packs: the target `empty` compiles nothing."""


class Upstream:
    """The part of the release that decides what is packed, patched, and an environment for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        assert VLLM.sdist
        archive = sdist.obtain(site_with(folder), VLLM.sdist, project="vllm")
        self.tree = folder / "tree"
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.partition("/")[2]
                if name in FILES:
                    path = self.tree / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
        for name, text in TORCH.items():
            path = folder / "torch" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        self._make_environment()

    def _make_environment(self) -> None:
        blocks = LOCK.read_text(encoding="utf-8").split("\n")
        kept, inside = [], False
        for line in blocks:
            if not line.startswith((" ", "#")):
                inside = line.partition("==")[0] in TOOLS
            kept += [line] if inside else []
        lock = self.folder / "lock.txt"
        lock.write_text("\n".join(kept), encoding="utf-8")
        environment = self.folder / "env"
        tool = uv.find_uv_bin()
        self.run([tool, "venv", "--quiet", "--python", "3.11", str(environment)])
        self.python = environment / "bin" / "python"
        install = [tool, "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        self.run([*install, "--python", str(self.python), "--requirement", str(lock)])

    def run(self, argv: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=self.tree,
            env={**persons_environment(), **variables},
            capture_output=True,
            text=True,
            check=not variables,
        )

    def patch(self) -> None:
        """Apply what the series changes of these files."""
        words = [f"--include={name}" for name in (*FILES, "vllm/_torch_guard.py")]
        for patch in sorted((ROOT / "patches" / "vllm" / VLLM.version).glob("*.patch")):
            self.run(["git", "apply", *words, str(patch)])

    def wheel(self, out: Path, path: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run(
            [str(self.python), "setup.py", "-q", "bdist_wheel", "--dist-dir", str(out)],
            PATH=path,
            PYTHONPATH=str(self.folder / "torch"),
            SOURCE_DATE_EPOCH="1600000000",
            VLLM_TARGET_DEVICE="empty",
            VLLM_TORCH_REQUIREMENT="torch===2.11.0",
            VLLM_VERSION_OVERRIDE=VLLM.version,
            **{"VLLM_REQUIRE_RUST_FRONTEND": VLLM.variables["VLLM_REQUIRE_RUST_FRONTEND"]}
            | variables,
        )


def contents(folder: Path) -> dict[str, str]:
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def test_a_cargo_on_path_changes_no_file_of_the_wheel_and_is_never_called(tmp_path: Path) -> None:
    upstream = Upstream(tmp_path)
    upstream.patch()
    without = "/usr/bin:/bin"
    assert not any(Path(folder, "cargo").exists() for folder in without.split(":"))
    cargo = decoy(tmp_path / "cargo", "cargo", "rustc")
    absent = upstream.wheel(tmp_path / "absent", without)
    present = upstream.wheel(tmp_path / "present", f"{cargo}:{without}")
    assert (absent.returncode, present.returncode) == (0, 0), absent.stderr + present.stderr
    assert "vllm/_torch_guard.py" in contents(tmp_path / "absent")
    assert contents(tmp_path / "absent") == contents(tmp_path / "present")
    assert not (cargo / "called").exists()

    # Where the stack asks for the front end, the one that cannot be built ends the build.
    asked = upstream.wheel(tmp_path / "asked", f"{cargo}:{without}", VLLM_REQUIRE_RUST_FRONTEND="1")
    assert asked.returncode != 0
    assert (cargo / "called").exists()
    assert not list((tmp_path / "asked").glob("*.whl"))
