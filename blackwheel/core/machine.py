"""Reads the cores, memory, limits, WSL2 and Pythons of this machine; judges nothing."""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NUMBER: Final = re.compile(r"[0-9]{1,20}")
_V1_LIMIT: Final = "memory.limit_in_bytes"
RUNNING: Final = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
"""The Python that runs this, not the virtual environment around it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Cores and memory (bytes) of a machine, with the limits of the cgroup already applied."""

    system: str
    """`Linux x86_64`."""
    cores: int
    quota: float | None
    """Cores that the cgroup grants; None when it sets no limit."""
    memory_total: int
    memory_available: int
    memory_limit: int | None
    """The cgroup's; None when it sets none below the machine's memory."""
    swap: int
    wsl: bool
    driver: str
    """Version of the loaded NVIDIA kernel module; empty without one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpreter:
    """A Python on this machine."""

    version: str
    """`3.12`."""
    path: Path
    header: bool
    """Whether its Python.h is there: without it no extension compiles."""
    by_version: bool
    """Whether its version is enough to find it, or `--python PATH` is needed."""


def read_machine(root: Path = Path("/"), *, affinity: int | None = None) -> Machine:
    """Read the machine under `root`; `affinity` is the number of cores this process may run on."""
    memory = _meminfo(_text(root / "proc/meminfo"))
    total, available = memory.get("MemTotal", 0), memory.get("MemAvailable", 0)
    limits = [(limit, free) for limit, free in _memory_limits(root) if limit < total]
    quota = min(_quotas(root), default=None)
    cores = affinity or len(os.sched_getaffinity(0))
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        # A started core counts: a job that gets half of one still uses what the quota grants.
        cores=cores if quota is None else max(1, min(cores, math.ceil(quota))),
        quota=quota,
        memory_total=total,
        memory_available=min([available, *(free for _, free in limits)]),
        memory_limit=min((limit for limit, _ in limits), default=None),
        swap=memory.get("SwapFree", 0),
        wsl="microsoft" in _text(root / "proc/sys/kernel/osrelease").lower(),
        driver=driver_version(_text(root / "proc/driver/nvidia/version")),
    )


def driver_version(text: str) -> str:
    """Read `575.64.05` out of /proc/driver/nvidia/version, of the open or the closed module."""
    found = re.search(r"^NVRM version:.*?\s([0-9]{3,9}\.[0-9]+(?:\.[0-9]+)?)\s", text, re.MULTILINE)
    return found[1] if found else ""


_OTHER_ABI = re.compile(r"/cpython-[^/]*(?:\+freethreaded|-musl)|(?:/|python)3\.[\d.]+t(?:/|$)")
"""In a Python's path: free-threaded (`python3.13t`, pyenv's `3.13.1t`), or of musl. Its name holds
the version that is looked for, and no wheel of torch fits it."""


def interpreters(
    versions: Sequence[str], environment: Mapping[str, str], *, running: Path = RUNNING
) -> tuple[Interpreter, ...]:
    """Find each of these Pythons: the running one, on PATH, under pyenv and uv. Never downloads."""
    found = []
    for version in versions:
        for path, by_version in _candidates(version, environment, running):
            if path.is_file() and not _OTHER_ABI.search(str(path.resolve())):
                include = path.resolve().parent.parent / "include" / f"python{version}"
                header = (include / "Python.h").is_file()
                found.append(
                    Interpreter(version=version, path=path, header=header, by_version=by_version)
                )
                break
    return tuple(found)


def _candidates(
    version: str, environment: Mapping[str, str], running: Path
) -> Iterator[tuple[Path, bool]]:
    if running.name == f"python{version}":
        yield running, True
    on_path = shutil.which(f"python{version}", path=environment.get("PATH", ""))
    # A shim of pyenv is there for every version that some folder has, and fails in the others.
    if on_path and Path(on_path).parent.name != "shims":
        yield Path(on_path), True
    home = Path(environment.get("HOME", "/"))
    pyenv = Path(environment.get("PYENV_ROOT") or home / ".pyenv") / "versions"
    data = Path(environment.get("XDG_DATA_HOME") or home / ".local/share")
    managed = Path(environment.get("UV_PYTHON_INSTALL_DIR") or data / "uv/python")
    for prefix in _newest_first(managed.glob(f"cpython-{version}.*")):
        yield prefix / "bin" / f"python{version}", True
    for prefix in _newest_first(pyenv.glob(f"{version}.*")):
        yield prefix / "bin" / f"python{version}", False


def _newest_first(prefixes: Iterable[Path]) -> list[Path]:
    return sorted(prefixes, key=_patch_level, reverse=True)


def _patch_level(prefix: Path) -> int:
    found = re.search(r"3\.\d+\.(\d+)", prefix.name)
    return int(found[1]) if found else -1


def _meminfo(text: str) -> dict[str, int]:
    found = re.findall(r"^(\w+):\s+([0-9]{1,20}) kB", text, re.MULTILINE)
    return {name: int(kb) * 1024 for name, kb in found}


def _memory_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and what is free below it, of each cgroup that this process is in.

    File cache that nobody holds counts as free: the kernel gives it back before it kills.
    """
    for folder in _groups(root, ""):
        limit = min(_numbers(folder, "memory.max", "memory.high"), default=None)
        if limit is not None:
            yield limit, _free(folder, limit, "memory.current", "inactive_file")
    for folder in _groups(root, "memory"):
        limit = min(_numbers(folder, _V1_LIMIT), default=None)
        if limit is not None:
            yield limit, _free(folder, limit, "memory.usage_in_bytes", "total_inactive_file")


def limited_groups(root: Path = Path("/")) -> tuple[Path, ...]:
    """Return the folders of this process's cgroups that limit memory, the innermost first."""
    total = _meminfo(_text(root / "proc/meminfo")).get("MemTotal", 0)
    found = []
    for controller, names in (("", ("memory.max",)), ("memory", (_V1_LIMIT,))):
        for folder in _groups(root, controller):
            if any(limit < total for limit in _numbers(folder, *names)) and folder not in found:
                found.append(folder)
    return tuple(found)


def _free(folder: Path, limit: int, used: str, cache: str) -> int:
    found = re.search(rf"^{cache} ([0-9]{{1,20}})$", _text(folder / "memory.stat"), re.MULTILINE)
    spent = max(_numbers(folder, used), default=0) - (int(found[1]) if found else 0)
    return max(0, limit - max(0, spent))


def _quotas(root: Path) -> Iterator[float]:
    """Cores that each cgroup of this process grants."""
    for folder in _groups(root, ""):
        quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
        if _NUMBER.fullmatch(quota) and _NUMBER.fullmatch(period):
            yield int(quota) / max(1, int(period))
    for folder in _groups(root, "cpu"):
        quota = _text(folder / "cpu.cfs_quota_us").strip()
        period = _text(folder / "cpu.cfs_period_us").strip()
        if _NUMBER.fullmatch(quota) and _NUMBER.fullmatch(period):
            yield int(quota) / max(1, int(period))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's cgroup and those above it; "" is version 2.

    Inside a container the path of /proc/self/cgroup may be the host's, so that only the top,
    which is the container's own, exists.
    """
    top = root / "sys/fs/cgroup" / controller
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == controller or (controller and controller in controllers.split(",")):
            folder = top / path.strip("/")
            yield from (p for p in (folder, *folder.parents) if p.is_relative_to(top))


def _numbers(folder: Path, *names: str) -> list[int]:
    texts = (_text(folder / name).strip() for name in names)
    return [int(text) for text in texts if _NUMBER.fullmatch(text)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):  # a path out of /proc may hold any byte
        return ""
