"""Reads the identity of a torch (version, commit, CUDA, ABI), and compares it with a pin."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.pytorch.libraries import TorchLibrary, libraries
from blackwheel.stacks import locks
from blackwheel.stacks.records import LockedWheel, Stack, TorchPin, TorchWheel

VERSION_FILE: Final = "torch/version.py"
CMAKE_PACKAGE: Final = "torch/share/cmake/Torch/TorchConfig.cmake"
INSTALLED: Final = "installed"
"""The folder of an environment that links to the torch of another interpreter."""
_MOST_BYTES: Final = 16 << 20
_ANEW: Final = "remove the environment and run the same command again"
_FACTS: Final = ("version", "runtime", "git_version", "cuda", "cxx11_abi")


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchIdentity:
    """Identity of a torch in an environment, and the wheel it was installed from."""

    version: str
    """As its metadata says."""
    runtime: str
    """As `torch.__version__` says."""
    git_version: str
    cuda: str
    cxx11_abi: bool
    wheel_sha256: tuple[str, ...] = ()
    """Digests that the lock accepts for this version: one per platform and Python."""
    libraries: tuple[TorchLibrary, ...] = ()
    """What extensions link against: the same version string with other bytes is another torch."""

    def section(self) -> dict[str, Any]:
        """Return the receipt's section about it."""
        return {
            **{name: getattr(self, name) for name in _FACTS},
            "wheel_sha256": list(self.wheel_sha256),
            "libraries": [one.section() for one in self.libraries],
        }


def require_locked(stack: Stack) -> None:
    """Raise `torch-not-locked` where the stack's torch has no known bytes."""
    if stack.torch.source == "index" and not stack.torch.wheels:
        raise not_locked(stack)
    if stack.torch.source == "installed" and not stack.torch.libraries:
        raise BlackwheelError(
            "torch-not-locked",
            f"stack '{stack.name}' takes the torch that is installed, and its bytes were never"
            " looked at",
            where=f"constraints/{stack.name}.toml, torch.libraries",
            fix=f"invoke pin torch {INSTALLED} --python PATH --stack {stack.name}",
            code=Exit.TORCH,
        )


def not_locked(stack: Stack, tag: str = "") -> BlackwheelError:
    """Return the error `torch-not-locked`, for one Python (`cp312`) or for all."""
    served = f" for {tag}" if tag else ""
    return BlackwheelError(
        "torch-not-locked",
        f"torch {stack.torch.version} of stack '{stack.name}' is not locked{served}: its wheel's"
        " bytes were never seen",
        where=f"constraints/{stack.name}.toml, torch.wheels",
        fix=f"invoke pin torch {stack.torch.version} --stack {stack.name}",
        code=Exit.TORCH,
    )


def locked_torch(stack: Stack, tag: str) -> TorchWheel:
    """Return the torch wheel of one Python; raise `torch-not-locked`."""
    if tag not in stack.torch.wheels:
        raise not_locked(stack, tag)
    return stack.torch.wheels[tag]


def require_in_lock(torch: LockedWheel, lock: Path, *, stack: str) -> None:
    """Raise `lock-of-another-torch` where the hashed pins are older than the torch pin."""
    found = locked_digests(lock)
    # The registry has a wheel of this version for every Python, and a lock accepts each.
    if found != (torch.sha256,) if torch.url else torch.sha256 not in found:
        raise BlackwheelError(
            "lock-of-another-torch",
            "these hashed pins accept another torch wheel than the stack"
            f"\npins:  {', '.join(found) or 'none'}\nstack: {torch.sha256}",
            where=f"constraints/{lock.parent.name}/{lock.name}",
            fix=f"nox -s lock -- {stack}",
            code=Exit.TORCH,
        )


def locked_digests(lock: Path, name: str = "torch") -> tuple[str, ...]:
    """Return the sha256 digests that a hashed lock file accepts for one distribution."""
    found = (sorted(one.sha256) for one in locks.pins(locks.lock_text(lock)) if one.name == name)
    return tuple(next(found, ()))


def site_packages(environment: Path) -> Path:
    """Return the folder of a virtual environment that holds torch: site-packages, or links."""
    if (environment / INSTALLED / VERSION_FILE).is_file():
        return environment / INSTALLED
    found = sorted(environment.glob("lib/python3*/site-packages"))
    if not found:
        raise BlackwheelError(
            "no-environment",
            f"{environment} is no virtual environment",
            where=str(environment),
            fix="remove the folder and run the same command again",
            code=Exit.MACHINE,
        )
    return found[0]


def seen(
    packages: Path, *, wheel_sha256: tuple[str, ...] = (), store: Path | None = None
) -> TorchIdentity:
    """Read the identity of the torch in a site-packages folder without importing it.

    Raises `torch-missing`, and `other-torch` where its libraries are not those of its RECORD. The
    store keeps their digests.
    """
    version_file = packages / VERSION_FILE
    metadata = sorted(packages.glob("torch-*.dist-info/METADATA"))
    if not version_file.exists() or not metadata:
        raise BlackwheelError(
            "torch-missing",
            "no torch is installed there",
            where=str(packages),
            fix=_ANEW,
            code=Exit.TORCH,
        )
    config = packages / CMAKE_PACKAGE
    told = identity(
        _text(metadata[0]),
        _text(version_file),
        _text(config) if config.exists() else "",
        wheel_sha256=wheel_sha256,
    )
    return replace(told, libraries=libraries(packages, store=store))


def _text(path: Path) -> str:
    """Return a text of torch's own; raise `other-torch` where it is none."""
    try:
        with path.open("rb") as source:
            return source.read(_MOST_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(str(error), where=str(path)) from None


def _unreadable(why: str, *, where: str) -> BlackwheelError:
    return BlackwheelError(
        "other-torch",
        f"torch's own files do not tell which torch it is: {why[:300]}",
        where=where,
        fix=_ANEW,
        code=Exit.TORCH,
    )


def identity(
    metadata: str, version: str, cmake: str, *, wheel_sha256: tuple[str, ...] = ()
) -> TorchIdentity:
    """Return the identity in torch's METADATA, version.py and TorchConfig.cmake.

    Raises `other-torch` where version.py is no Python.
    """
    values = _assignments(version)
    head = metadata.replace("\r\n", "\n").split("\n\n", 1)[0]
    named = re.search(r"^Version: (.+)$", head, re.MULTILINE)
    return TorchIdentity(
        version=named[1].strip() if named else "",
        runtime=values.get("__version__", ""),
        git_version=values.get("git_version", ""),
        cuda=values.get("cuda", ""),
        cxx11_abi=_cxx11_abi(cmake),
        wheel_sha256=wheel_sha256,
    )


def check(identity: TorchIdentity, pin: TorchPin, *, where: str, fix: str = _ANEW) -> None:
    """Raise `other-torch` with every difference between a found torch and the pinned one."""
    wanted = {
        "version": (pin.version, identity.version),
        "torch.__version__": (pin.runtime, identity.runtime),
        "CUDA": (pin.cuda, identity.cuda),
        "C++11 ABI": (str(pin.cxx11_abi), str(identity.cxx11_abi)),
    }
    if pin.git_version is not None:
        wanted["git_version"] = (pin.git_version, identity.git_version)
    faults = [
        f"{name}: {found or 'none'} instead of {want}"
        for name, (want, found) in wanted.items()
        if want != found
    ]
    if pin.libraries:
        here = {one.name: one.sha256 for one in identity.libraries}
        faults += _library_faults(here, pin.libraries)
    _refuse("other-torch", "the torch found is not the pinned one", faults, where=where, fix=fix)


def _refuse(name: str, head: str, faults: Sequence[str], *, where: str, fix: str = _ANEW) -> None:
    """Raise an error where there are faults: each of them, below what they tell."""
    if faults:
        raise BlackwheelError(
            name, "\n".join([head, *faults]), where=where, fix=fix, code=Exit.TORCH
        )


def _library_faults(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    return [
        f"{name}: sha256 {here.get(name, 'none')} instead of {there.get(name, 'none')}"
        for name in sorted({*here, *there})
        if here.get(name) != there.get(name)
    ]


def check_same(found: TorchIdentity, built: Mapping[str, Any], *, where: str) -> None:
    """Raise `other-torch` with every difference between a found torch and that of a receipt.

    `built` is the receipt's section; of a receipt without libraries only the rest is compared.
    """
    faults = [
        f"{name}: {getattr(found, name)} instead of {built[name]}"
        for name in _FACTS
        if name in built and getattr(found, name) != built[name]
    ]
    if "libraries" in built:
        here = {one.name: one.sha256 for one in found.libraries}
        there = {one["name"]: one["digest"]["sha256"] for one in built["libraries"]}
        faults += _library_faults(here, there)
    head = "the torch found is not the one that the wheel was built for"
    _refuse("other-torch", head, faults, where=where)


def _assignments(source: str) -> dict[str, str]:
    """Read string assignments of torch/version.py, annotated or not; nothing is executed."""
    values = {}
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = f"no Python: {type(error).__name__} {error}"
        raise _unreadable(why, where=VERSION_FILE) from None
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        value = getattr(node, "value", None)
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            values.update({t.id: value.value for t in targets if isinstance(t, ast.Name)})
    return values


def _cxx11_abi(cmake: str) -> bool:
    """Read the flag that torch's own CMake package hands to extensions; new torch has only one."""
    found = re.search(r"_GLIBCXX_USE_CXX11_ABI=(\d)", cmake)
    return found is None or found[1] == "1"
