"""Checks whether this machine can serve a stack's wheels, and compile at run time (`--serve`)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from blackwheel.core.errors import BlackwheelError
from blackwheel.core.machine import Machine, interpreters
from blackwheel.core.process import capture
from blackwheel.core.units import size
from blackwheel.doctor import ahead
from blackwheel.doctor.check import Check
from blackwheel.doctor.machine_checks import PTX, gpu_checks, wsl_checks
from blackwheel.stacks import projects
from blackwheel.stacks.projects import Cache, Serve
from blackwheel.stacks.records import Stack
from blackwheel.toolchain.releases import releases

CACHES: Final = (
    Cache(variable="TRITON_CACHE_DIR", folder=".triton/cache"),
    Cache(variable="CUDA_CACHE_PATH", folder=".nv/ComputeCache"),
)
"""Where torch's Triton and the driver leave what they compile at run time."""
SHARED_BYTES: Final = 1 << 30
"""Docker's default of 64 MB ends a server of several processes."""


def examine(
    stack: Stack,
    patches: Path,
    environment: Mapping[str, str],
    machine: Machine,
    *,
    shelf: Path | None = None,
) -> tuple[Check, ...]:
    """Look at everything that a server needs beside the wheels; `shelf` is the stack's folder."""
    known = (projects.load(patches, name).serve for name in stack.build)
    served = [one for one in known if one]
    nvcc = _compiler(environment)[0].is_file()
    return (
        *_devices(stack, environment, machine),
        *_triton(stack, environment),
        *(_nvcc(one, environment) for one in served if one.compiles),
        *ahead.examine(stack, patches, shelf=shelf, nvcc=nvcc),
        *_caches([*(cache for one in served for cache in one.caches), *CACHES], environment),
        _shared_memory(Path("/dev/shm")),  # noqa: S108  it is what is measured
        *wsl_checks(machine, ()),
    )


def _devices(stack: Stack, environment: Mapping[str, str], machine: Machine) -> Iterator[Check]:
    """Driver and GPU as for a build, but here nothing runs without them."""
    for check in gpu_checks(stack, machine, environment):
        if check.ok or check.name == PTX:
            yield check
            continue
        cure = check.cure or f"a card of {', '.join(stack.archs)}, visible to this machine"
        fact = check.fact.partition(";")[0]
        yield Check(name=check.name, ok=False, fact=fact, cure=cure)


def _triton(stack: Stack, environment: Mapping[str, str]) -> Iterator[Check]:
    path = environment.get("PATH", "")
    names = filter(None, (environment.get("CC"), "gcc", "clang", "cc"))
    compiler = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
    yield Check(
        name="compiler",
        ok=bool(compiler),
        fact=f"{compiler}: Triton compiles its launchers with it"
        if compiler
        else "no C compiler: Triton compiles its launchers when a server starts",
        cure="" if compiler else "apt-get install gcc (Debian, Ubuntu); in an image, keep it there",
    )
    pythons = interpreters(stack.python, environment)
    whole = [python for python in pythons if python.header]
    yield Check(
        name="Python.h",
        ok=bool(whole),
        fact=", ".join(f"{python.version} ({python.path})" for python in whole)
        or f"no Python {', '.join(stack.python)} with its headers: Triton needs them",
        cure="" if whole else f"apt-get install python{stack.python[-1]}-dev",
    )


def _compiler(environment: Mapping[str, str]) -> tuple[Path, str]:
    """Return the nvcc that compiles at run time, there or not, and what names it.

    Of CUDA_HOME, CUDA_PATH, PATH, else the default.
    """
    name = next((n for n in ("CUDA_HOME", "CUDA_PATH") if environment.get(n)), "")
    on_path = shutil.which("nvcc", path=environment.get("PATH", ""))
    if name:
        return Path(environment[name]) / "bin" / "nvcc", name
    if on_path:
        return Path(on_path), "PATH"
    return Path("/usr/local/cuda/bin/nvcc"), "the default"


def _nvcc(served: Serve, environment: Mapping[str, str]) -> Check:
    nvcc, how = _compiler(environment)
    if not nvcc.is_file():
        fact = f"no nvcc by {how} ({nvcc}): {served.compiles} cannot compile at run time"
        return Check(name="nvcc", ok=None, fact=fact, cure=served.without_nvcc or "")
    release = _release(nvcc, environment)
    fact = f"nvcc {release or 'of an unknown release'} by {how} ({nvcc})"
    known = releases().get(release)
    if known and known.runtime:
        cure = "export CUDA_HOME=a toolkit of CUDA 13"
        return Check(name="nvcc", ok=None, fact=f"{fact}: {known.runtime}", cure=cure)
    return Check(name="nvcc", ok=True if release else None, fact=fact)


def _release(nvcc: Path, environment: Mapping[str, str]) -> str:
    try:
        told = capture([str(nvcc), "--version"], environment=environment, cwd=Path("/"), timeout=30)
    except (BlackwheelError, OSError):
        return ""
    found = re.search(r"release (\d+\.\d+)", told.stdout)
    return found[1] if found else ""


def _caches(caches: Sequence[Cache], environment: Mapping[str, str]) -> Iterator[Check]:
    home = environment.get("HOME", "/")
    for cache in caches:
        name, wanted = cache.variable, cache.gib << 30
        folder = Path(environment.get(name) or f"{home}/{cache.folder}")
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        fact = f"{folder}: {size(free)} free"
        cure = "" if free >= wanted else f"{size(wanted)} wanted: export {name}=on another disk"
        yield Check(name=name, ok=True if free >= wanted else None, fact=fact, cure=cure)


def _shared_memory(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free if folder.is_dir() else 0
    fact = f"{folder}: {size(free)} free"
    cure = "" if free >= SHARED_BYTES else "docker run --ipc=host, or --shm-size 8g"
    return Check(name="shared", ok=True if free >= SHARED_BYTES else None, fact=fact, cure=cure)
