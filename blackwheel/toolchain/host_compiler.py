"""Finds the host's C++ compiler, and checks it against the versions that nvcc accepts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import capture
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
    argv = [found, "-dM", "-E", "-x", "c++", "/dev/null"]
    macros = capture(argv, environment=environment, cwd=Path("/")).stdout
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
