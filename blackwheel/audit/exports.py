"""Lists the symbols that torch, CUDA packages and Python export; keeps one table per torch."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blackwheel.audit.elf import Elf, UnreadableLibraryError, read_elf
from blackwheel.core import records
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import replace_file
from blackwheel.pytorch.identity import INSTALLED

FORMAT: Final = 2
"""Raised when the table's form changes."""
FOLDERS: Final = ("torch/lib", "nvidia/*/lib")
DISTRIBUTIONS: Final = ("torch-*.dist-info", "nvidia_*.dist-info")
PYTHON: Final = "python"
SYSTEM: Final = ("libc.so.6", "libm.so.6", "libdl.so.2", "libgcc_s.so.1", "libstdc++.so.6")
"""Their tables on this machine serve symbols that were linked without a version."""
SYSTEM_FOLDERS: Final = ("/lib/x86_64-linux-gnu", "/lib64", "/usr/lib")
GLOBAL: Final = "libtorch_global_deps.so"
"""torch loads it for everyone (RTLD_GLOBAL), and with it what it needs."""


class LacksLibraryError(BlackwheelError):
    """An environment without a library that the project's are loaded beside."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """Exports of one library, and the libraries that it loads."""

    needed: tuple[str, ...]
    exports: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Exports:
    """All symbols that a wheel's libraries may link against, beside the system's."""

    torch: str
    """`2.11.0+cu130`."""
    python: str
    """`cpython-312`, as it stands in extension modules' names."""
    libraries: Mapping[str, Shelf]
    """By soname; the interpreter's own symbols under `python`."""
    beside: tuple[str, ...] = ()
    """Those that are loaded for everyone before the wheel's own."""

    def owner(self, symbol: str) -> str:
        """Return the first library that exports the symbol, or nothing."""
        names = (name for name, one in self.libraries.items() if symbol in one.exports)
        return next(names, "")

    def reach(self, needed: Iterable[str]) -> set[str]:
        """Return the names of all libraries that are loaded, directly or not, for these."""
        seen: set[str] = set()
        waiting = [PYTHON, GLOBAL, *self.beside, *needed]
        while waiting:
            name = waiting.pop()
            if name in seen or name not in self.libraries:
                continue
            seen.add(name)
            waiting += self.libraries[name].needed
        return seen


def exports_of(
    environment: Path, *, store: Path, cuda: Path | None = None, beside: Sequence[str] = ()
) -> Exports:
    """Return the table of a virtual environment that holds torch, made on the first call.

    `cuda` is a toolkit whose libraries serve a torch that has none beside it, as vendors build it;
    `beside` are paths of libraries below site-packages that are loaded before those of a wheel.

    Raises `torch-missing` and `no-library-beside`. The table is found again by the RECORDs of torch
    and the CUDA packages and the sizes of their libraries: it takes a second when it is made, 0.1 s
    after.
    """
    links = environment / INSTALLED
    found = [links] if (links / "torch").exists() else []
    found += sorted(environment.glob("lib/python3*/site-packages"))
    packages = found[0] if found else environment
    files = sorted({file for folder in FOLDERS for file in packages.glob(f"{folder}/*.so*")})
    if not any(file.name.startswith("libtorch") for file in files):
        raise BlackwheelError(
            "torch-missing",
            "no torch is installed there",
            where=str(packages),
            fix="name a virtual environment, or its site-packages folder, with torch in it",
            code=Exit.TORCH,
        )
    if cuda and not any(packages.glob("nvidia/*/lib/libcudart.so*")):
        files += sorted((cuda / "lib64").glob("lib*.so*"))
    table = store / "exports" / f"{_digest(packages, files)}.json"
    libraries = _load(table)
    if libraries is None:
        libraries = _libraries(files)
        _save(table, libraries)
    interpreter, tag = _python(environment)
    libraries |= interpreter | system_exports()
    loaded = _libraries(_beside(path, environment) for path in beside)
    return Exports(
        torch=_torch_version(packages),
        python=tag,
        libraries=libraries | loaded,
        beside=tuple(loaded),
    )


def _beside(path: str, environment: Path) -> Path:
    found = [one for one in environment.glob(f"lib/python3*/site-packages/{path}") if one.is_file()]
    if not found:
        raise LacksLibraryError(
            "no-library-beside",
            f"the environment holds no {path}, which the stack has loaded before the wheel's own",
            where=str(environment),
            fix="name its package among the project's `requirements`, then: nox -s lock",
            code=Exit.CONFIG,
        )
    return found[0]


def _digest(packages: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256(f"{FORMAT}\n".encode())
    for pattern in DISTRIBUTIONS:
        for record in sorted(packages.glob(f"{pattern}/RECORD")):
            digest.update(record.read_bytes())
    for file in files:
        name = file.relative_to(packages) if file.is_relative_to(packages) else file
        digest.update(f"{name} {file.stat().st_size}\n".encode())
    return digest.hexdigest()


def _libraries(files: Iterable[Path]) -> dict[str, Shelf]:
    found: dict[str, Shelf] = {}
    for file in files:
        try:
            elf = read_elf(file)
        except UnreadableLibraryError:
            continue  # a linker script; a broken library exports nothing and so excuses nothing
        for name in {elf.soname, file.name}:
            found[name] = _shelf(elf)
    return found


def _shelf(elf: Elf) -> Shelf:
    return Shelf(needed=elf.needed, exports=elf.exports)


def _python(environment: Path) -> tuple[dict[str, Shelf], str]:
    """The symbols of the environment's interpreter, and how extension modules name it."""
    program = environment / "bin" / "python"
    if not program.exists():
        return {}, ""
    real = program.resolve()
    elf = read_elf(real)
    shelves = {PYTHON: _shelf(elf)}
    for name in elf.needed:
        if name.startswith("libpython"):
            shelves |= _found(name, [str(real.parents[1] / "lib"), *SYSTEM_FOLDERS])
    found = sorted(environment.glob("lib/python3*"))
    tag = found[0].name.removeprefix("python").replace(".", "") if found else ""
    return shelves, f"cpython-{tag}"


@functools.cache
def system_exports() -> dict[str, Shelf]:
    """Return the exports of this machine's C and C++ libraries, read once: 0.1 s."""
    shelves: dict[str, Shelf] = {}
    for name in SYSTEM:
        shelves |= _found(name, SYSTEM_FOLDERS)
    return shelves


def _found(name: str, folders: Iterable[str]) -> dict[str, Shelf]:
    for folder in folders:
        file = Path(folder) / name
        if file.is_file():
            return {name: _shelf(read_elf(file))}
    return {}


def _torch_version(packages: Path) -> str:
    text = (packages / "torch" / "version.py").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("__version__")]
    return lines[0].partition("=")[2].strip(" '\"") if lines else "unknown"


def _load(table: Path) -> dict[str, Shelf] | None:
    """The kept table; None where there is none or it is not whole."""
    try:
        digest, _, text = table.read_bytes().partition(b"\n")
        if hashlib.sha256(text).hexdigest().encode() != digest:
            return None
        return records.parsed(text, dict[str, Shelf])
    except (OSError, records.NotARecordError):
        return None


def _save(table: Path, libraries: Mapping[str, Shelf]) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    document = {
        name: {"needed": one.needed, "exports": sorted(one.exports)}
        for name, one in libraries.items()
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    # A flipped bit in a name would be a symbol that torch lacks, or has.
    replace_file(table, hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
