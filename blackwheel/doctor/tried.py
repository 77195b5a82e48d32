"""Tries store, temporary files and compiler of a build: programs run, shared libraries link."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from blackwheel.core.errors import BlackwheelError
from blackwheel.core.process import capture
from blackwheel.core.units import size
from blackwheel.doctor.check import Check
from blackwheel.toolchain.host_compiler import host_compiler, require_shared_runtime

_CURE: Final = (
    "export BLACKWHEEL_HOME=/path (a folder of yours, on a disk that is not mounted noexec)"
)
_TEMPORARY_CURE: Final = "export TMPDIR=/path (a folder of yours with 1 GiB free)"
TEMPORARY_BYTES: Final = 1 << 30
"""The audit unpacks the libraries of a wheel there: 0.8 GiB were measured of a large one."""


def store_check(store: Path) -> Check:
    """Write a program where the store is, or will be, and run it; nothing is left behind."""
    there = next(path for path in (store, *store.parents) if path.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".blackwheel-", dir=there) as folder:
            program = Path(folder) / "tried"
            program.write_text("#!/bin/sh\nexit 7\n", encoding="ascii")
            program.chmod(0o700)
            code = _ran(program)
    except OSError as error:
        fact = f"{store}: {there} cannot be written: {error.strerror}"
        return Check(name="store", ok=False, fact=fact, cure=_CURE)
    if code != 7:
        fact = f"{store}: programs cannot be run there (mounted noexec?)"
        return Check(name="store", ok=False, fact=fact, cure=_CURE)
    return Check(name="store", ok=True, fact=f"{store} takes files and runs programs")


def _ran(program: Path) -> int:
    environment = {"PATH": "/usr/bin:/bin"}
    try:
        done = capture([str(program)], environment=environment, cwd=Path("/"), check=False)
    except BlackwheelError:  # not executable: noexec
        return 126
    return done.code


def temporary_check(environment: Mapping[str, str]) -> Check:
    """Write a file where temporary files go, and look whether that is where TMPDIR says."""
    name = "temporary files"
    try:
        used = Path(tempfile.gettempdir())
        with tempfile.TemporaryFile(dir=used) as file:
            file.write(bytes(1 << 20))
        free = shutil.disk_usage(used).free
    except OSError as error:
        fact = f"none can be written: {error.strerror}"
        return Check(name=name, ok=False, fact=fact, cure=_TEMPORARY_CURE)
    named = environment.get("TMPDIR", "")
    if named and Path(named).absolute() != used.absolute():
        fact = f"TMPDIR={named} takes no file: they go to {used}"
        return Check(name=name, ok=None, fact=fact, cure=_TEMPORARY_CURE)
    if free < TEMPORARY_BYTES:
        fact = f"{size(free)} free at {used}; the audit of a large wheel takes 1 GiB"
        return Check(name=name, ok=None, fact=fact, cure=_TEMPORARY_CURE)
    return Check(name=name, ok=True, fact=f"{size(free)} free at {used}")


def link_check(environment: Mapping[str, str], *, cuda: str) -> Check:
    """Link a shared C++ library, and look whether the C++ runtime stays outside of it."""
    try:
        found = host_compiler(environment, cuda=cuda)
        require_shared_runtime(found, environment)
    except BlackwheelError as error:
        return Check(name="link", ok=False, fact=error.fact, cure=error.fix)
    except OSError as error:
        fact = f"no temporary file for a trial can be written: {error.strerror}"
        return Check(name="link", ok=False, fact=fact, cure=_TEMPORARY_CURE)
    return Check(name="link", ok=True, fact=f"{found.path} links a shared C++ library")
