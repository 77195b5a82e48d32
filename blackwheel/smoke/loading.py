"""Loads every library of a wheel beside torch alone, and checks that its guard refuses another.

An import proves neither: some import their kernels where a GPU is, and pass over what fails then.
"""

from __future__ import annotations

import json
import re
import sysconfig
import tempfile
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from blackwheel.core import process, records
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pytorch.guard import GUARD as BUILT_FOR
from blackwheel.stacks.records import Stack
from blackwheel.toolchain import toolkit

SECONDS: Final = 900
"""For torch's import and a dozen libraries: half a minute, and minutes beside a build."""
GUARD: Final = "_torch_guard.py"
MOST_SHOWN: Final = 6
_ELF: Final = b"\x7fELF"
_LIBRARY: Final = re.compile(r"\.so(\.[0-9.]+)?$")
_OTHER: Final = re.compile(r"\.(cpython-3\d+)-")
_INSTALLED: Final = re.compile(r"^[^/]+\.data/(purelib|platlib)/")
_SWITCH: Final = re.compile("_ALLOW_OTHER_TORCH$")
_GUARDED: Final = "was built for torch "


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """One shared library, and how far it loads here."""

    library: str
    """Path in the wheel."""
    load: str
    """`loads`, or with what, or why it was not tried."""
    module: bool = False
    """It was initialized as Python's import does it."""
    operators: tuple[tuple[str, int], ...] = ()
    """What it registered with torch, by namespace."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loading:
    """All libraries of a wheel, and its guard."""

    libraries: tuple[Loaded, ...]
    guard: str
    """What the guard did beside another torch; empty for a wheel that has none."""

    @property
    def namespaces(self) -> Mapping[str, int]:
        """Operators of all libraries, by namespace."""
        total: Counter[str] = Counter()
        for one in self.libraries:
            total.update(dict(one.operators))
        return total

    def sections(self) -> dict[str, Any]:
        """Return the receipt's sections about it."""
        return {"libraries": [asdict(one) for one in self.libraries], "guard": self.guard}

    def __str__(self) -> str:
        """Tell in one line what loads, with what, and what is registered then."""
        how = Counter(one.load for one in self.libraries)
        parts = [f"{count} of {len(self.libraries)}: {load}" for load, count in how.items()]
        names = ", ".join(f"{name} {count}" for name, count in sorted(self.namespaces.items()))
        parts += [f"operators registered: {names}"] if names else []
        parts += [self.guard] if self.guard else []
        return "; ".join(parts or ["no shared library"])


def stand_in(site: Site, stack: Stack) -> Path | None:
    """Find the driver's stand-in of the stack's toolchain; None where no toolchain is here.

    It has every function that cuda.h of that release declares, and no other. Nothing is fetched.
    """
    lock = stack.lock(site.constraints, "toolchain")
    if stack.toolchain.source == "host":
        roots = toolkit.host_candidates(stack.toolchain.cuda, site.environment)
    elif lock.is_file():
        digest = toolkit.lock_digest(lock)
        roots = (site.store / "toolchains" / digest[:16] / "cuda",)
    else:
        roots = ()
    files = (root / "lib64" / "stubs" / "libcuda.so" for root in roots)
    return next((file for file in files if file.is_file()), None)


def load(
    wheel: Path,
    *,
    modules: Sequence[str],
    packages: Path,
    python: Path,
    variables: Mapping[str, str],
    driver: Path | None,
    beside: Sequence[str] = (),
    serves_later: bool = False,
    before_guard: Collection[str] = (),
) -> Loading:
    """Load each library of an installed wheel beside torch, each in a process of its own.

    `beside` are libraries below site-packages that are loaded for everyone before. The guard of a
    wheel that `serves_later` torches must refuse an older one, and no other. No module of the wheel
    may be imported before it but those of `before_guard`.

    Raises `library-does-not-load` with the loader's own words for each, and `no-guard` where a
    wheel that has a guard imports beside another torch.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        files, skipped = _libraries(archive, python)
    request = {
        "packages": str(packages),
        "libraries": [_INSTALLED.sub("", name) for name in files if name not in skipped],
        "guarded": [name for name in modules if f"{name}/{GUARD}" in names],
        "own": sorted({_INSTALLED.sub("", n).split("/")[0].split(".")[0] for n in names}),
        "stand_in": str(driver or ""),
        "beside": [str(packages / path) for path in beside],
        "older": serves_later,
    }
    told = _told(request, python, variables, wheel)
    bad = {name: seen["error"] for name, seen in told.libraries.items() if "error" in seen}
    if bad:
        raise _does_not_load(bad, len(files), wheel)
    libraries = [
        Loaded(library=name, load=skipped[name])
        if name in skipped
        else _loaded(name, told.libraries[_INSTALLED.sub("", name)])
        for name in files
    ]
    early = {*before_guard, *(f"{name}.{BUILT_FOR.removesuffix('.py')}" for name in modules)}
    guards = []
    for name, seen in told.guards.items():
        before = [Path(file).name for file in seen.get("loaded", ())]
        before += [one for one in seen.get("imported", ()) if one not in early]
        guards.append(
            _guarded(name, seen.get("said", seen.get("error", "")), before, wheel, serves_later)
        )
    return Loading(libraries=tuple(libraries), guard="; ".join(guards))


def try_loading(site: Site, wheel: Path, python: Path) -> dict[str, str]:
    """Load each library of a wheel beside an environment's torch; return the outcomes by path.

    The libraries alone are unpacked, into a folder of the store that is removed afterwards. Their
    code runs. What does not load is an answer here, and no error: `went_well` tells them apart.
    """
    driver = next(iter(sorted(site.store.glob("toolchains/*/cuda/lib64/stubs/libcuda.so"))), None)
    site.store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=site.store, prefix="loading-") as folder:
        with zipfile.ZipFile(wheel) as archive:
            files, skipped = _libraries(archive, python)
            archive.extractall(folder, files)
        request = {
            "packages": folder,
            "libraries": [name for name in files if name not in skipped],
            "guarded": [],
            "stand_in": str(driver or ""),
        }
        told = _told(request, python, site.environment, wheel).libraries
    return {name: seen.get("load") or seen["error"] for name, seen in told.items()} | skipped


def went_well(said: str) -> bool:
    """Tell whether a library loaded, by its outcome."""
    return said.startswith("loads")


def went_wrong(said: str) -> bool:
    """Tell whether the loader refused a library, by its outcome; one that was not tried is open."""
    return bool(said) and not said.startswith(("loads", "not tried", "not loaded"))


def require_operators(
    loaded: Loading, wanted: Sequence[str], wheel: Path, imported: Collection[str] = ()
) -> None:
    """Raise `operators-missing` where all libraries load without the needed operators.

    `wanted` are namespaces of torch.ops; `imported` are those that the import of its modules adds:
    operators may be made in Python (`torch.library.custom_op`).
    """
    if any(one.load.startswith("not loaded") for one in loaded.libraries):
        return  # a library that waits for a driver has registered nothing yet
    known = {*loaded.namespaces, *imported}
    lost = [name for name in wanted if name not in known]
    if lost:
        there = ", ".join(sorted(known)) or "none"
        raise BlackwheelError(
            "operators-missing",
            f"neither a library of {wheel.name} nor its import registers operators of "
            f"torch.ops.{', '.join(lost)}\n"
            f"registered: {there}",
            where=str(wheel),
            fix="the wheel stays off the shelf; a library, or a module, was left out of the build",
            code=Exit.SMOKE,
        )


def _is_library(archive: zipfile.ZipFile, name: str) -> bool:
    if not _LIBRARY.search(name):
        return False
    with archive.open(name) as file:
        return file.read(len(_ELF)) == _ELF


def _tag(python: Path) -> str:
    """How extension modules name the Python of a virtual environment: `cpython-311`."""
    folders = sorted((python.parent.parent / "lib").glob("python3.*"))
    minor = folders[0].name.partition(".")[2] if folders else sysconfig.get_python_version()[2:]
    return f"cpython-3{minor}"


def _libraries(archive: zipfile.ZipFile, python: Path) -> tuple[list[str], dict[str, str]]:
    """Return the libraries of a wheel, and why those of another Python are not tried."""
    files = sorted(name for name in set(archive.namelist()) if _is_library(archive, name))
    others = [(name, found[1]) for name in files if (found := _OTHER.search(name))]
    running = _tag(python)
    return files, {name: f"not tried: it is for {tag}" for name, tag in others if tag != running}


def _loaded(name: str, seen: Mapping[str, Any]) -> Loaded:
    return Loaded(
        library=name,
        load=seen["load"],
        module=seen.get("module", False),
        operators=tuple(seen.get("operators", {}).items()),
    )


def _guarded(module: str, said: str, before: Sequence[str], wheel: Path, older: bool) -> str:
    """Say that a guard did its work; raise `no-guard` where it did not, or came too late."""
    if _GUARDED in said and not before:
        return (
            f"{'an older' if older else 'another'} torch is refused before any library of it loads"
        )
    fact = f"import {module} of {wheel.name} beside a torch of another commit "
    if older:
        fact = f"import {module} of {wheel.name} beside an older torch "
    if _GUARDED in said:
        shown = ", ".join(before[:MOST_SHOWN]) + (", …" if len(before) > MOST_SHOWN else "")
        fact += f"is refused too late, after {shown}: a library may be loaded by then"
    else:
        fact += f"ends otherwise: {said}" if said else "passes"
    raise BlackwheelError(
        "no-guard",
        fact,
        where=f"{module}/{GUARD}",
        fix="the wheel stays off the shelf; correct the last patch of its series",
        code=Exit.SMOKE,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """The answer of `load_libraries.py`: the end of each library, and of each guard."""

    libraries: dict[str, dict[str, Any]]
    guards: dict[str, dict[str, Any]]


def _told(
    request: Mapping[str, Any], python: Path, variables: Mapping[str, str], wheel: Path
) -> Told:
    probe = Path(__file__).parent / "inside" / "load_libraries.py"
    argv = [str(python), "-I", str(probe), json.dumps(request)]
    # What switches a guard off for a person would hide here whether it works.
    variables = {name: value for name, value in variables.items() if not _SWITCH.search(name)}
    done = process.capture_within(SECONDS, argv, environment=variables, cwd=python.parent)
    if done.code != 0:
        bad = {"all of them" if done.hung else "torch itself": done.end}
        raise _does_not_load(bad, len(request["libraries"]), wheel)
    try:
        return records.last_of(done.stdout, Told)
    except records.NotARecordError as error:
        bad = {"torch itself": f"what was printed last is not the answer: {error}"}
        raise _does_not_load(bad, len(request["libraries"]), wheel) from None


def _does_not_load(bad: Mapping[str, str], count: int, wheel: Path) -> BlackwheelError:
    do = "do" if len(bad) > 1 else "does"
    head = f"{len(bad)} of {count} libraries of {wheel.name} {do} not load beside torch"
    return BlackwheelError(
        "library-does-not-load",
        "\n".join([head, *(f"{name}: {words}" for name, words in bad.items())]),
        where=str(wheel),
        fix="the wheel stays off the shelf; invoke audit WHEEL tells what it links against",
        code=Exit.SMOKE,
    )
