"""Prepares a build of the real kernel: the registry's toolchain and torch, with compiles copied.

Everything is as `invoke build-wheels` has it, but that nvcc compiles the same source only once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

from .case import Case
from .worlds import World

PEAK = 3 << 30
"""Of one process: the linker and cuobjdump included."""
HERE = Path(__file__).parent


def memo(world: World) -> Path:
    """Return the folder of the compiler that stands before nvcc."""
    return world.base / "memo"


def build_command(case: Case, *, built: bool = False) -> tuple[str, ...]:
    """Begin with sources at hand and a build due (or `built` once); return what nox would start."""
    world = case.world
    world.makers.setdefault("build", lambda: _prepare(case))
    world.makers.setdefault("built", lambda: _build(case))
    case.begin("built" if built else "build")
    return _words(world)


def _words(world: World) -> tuple[str, ...]:
    (environment,) = world.store.glob("nox/toy-*/build-toy-cuda")
    file = world.store / "sessions" / "campaign.json"
    return ("session", "build", str(file), "--environment", str(environment))


def other_wheel(case: Case, words: tuple[str, ...]) -> list[str]:
    """Say whether the wheel that a successful build left is another than the undisturbed one."""
    wanted, found = case.reference(*words).bytes, case.state()
    return [f"other bytes, and nobody noticed: {n}" for n in wanted if found.get(n) != wanted[n]]


def _said(case: Case, *words: str) -> None:
    done = case.lab.shell.ended(case.lab.shell.start(words, case.world.environment), seconds=1200)
    assert done.code == 0, done.said[-2000:]


def _prepare(case: Case) -> None:
    """Build once as a person does, then make a second toolchain whose nvcc remembers."""
    world = case.world
    world.put("toy")
    if not list(world.shared.glob("toolchains/*")) or not list(
        world.shared.glob("nox/toy-*/smoke")
    ):
        _said(case, "build-wheels", "--stack", "toy")
        world.put("toy")
    folder = memo(world)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    own = world.base / "toolchains"
    shutil.rmtree(own, ignore_errors=True)
    subprocess.run(["cp", "-al", str(world.shared / "toolchains"), str(own)], check=True)
    (home,) = (path for path in own.iterdir() if path.is_dir())
    nvcc = home / "cuda" / "bin" / "nvcc"
    real = world.shared / "toolchains" / home.name / "cuda" / "bin" / "nvcc"
    told = subprocess.run([str(real), "--version"], capture_output=True, text=True, check=True)
    (folder / "version").write_text(told.stdout, encoding="utf-8")
    text = (HERE / "memo_nvcc.sh").read_text(encoding="utf-8")
    nvcc.unlink()
    nvcc.write_text(
        text.replace("@memo@", str(folder)).replace("@real@", str(real)), encoding="utf-8"
    )
    nvcc.chmod(0o755)
    _recorded(home, nvcc)
    marker = json.loads((home / "toolchain.json").read_text(encoding="utf-8"))
    marker["files"]["cuda/bin/nvcc"] = str(nvcc.stat().st_size)
    (home / "toolchain.json").unlink()
    (home / "toolchain.json").write_text(json.dumps(marker), encoding="utf-8")
    link = world.store / "toolchains"
    link.unlink()
    link.symlink_to(own)
    sessions = world.store / "sessions"
    sessions.mkdir(mode=0o700, exist_ok=True)
    file = sessions / "campaign.json"
    _said(case, "session", "resolve", str(file), "build", "toy-cuda", "--stack", "toy")
    _said(case, *_words(world))  # sources, patched tree, torch's records
    objects = sorted(folder.glob("*.o"))
    shutil.copy2(objects[0], folder / "other.o")
    shutil.rmtree(world.store / "builds")


def _recorded(home: Path, nvcc: Path) -> None:
    """Write the script into the RECORD of its wheel, which a toolchain is compared with."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(nvcc.read_bytes()).digest()).rstrip(b"=")
    row = f"\\1,sha256={digest.decode()},{nvcc.stat().st_size}"
    for record in home.glob("packages/nvidia_cuda_nvcc-*.dist-info/RECORD"):
        text = re.sub(r"(?m)^(nvidia/cu[^/]*/bin/nvcc),.*$", row, record.read_text("utf-8"))
        record.unlink()  # a link to the shared one
        record.write_text(text, encoding="utf-8")


def _build(case: Case) -> None:
    case.world.put("build")
    _said(case, *_words(case.world))
    for wheel in case.world.store.glob("builds/*/*/*/*/wheel/*"):
        wheel.unlink()  # else it is a candidate, and nothing is due
