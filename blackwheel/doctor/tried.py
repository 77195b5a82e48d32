"""Tries the store and the compiler of a build: programs run there, shared libraries link."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from blackwheel.core.errors import BlackwheelError
from blackwheel.core.process import capture
from blackwheel.doctor.check import Check
from blackwheel.toolchain.host_compiler import host_compiler, require_shared_runtime

_CURE = "export BLACKWHEEL_HOME=/path (a folder of yours, on a disk that is not mounted noexec)"


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


def link_check(environment: Mapping[str, str], *, cuda: str) -> Check:
    """Link a shared C++ library, and look whether the C++ runtime stays outside of it."""
    try:
        found = host_compiler(environment, cuda=cuda)
        require_shared_runtime(found, environment)
    except BlackwheelError as error:
        return Check(name="link", ok=False, fact=error.fact, cure=error.fix)
    return Check(name="link", ok=True, fact=f"{found.path} links a shared C++ library")
