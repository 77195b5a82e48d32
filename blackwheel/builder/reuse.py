"""Decides whether a previous build tree is reused: only with the same torch, toolkit and compiler.

ninja compares command lines and the times of files. It does not see that torch's headers, nvcc or
g++ are others where their paths are the same and their files older than the objects; CMake keeps
the flags of its first configuring; and after a clock was set back a changed source looks older than
the object of the one before.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from blackwheel.builder import memory_pool
from blackwheel.builder.plan import BuildPlan
from blackwheel.builder.workspace import Workshop
from blackwheel.core import files, process, records
from blackwheel.core.console import Console
from blackwheel.pytorch.identity import TorchIdentity
from blackwheel.toolchain.host_compiler import Compiler

_FILE: Final = "made-with.json"
_SETTINGS: Final = "settings"
_CLOCK: Final = "clock"
_READ_BY_COMPILERS: Final = re.compile(r"NVCC_\w*FLAGS|\w*PATH|GCC_EXEC_PREFIX")
"""Variables that reach an object past its command line."""
_TOOLS: Final = ("build", "packaging", "pyproject-hooks", "wheel")
"""Packages that no object can hold anything of."""


def made_with(
    plan: BuildPlan, torch: TorchIdentity, compiler: Compiler, mode: str, *, lock: str
) -> dict[str, str]:
    """Return a digest of each input that reaches objects past their command lines.

    `lock` is the text of the hashed pins of the build's environment.
    """
    pins = re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock)
    packages = sorted(f"{name}=={version}" for name, version in pins if name not in _TOOLS)
    pin = plan.request.pin
    settings = {
        name: plan.variables[name] for name, text in pin.variables.items() if "{jobs}" not in text
    }
    settings |= {n: str(getattr(pin, n)) for n in ("command", "subfolder") if getattr(pin, n)}
    past = {name: value for name, value in settings.items() if _READ_BY_COMPILERS.fullmatch(name)}
    return {
        "recipe": str(plan.request.stack.recipe),
        "isolation": mode,
        "folder": str(pin.one_folder),
        "torch": f"{torch.runtime} {_digest(torch.section())}",
        "packages": _digest(packages),
        "toolkit": plan.toolchain.digest,
        "host compiler": _identity(compiler, plan.variables),
        "variables": _digest(past),
        _SETTINGS: _digest(settings),
    }


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _identity(compiler: Compiler, environment: Mapping[str, str]) -> str:
    """Tell a compiler from another of the same version: its package may carry patches."""
    programs = [compiler.path.resolve()]
    if compiler.kind == "gcc":
        argv = (str(compiler.path), "-print-prog-name=cc1plus")
        told = process.capture(argv, environment=environment, cwd=Path("/")).stdout.strip()
        programs.append(Path(told))
    digests = [files.sha256(path) for path in programs if path.is_file()]
    return " ".join([str(compiler.path), compiler.version, *digests])


def _later_than_now(folder: Path) -> bool:
    """Tell whether a file says that it was written after this moment: its time proves nothing."""
    now = time.time_ns()
    return any(path.lstat().st_mtime_ns > now for path in files.below(folder))


def begin_anew_unless_same(
    workshop: Workshop,
    now: dict[str, str],
    *,
    store: Path,
    slug: str,
    project: str,
    objects: str,
    console: Console,
) -> None:
    """Remove a build tree made with other inputs, and say which; keep its records.

    A tree without such a record is removed too. Where only the settings differ, CMake configures
    again, and ninja compiles the objects whose command lines changed. `objects` is the glob of the
    folder where they land.
    """
    path = workshop.root / _FILE
    if workshop.src.exists():
        before = records.kept(path, dict[str, str]) or {}
        other = [name for name, value in now.items() if before.get(name) != value]
        if _later_than_now(workshop.src):
            other.append(_CLOCK)
        if not other:
            return
        path.unlink(missing_ok=True)  # stopped after this, nobody knows the tree any more
        if other == [_SETTINGS]:
            for cache in workshop.src.glob(f"{objects}/**/CMakeCache.txt"):
                cache.unlink()
        else:
            what = ", ".join(name for name in other if name not in (_SETTINGS, _CLOCK))
            why = f"was made with other {what}" if before else "does not say what it was made with"
            if before and not what:
                why = "holds files of a later time than now (the clock was set back)"
            console.say(f"{project}: its build tree {why}: everything is compiled again")
            memory_pool.keep_history(store, project, slug, workshop.records)
            shutil.rmtree(workshop.root)
    workshop.root.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
