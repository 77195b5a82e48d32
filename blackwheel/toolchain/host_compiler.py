"""Finds the host's C++ compiler, and checks it against the versions that nvcc accepts."""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import capture
from blackwheel.stacks.records import Stack
from blackwheel.toolchain.releases import release

OLDEST: Final = 9
"""The lowest major version of gcc and of clang that compiles torch's C++17."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiler:
    """The host's C++ compiler."""

    path: Path
    kind: Literal["gcc", "clang"]
    version: str


def host_compiler(environment: Mapping[str, str], *, cuda: str) -> Compiler:
    """Find the C++ compiler (CXX, else g++); check that nvcc of release `cuda` accepts it.

    Raises `no-compiler`, `wrong-compiler` and `unknown-cuda-release`.
    """
    name = environment.get("CXX") or "g++"
    found = shutil.which(name, path=environment.get("PATH", ""))
    if not found and len(name.split()) > 1:
        raise BlackwheelError(
            "no-compiler",
            f"CXX is '{name}': several words, where one program is wanted",
            where="CXX",
            fix=f"export CXX={name.split()[-1] if not name.split()[-1].startswith('-') else 'g++'}"
            "\nblackwheel brings a compile cache of its own: pip install -e '.[cache]'",
            code=Exit.MACHINE,
        )
    if not found:
        raise BlackwheelError(
            "no-compiler",
            f"there is no C++ compiler '{name}' on PATH",
            where="CXX" if environment.get("CXX") else "PATH",
            fix="apt-get install g++ (Debian, Ubuntu) or dnf install gcc-c++ (Fedora, RHEL)",
            code=Exit.MACHINE,
        )
    file = Path(found).stat()
    macros = _macros(found, (file.st_mtime_ns, file.st_size), tuple(sorted(environment.items())))
    defined = dict(re.findall(r"^#define __(\w+?)_* (\d+)$", macros, flags=re.MULTILINE))
    clang = "clang_major" in defined
    words = ("clang_major", "clang_minor") if clang else ("GNUC", "GNUC_MINOR")
    version = ".".join(defined.get(word, "0") for word in words)
    known = release(cuda)
    high = known.clang if clang else known.gcc
    kind: Literal["gcc", "clang"] = "clang" if clang else "gcc"
    plain = "clang++" if clang else "g++"
    if not OLDEST <= int(version.split(".", maxsplit=1)[0]) <= high:
        raise BlackwheelError(
            "wrong-compiler",
            f"{found} is {kind} {version}; nvcc {cuda} takes {kind} {OLDEST} to {high}",
            where="CXX" if environment.get("CXX") else "PATH",
            fix=f"install one of those, and name it: export CXX={plain}-{high}",
            code=Exit.MACHINE,
        )
    return Compiler(path=Path(found), kind=kind, version=version)


@functools.cache
def _macros(program: str, _: tuple[int, int], environment: tuple[tuple[str, str], ...]) -> str:
    """Ask a compiler for what it defines, once for all stacks that a command lists."""
    argv = [program, "-dM", "-E", "-x", "c++", "/dev/null"]
    return capture(argv, environment=dict(environment), cwd=Path("/")).stdout


def require_gcc(compiler: Compiler, stack: Stack, projects: Iterable[str]) -> None:
    """Raise `old-compiler` where a project's host code wants a newer GCC than this one."""
    if compiler.kind != "gcc":
        return
    for project in projects:
        wanted = stack.projects[project].gcc
        if wanted and _numbers(compiler.version) < _numbers(wanted):
            major = wanted.partition(".")[0]
            raise BlackwheelError(
                "old-compiler",
                f"{project} {stack.projects[project].version} wants gcc {wanted} or newer;"
                f" {compiler.path} is gcc {compiler.version}",
                where=f"constraints/{stack.name}.toml, projects.{project}.gcc",
                fix=f"apt-get install g++-{major}, then: export CXX=g++-{major}"
                "\nDebian 12 has none above 12: a container of a newer release",
                code=Exit.MACHINE,
            )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


_THROWING: Final = """#include <stdexcept>
extern "C" void blackwheel_try() { throw std::runtime_error("tried"); }
"""


def require_shared_runtime(compiler: Compiler, environment: Mapping[str, str]) -> None:
    """Link a shared C++ library as a build does; raise `cannot-link` or `static-runtime`.

    A full disk is an OSError of the folder.

    The audit refuses a wheel with a C++ runtime of its own, after hours: this takes a moment.
    """
    with tempfile.TemporaryDirectory(prefix="blackwheel-link-") as folder:
        source, library = Path(folder) / "tried.cpp", Path(folder) / "tried.so"
        source.write_text(_THROWING, encoding="utf-8")
        argv = [str(compiler.path), "-shared", "-fPIC", "-o", str(library), str(source)]
        done = capture(argv, environment=environment, cwd=Path(folder), check=False)
        data = library.read_bytes() if library.is_file() else b""
    if "No space left on device" in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
    if done.code or not data:
        raise BlackwheelError(
            "cannot-link",
            "the C++ compiler links no shared library\n" + "\n".join(done.stderr.splitlines()[-8:]),
            where=str(compiler.path),
            fix="apt-get install g++ (Debian, Ubuntu) or dnf install gcc-c++ (Fedora, RHEL)",
            code=Exit.MACHINE,
        )
    if not re.search(rb"lib(std)?c\+\+\.so", data):
        raise BlackwheelError(
            "static-runtime",
            "this compiler links the C++ runtime into each library: the audit refuses such a wheel,"
            "\nbecause an exception of torch could not pass through it",
            where=str(compiler.path),
            fix="name a compiler that links libstdc++.so: export CXX=/usr/bin/g++",
            code=Exit.MACHINE,
        )
