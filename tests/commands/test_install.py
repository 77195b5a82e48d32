"""`invoke install`: toy wheels and a toy torch from a local index, into a real environment."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import proved
import pytest
from wheel.wheelfile import WheelFile

from blackwheel.commands import install as installing
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site

OTHER = "2.12.0+cu130"


def torch_wheel(folder: Path, runtime: str = "2.11.0+cu130") -> Path:
    """A torch that holds its version and nothing else."""
    (folder / "torch").mkdir(parents=True, exist_ok=True)
    path = folder / "torch" / "torch-2.11.0-py3-none-any.whl"
    info, tag = "torch-2.11.0.dist-info", "Root-Is-Purelib: true\nTag: py3-none-any\n"
    told = f"__version__ = {runtime!r}\ngit_version = {proved.GIT!r}\ncuda = '13.0'\n"
    with WheelFile(path, "w") as wheel:
        wheel.writestr("torch/__init__.py", "")
        wheel.writestr("torch/version.py", told)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.4\nName: torch\nVersion: 2.11.0\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\n{tag}")
    (folder / "torch" / "index.html").write_text(f'<a href="{path.name}">{path.name}</a>')
    return path


def pin_torch(site: Site, torch: Path) -> None:
    digest = hashlib.sha256(torch.read_bytes()).hexdigest()
    lock = site.constraints / "toy" / f"run-toy-py{proved.PYTHON.replace('.', '')}.txt"
    lock.write_text(f"torch==2.11.0 \\\n    --hash=sha256:{digest}\n", encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A checkout with one shelved toy, and an index that has its torch."""
    monkeypatch.setattr(installing, "TORCH_BYTES", 1 << 20)
    made = proved.new_checkout(tmp_path / "checkout")
    own = {
        **made.environment,
        "UV_DEFAULT_INDEX": (tmp_path / "index").as_uri(),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
    }
    site = proved.site_of(made.checkout, own)
    pin_torch(site, torch_wheel(tmp_path / "index"))
    proved.shelve(site, proved.make_wheel(tmp_path / "w", "toy", proved.library(tmp_path)))
    return site


def install(site: Site, into: Path | str, *, rollback: bool = False) -> int:
    return installing.install(
        site, "toy", into=str(into), only=["toy"], python=proved.PYTHON, rollback=rollback
    )


def refused(site: Site, into: Path | str, *, rollback: bool = False) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        install(site, into, rollback=rollback)
    return caught.value


def folders(home: Path) -> list[str]:
    return sorted(path.name for path in home.glob("2*"))


def test_new_environment_holds_the_wheel_and_its_pins_and_current_names_it(
    site: Site, tmp_path: Path
) -> None:
    home = tmp_path / "vllm"
    assert install(site, home) == Exit.OK
    (name,) = folders(home)
    assert (home / "current").readlink() == Path(name)
    python = home / "current" / "bin" / "python"
    code = "import toy, torch.version; print(toy.__file__, torch.version.__version__)"
    seen = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.startswith(str(home))
    assert seen.stdout.endswith(" 2.11.0+cu130\n")
    mark = json.loads((home / "current" / "blackwheel.json").read_text(encoding="utf-8"))
    (wheel,) = site.wheels.glob("toy/*.whl")
    assert mark["wheels"] == {wheel.name: hashlib.sha256(wheel.read_bytes()).hexdigest()}
    assert f"back       invoke install --into {home} --rollback\n" in proved.said(site)


def test_upgrade_keeps_the_old_folder_and_rollback_goes_back(site: Site, tmp_path: Path) -> None:
    home = tmp_path / "vllm"
    install(site, home)
    left = home / "2020-01-01T000000.000000-toy"
    left.mkdir()  # what a killed run leaves has no mark
    install(site, home)
    old, new = folders(home)
    assert (home / "current").readlink() == Path(new)
    assert install(site, home, rollback=True) == Exit.OK
    assert (home / "current").readlink() == Path(old)
    assert refused(site, home, rollback=True).name == "nothing-to-go-back-to"
    assert (home / "current").readlink() == Path(old)
    assert folders(home) == [old, new]


def test_failed_upgrade_leaves_current_and_no_folder(site: Site, tmp_path: Path) -> None:
    home = tmp_path / "vllm"
    install(site, home)
    (old,) = folders(home)
    (wheel,) = site.wheels.glob("toy/*.whl")
    good = wheel.read_bytes()
    other = proved.make_wheel(tmp_path / "o", "toy", proved.library(tmp_path), module="x = 1\n")
    wheel.write_bytes(other.read_bytes())
    error = refused(site, home)
    assert (error.name, error.code) == ("install-failed", Exit.INDEX)
    assert "hash" in error.fact.lower()
    wheel.write_bytes(good)
    pin_torch(site, torch_wheel(tmp_path / "index", OTHER))  # what its pins name is another torch
    error = refused(site, home)
    assert (error.name, error.code) == ("environment-differs", Exit.TORCH)
    assert f"found {OTHER}" in error.fact
    assert folders(home) == [old]
    assert (home / "current").readlink() == Path(old)


def test_what_cannot_work_is_refused_before_anything_is_downloaded(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installing, "_fill", lambda *_: pytest.fail("it downloads"))
    home = tmp_path / "vllm"
    assert refused(site, "").name == "no-folder"
    home.mkdir()
    (home / "notes.txt").touch()
    assert refused(site, home).fact == f"{home} holds other things: notes.txt"
    (home / "notes.txt").unlink()
    monkeypatch.setattr(installing.sys, "prefix", str(tmp_path))
    assert refused(site, home).name == "own-environment"
    monkeypatch.undo()
    with monkeypatch.context() as patched:
        patched.setattr(installing, "TORCH_BYTES", 1 << 60)
        assert refused(site, home).name == "disk-full"
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\necho 'RTX 5090, 570.10, 12.0'\n")
    (tools / "nvidia-smi").chmod(0o755)
    old = proved.site_of(site.checkout, {**site.environment, "PATH": f"{tools}:/usr/bin:/bin"})
    error = refused(old, home)
    assert (error.name, error.code) == ("driver-too-old", Exit.MACHINE)
    toml = site.constraints / "toy.toml"
    text = toml.read_text(encoding="utf-8")
    toml.write_text(text.replace("2.11.0+cu130", OTHER), encoding="utf-8")
    error = refused(site, home)
    assert (error.name, error.code) == ("another-torch", Exit.TORCH)
    assert folders(home) == []


def test_two_runs_do_not_fill_one_folder(site: Site, tmp_path: Path) -> None:
    home = tmp_path / "vllm"
    with installing._held(home):
        assert refused(site, home).name == "install-busy"
