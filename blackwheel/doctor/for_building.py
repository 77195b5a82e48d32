"""Checks whether this machine can build a stack, and gives the cure of each lack."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from blackwheel.builder import memory_pool, plan
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.machine import RUNNING, Interpreter, Machine, interpreters, read_machine
from blackwheel.core.site import Site
from blackwheel.core.units import size
from blackwheel.doctor.check import Check
from blackwheel.doctor.machine_checks import (
    git_host_check,
    gpu_checks,
    index_check,
    isolation_check,
    registry_check,
    wsl_checks,
)
from blackwheel.doctor.tried import link_check, store_check, temporary_check
from blackwheel.pytorch import identity
from blackwheel.stacks import projects
from blackwheel.stacks.records import Stack
from blackwheel.toolchain.host_compiler import host_compiler, require_gcc
from blackwheel.toolchain.toolkit import host_candidates, host_toolchain, lock_digest

SYSTEM: Final = "Linux x86_64"
"""What torch's CUDA wheels and the toolchain's packages are for."""
TOOLCHAIN_BYTES: Final = 2 << 30
"""A CUDA_HOME from the registry, as `toolkit.assemble` leaves it."""
TORCH_BYTES: Final = 9 << 29
"""torch 2.11.0 with its CUDA packages: 4.5 GB (benchmarks/)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Machine, store and environment of a build."""

    environment: Mapping[str, str]
    store: Path
    constraints: Path
    machine: Machine = field(default_factory=read_machine)
    running: Path = RUNNING
    system: Path = Path("/usr/local")
    """Where a host's CUDA toolkits lie."""

    @property
    def patches(self) -> Path:
        """Folder of the projects' own files."""
        return self.constraints.parent / "patches"


def buildable(stack: Stack, place: Place) -> tuple[str, ...]:
    """Return the lacks of this machine for a build of `stack`; asks no network, takes 0.1 s."""
    return tuple(check.fact for check in required(stack, place) if check.ok is False)


def examine(stack: Stack | None, place: Place, *, network: bool = True) -> tuple[Check, ...]:
    """Check everything; without a stack, only the parts that concern all stacks."""
    remarks = stack.remarks if stack else ()
    checks = [Check(name="stack", ok=None, fact=remark) for remark in remarks]
    checks += [*required(stack, place)] if stack else [_system(place.machine), _git(place)]
    checks += [_cores(stack, place)] if stack else []
    checks += [store_check(place.store), temporary_check(place.environment)]
    if stack and all(check.ok for check in checks if check.name == "compiler"):
        checks += [link_check(place.environment, cuda=stack.toolchain.cuda)]
    checks += [isolation_check(place.environment)]
    checks += wsl_checks(place.machine, (place.store, place.constraints.parent))
    if network:
        checks += _network(stack, place)
    checks += gpu_checks(stack, place.machine, place.environment)
    return tuple(checks)


def _network(stack: Stack | None, place: Place) -> Iterator[Check]:
    if stack is None:
        yield registry_check(place.environment, needed=True)
        return
    here = _in_store(stack, place)
    yield registry_check(place.environment, needed=not all(here))
    if stack.torch.source == "index":
        yield index_check("torch index", stack.torch.pages[0], needed=not here[1])
    for name in stack.build:
        yield git_host_check(name, stack.projects[name], place.environment)


def _in_store(stack: Stack, place: Place) -> tuple[bool, bool]:
    """Tell whether the toolchain, and an environment with torch, were made there before."""
    lock = stack.lock(place.constraints, "toolchain")
    toolchain = stack.toolchain.source == "host"
    if not toolchain and lock.is_file():
        home = place.store / "toolchains" / lock_digest(lock)[:16]
        toolchain = (home / "toolchain.json").is_file()
    torch = f"nox/{stack.name}*/*/lib/python3*/site-packages/torch"
    here = stack.torch.source == "installed" or any(place.store.glob(torch))
    return toolchain, here


def required(stack: Stack, place: Place) -> Iterator[Check]:
    """Check the requirements without which no build of `stack` can start."""
    yield _system(place.machine)
    yield python_check(stack, interpreters(stack.python, place.environment, running=place.running))
    yield _compiler(stack, place)
    yield _git(place)
    yield _toolkit(stack, place)
    yield _torch(stack)
    yield from _locks(stack, place)
    yield disk(stack, place)
    pooled = memory_pool.folder(place.environment) is not None
    yield memory_check(largest_object(stack, place.patches), place.machine, pooled=pooled)


def _system(machine: Machine) -> Check:
    ok = machine.system == SYSTEM
    cure = f"use a {SYSTEM} machine; on Windows, WSL2 is one"
    return Check(name="system", ok=ok, fact=machine.system, cure="" if ok else cure)


def python_check(stack: Stack, found: tuple[Interpreter, ...]) -> Check:
    """Judge the found interpreters for the Pythons that `stack` serves."""
    served = ", ".join(stack.python)
    if not found:
        return Check(
            name="python",
            ok=False,
            fact=f"stack '{stack.name}' serves Python {served}, and none of them is here",
            cure=_python_packages(stack.python[-1]),
        )
    whole = [python for python in found if python.header]
    if not whole:
        first = found[0]
        return Check(
            name="python",
            ok=False,
            fact=f"Python {first.version} ({first.path}) lacks its Python.h",
            cure=_python_packages(first.version),
        )
    easy = [python for python in whole if python.by_version]
    return Check(
        name="python",
        ok=True if easy else None,
        fact=", ".join(f"{python.version} ({python.path})" for python in whole),
        cure="" if easy else f"--python {whole[-1].path}",
    )


def _python_packages(version: str) -> str:
    return (
        f"apt-get install python{version}-dev python{version}-venv (Debian, Ubuntu) or "
        f"dnf install python{version}-devel (Fedora, RHEL)"
    )


def _compiler(stack: Stack, place: Place) -> Check:
    try:
        found = host_compiler(place.environment, cuda=stack.toolchain.cuda)
        require_gcc(found, stack, stack.build)
    except BlackwheelError as error:
        return Check(name="compiler", ok=False, fact=error.fact, cure=error.fix)
    return Check(name="compiler", ok=True, fact=f"{found.kind} {found.version} ({found.path})")


def _git(place: Place) -> Check:
    path = shutil.which("git", path=place.environment.get("PATH", ""))
    if path:
        return Check(name="git", ok=True, fact=path)
    cure = "apt-get install git (Debian, Ubuntu) or dnf install git (Fedora, RHEL)"
    return Check(name="git", ok=False, fact="there is no git on PATH", cure=cure)


def _toolkit(stack: Stack, place: Place) -> Check:
    pin = stack.toolchain
    if pin.source == "registry":
        fact = f"CUDA {pin.cuda} comes from the package registry; the host needs none"
        return Check(name="toolkit", ok=True, fact=fact)
    where = host_candidates(pin.cuda, place.environment, system=place.system)
    try:
        found = host_toolchain(where, cuda=pin.cuda, nvcc=pin.nvcc, environment=place.environment)
    except BlackwheelError as error:
        return Check(name="toolkit", ok=False, fact=error.fact, cure=error.fix)
    return Check(name="toolkit", ok=True, fact=f"nvcc {found.nvcc_version} ({found.root})")


def _torch(stack: Stack) -> Check:
    try:
        identity.require_locked(stack)
    except BlackwheelError as error:
        return Check(name="torch", ok=False, fact=error.fact, cure=error.fix)
    return Check(name="torch", ok=True, fact=f"torch {stack.torch.runtime} is locked")


def _locks(stack: Stack, place: Place) -> Iterator[Check]:
    """Name the hashed pins that are missing: only once torch is locked can they be made."""
    wanted = [
        stack.lock(place.constraints, "build", project, python)
        for project in stack.build
        for python in stack.python
    ]
    if stack.toolchain.source == "registry":
        wanted.append(stack.lock(place.constraints, "toolchain"))
    missing = [path.name for path in wanted if not path.is_file()]
    if missing and _torch(stack).ok:
        fact = f"constraints/{stack.locks}/ lacks {', '.join(missing)}"
        yield Check(name="locks", ok=False, fact=fact, cure="nox -s lock")


def disk_needed(trees_gib: int, *, toolchain: bool, torch: bool) -> int:
    """Return the bytes that builds will still take; `toolchain`, `torch`: already stored.

    torch counts twice: in uv's cache, and in the environment where hard links do not reach.
    """
    needed = trees_gib << 30
    if not toolchain:
        needed += TOOLCHAIN_BYTES
    if not torch:
        needed += 2 * TORCH_BYTES
    return needed


def disk(stack: Stack, place: Place, *, trees: int = 0, pythons: int = 1) -> Check:
    """Measure the disk of the store, also of one that is not made yet; starts no process.

    `trees` are builds of a project and a Python, else one of each project; each further Python
    brings a torch of its own.
    """
    there = next(path for path in (place.store, *place.store.parents) if path.exists())
    toolchain, torch = _in_store(stack, place)
    gib = [projects.load(place.patches, name).build.tree_gib for name in stack.build]
    wanted = trees * max(gib) if trees else sum(gib)
    return disk_check(
        free=shutil.disk_usage(there).free,
        needed=disk_needed(wanted, toolchain=toolchain, torch=torch) + (pythons - 1) * TORCH_BYTES,
        store=place.store,
    )


def disk_check(*, free: int, needed: int, store: Path) -> Check:
    """Judge the free disk at the store."""
    fact = f"{size(free)} free at {store}, about {size(needed)} wanted"
    cure = "invoke clean, or put the store on another disk: export BLACKWHEEL_HOME=/path"
    return Check(name="disk", ok=free >= needed, fact=fact, cure="" if free >= needed else cure)


def largest_object(stack: Stack, patches: Path) -> int:
    """Return the bytes that the largest object of the stack's projects needs."""
    pins = stack.projects
    return max(projects.load(patches, name).largest_object(pins[name]) for name in stack.build)


def memory_check(largest: int, machine: Machine, *, pooled: bool = True) -> Check:
    """Judge memory by the largest object: with less the OOM killer ends the build."""
    free = machine.memory_available
    of = size(machine.memory_total)
    if machine.memory_limit is not None:
        of = f"{size(machine.memory_limit)}, the limit of this cgroup (the machine has {of})"
    fact = f"{size(free)} available of {of}; the largest object needs {size(largest)}"
    if free >= largest:
        wide = plan.width(machine.cores, free, largest, pooled=pooled)
        how = ", each as soon as its own memory is free" if pooled else ", nothing shared out"
        return Check(name="memory", ok=True, fact=f"{fact}: {wide} at once{how}")
    if free + machine.swap >= largest:
        cure = "close other programs: the build will swap and be slow"
        return Check(name="memory", ok=None, fact=f"{fact}: one at once, with swap", cure=cure)
    return Check(name="memory", ok=False, fact=fact, cure=_memory_cure(machine, largest))


def _memory_cure(machine: Machine, largest: int) -> str:
    wanted = f"{(largest >> 30) + 1}GB"
    if machine.wsl:
        return f"in %UserProfile%\\.wslconfig: [wsl2] memory={wanted}; then: wsl --shutdown"
    if machine.memory_limit is not None:
        return f"raise the container's or slice's limit to {wanted} (docker run --memory {wanted})"
    if machine.memory_total > largest:
        return "close other programs"
    return "take stack 'quickstart', whose objects are smaller, or a machine with more memory"


def _cores(stack: Stack, place: Place) -> Check:
    machine, pooled = place.machine, memory_pool.folder(place.environment) is not None
    quota = f" (the cgroup grants {machine.quota:g})" if machine.quota is not None else ""
    fact = f"{machine.cores} core{'s' if machine.cores > 1 else ''}{quota}"
    spent = [stack.projects[name].cpu_seconds for name in stack.build]
    if not all(spent):
        return Check(name="cores", ok=True, fact=f"{fact}; nobody measured this stack's time yet")
    largest = largest_object(stack, place.patches)
    wide = plan.width(machine.cores, machine.memory_available, largest, pooled=pooled)
    return Check(name="cores", ok=True, fact=f"{fact}: about {wide.took(sum(spent))} of compiling")


def place(site: Site) -> Place:
    """Return the place that doctor examines."""
    return Place(environment=site.environment, store=site.store, constraints=site.constraints)
