"""Checks the surroundings of a build: isolation, WSL2, network, driver and GPU."""

# ruff: noqa: PLC0415  requests takes 0.2 s to import, and only the network checks pay for it.

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from blackwheel.core import archs, cards, isolation
from blackwheel.core.addresses import index_address, index_cure, shown
from blackwheel.core.cards import Card
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.machine import Machine
from blackwheel.core.process import capture
from blackwheel.core.units import size
from blackwheel.doctor.check import Check
from blackwheel.sources.git_host import cure, reason, said
from blackwheel.sources.git_store import ANSWER_SECONDS
from blackwheel.stacks.records import ProjectPin, Stack
from blackwheel.toolchain.releases import minor

_SETTING: Final = re.compile(r"\((?P<name>[a-z0-9_.]+)=(?P<value>\d)\)")
_SMI: Final = ("--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader")
_GPU: Final = re.compile(r"([^,]{1,200}),\s*([0-9]{1,9}(?:\.[0-9]+)*),\s*([0-9]{1,2}\.[0-9])\s*")
"""One line of its answer: name, driver, compute capability."""
PTX: Final = "driver, PTX"
_WSL_TOOLS: Final = "/usr/lib/wsl/lib"
"""Where Windows' driver puts nvidia-smi; not on every PATH."""


def isolation_check(environment: Mapping[str, str]) -> Check:
    """Check whether the kernel allows namespaces."""
    try:
        found = isolation.available_isolation(environment.get("BLACKWHEEL_ISOLATION", ""))
    except isolation.IsolationError as error:
        return Check(name="isolation", ok=False, fact=str(error), cure="unset BLACKWHEEL_ISOLATION")
    if found.mode == isolation.NAMESPACES:
        return Check(name="isolation", ok=True, fact="namespaces: no network while compiling")
    return without_namespaces(found.reason)


def without_namespaces(why: str) -> Check:
    """Return the check's words for a machine without namespaces, and the cure."""
    fact = f"no namespaces: {why}; the build is not reproducible byte for byte"
    cure = "docker run --security-opt seccomp=unconfined, if this is a container"
    if why.startswith("BLACKWHEEL_ISOLATION"):
        cure = "unset BLACKWHEEL_ISOLATION"
    elif found := _SETTING.search(why):
        limit = found["name"] == "user.max_user_namespaces"
        wanted = "15000" if limit else {"0": "1"}.get(found["value"], "0")
        cure = f"sudo sysctl -w {found['name']}={wanted}"
    return Check(name="isolation", ok=None, fact=fact, cure=cure)


def wsl_checks(machine: Machine, folders: tuple[Path, ...]) -> Iterator[Check]:
    """Check memory on WSL2, and folders on Windows' disk."""
    if not machine.wsl:
        return
    fact = f"WSL2, which Windows gives {size(machine.memory_total)} of memory"
    yield Check(name="wsl", ok=True, fact=fact)
    for folder in folders:
        if re.match(r"/mnt/[a-z](/|$)", str(folder)):
            fact = f"{folder} is a Windows folder: many times slower than WSL2's own disk"
            cure = "clone below ~, and: export BLACKWHEEL_HOME=~/.cache/blackwheel"
            yield Check(name="wsl", ok=None, fact=fact, cure=cure)


def registry_check(environment: Mapping[str, str], *, needed: bool) -> Check:
    """Ask the package index for torch; not `needed` where toolchain and torch are in the store."""
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    index = index_address(environment) or PYPI_SIMPLE_ENDPOINT
    return index_check("registry", index, needed=needed)


def index_check(name: str, index: str, *, needed: bool) -> Check:
    """Ask one index for its page of torch."""
    why = _refusal(f"{index.rstrip('/')}/torch/")
    if not why:
        return Check(name=name, ok=True, fact=f"{shown(index)} answers")
    fact = f"{shown(index)}: {why}"
    cure = index_cure(why) if name == "registry" else "export HTTPS_PROXY=ADDRESS"
    return Check(name=name, ok=False if needed else None, fact=fact, cure=cure)


def _refusal(address: str) -> str:
    """Return why this page cannot be had, or nothing."""
    from blackwheel.core import http

    if address.startswith("file://"):
        return "" if Path(address.removeprefix("file://")).exists() else "no such folder"
    try:
        patience = http.Patience(connect=ANSWER_SECONDS, read=ANSWER_SECONDS, whole=ANSWER_SECONDS)
        with http.opened(address, patience=patience):
            return ""
    except (http.AbsentError, http.FailedError) as error:
        return str(error)


def git_host_check(name: str, pin: ProjectPin, environment: Mapping[str, str]) -> Check:
    """Ask the project's git host as a fetch does; an sdist stands in for it.

    It is asked for its tags too: a mirror without that of the pinned release serves a build, and
    `invoke pin` finds no release there.
    """
    asked = ["git", "ls-remote", "--exit-code", "--", pin.source.url, "HEAD", "refs/tags/*"]
    # GIT_DIR: no repository that this runs in has a say, as for a fetch.
    quiet = {**environment, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_DIR": "/"}
    title = f"git host of {name}"
    try:
        done = capture(asked, environment=quiet, cwd=Path("/"), timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        why: str | None = f"no answer in {ANSWER_SECONDS:g} s"
    except BlackwheelError as error:
        return Check(name=title, ok=False, fact=error.fact, cure="install git")
    else:
        if done.code == 0:
            way = _reached_by(pin.source.url, quiet)
            return _answered(title, pin, f"{shown(pin.source.url)} answers{way}", done.stdout)
        why = reason(done.stderr)
    if why is None:  # the host answered, and refused
        fact = "; ".join(said(shown(done.stderr))) or shown(done.stderr.strip())
        return Check(name=title, ok=False, fact=fact, cure=cure(done.stderr))
    if pin.sdist:
        stands = f"nothing: {pin.sdist.name} of the package registry stands in for it"
        return Check(name=title, ok=None, fact=why, cure=stands)
    mirror = "name a mirror: git config --global url.<mirror>.insteadOf <address>"
    return Check(name=title, ok=False, fact=why, cure=mirror)


def _reached_by(url: str, environment: Mapping[str, str]) -> str:
    """Return by which other address git asks for one, as its configuration says; empty: by none."""
    words = ["git", "ls-remote", "--get-url", "--", url]
    try:
        done = capture(words, environment=environment, cwd=Path("/"), timeout=60, check=False)
    except (BlackwheelError, subprocess.TimeoutExpired):
        return ""
    other = done.stdout.strip()
    if done.code or not other or other == url:
        return ""
    place = other.removeprefix("file://")
    what = f"the folder {place}" if place.startswith("/") else shown(other)
    return f" by {what}, as url.*.insteadOf says; itself it was not asked"


def _answered(title: str, pin: ProjectPin, fact: str, listed: str) -> Check:
    """Judge the list of refs of a host that answered: is the tag of the pinned release there?"""
    tags = {line.rpartition("refs/tags/")[2].removesuffix("^{}") for line in listed.splitlines()}
    release = {f"v{pin.version}", pin.version}
    if pin.source.only_sdist or tags & release or pin.source.commit in listed:
        return Check(name=title, ok=True, fact=fact)
    lacks = f"{fact}; it lists no tag {' or '.join(sorted(release))}"
    cure = "a build asks for the commit alone; invoke pin needs a mirror that is as new, with tags"
    return Check(name=title, ok=None, fact=lacks, cure=cure)


def gpu_checks(
    stack: Stack | None, machine: Machine, environment: Mapping[str, str]
) -> Iterator[Check]:
    """Check driver and GPUs; a lack stops no build, which needs neither."""
    smi = shutil.which("nvidia-smi", path=f"{environment.get('PATH', '')}:{_WSL_TOOLS}")
    gpus = _gpus(smi, environment) if smi else ()
    driver = gpus[0][1] if gpus else machine.driver
    yield driver_check(stack, driver)
    yield from ptx_checks(stack, driver)
    if not gpus:
        fact = "none is seen; building needs none, kernels are not run"
        yield Check(name="gpu", ok=None, fact=fact)
    for name, _, capability in gpus:
        yield gpu_check(stack, name, capability)


def card(environment: Mapping[str, str]) -> Card | None:
    """Return the GPUs of this machine; None where none is seen."""
    smi = shutil.which("nvidia-smi", path=f"{environment.get('PATH', '')}:{_WSL_TOOLS}")
    seen = {one[2]: one[0] for one in (_gpus(smi, environment) if smi else ())}
    found = {cards.best(capability, where="nvidia-smi") for capability in seen}
    return Card(title=", ".join(seen.values()), archs=tuple(sorted(found))) if found else None


def driver_check(stack: Stack | None, driver: str) -> Check:
    """Compare the driver with the lowest that runs the stack's wheels."""
    if not driver:
        fact = "no NVIDIA driver; building needs none"
        cure = f"to run the wheels: driver {stack.driver} or newer" if stack else ""
        return Check(name="driver", ok=None, fact=fact, cure=cure)
    if stack and int(driver.split(".", maxsplit=1)[0]) < stack.driver:
        fact = f"driver {driver} does not run what stack '{stack.name}' builds"
        cure = f"install driver {stack.driver} or newer, or take a stack of an older CUDA"
        return Check(name="driver", ok=None, fact=fact, cure=cure)
    return Check(name="driver", ok=True, fact=f"driver {driver}")


def ptx_checks(stack: Stack | None, driver: str) -> Iterator[Check]:
    """Tell where a driver runs the wheels, and does not compile PTX of the stack's toolkit."""
    branch = int(driver.split(".", maxsplit=1)[0]) if driver else 0
    if stack and stack.driver <= branch < stack.driver_ptx:
        release = minor(stack.toolchain.cuda)
        fact = (
            f"driver {driver} runs the wheels; PTX of CUDA {release}, compiled at run time, fails"
        )
        cure = f"driver {stack.driver_ptx} takes it (docs/gpus-and-drivers.md says who makes PTX)"
        yield Check(name=PTX, ok=None, fact=fact, cure=cure)


def gpu_check(stack: Stack | None, name: str, capability: str) -> Check:
    """Compare a GPU with the archs of the stack."""
    fact = f"{name} is {capability}"
    if stack is None:
        return Check(name="gpu", ok=True, fact=fact)
    device = archs.parse(capability, where="nvidia-smi")
    if any(archs.parse(arch).runs_on(device) for arch in stack.archs):
        return Check(name="gpu", ok=True, fact=f"{fact}: the wheels run there")
    fact += f", the wheels are for {', '.join(stack.archs)}"
    cure = f"to build for this GPU as well: --arch '{';'.join(stack.archs)};{capability}'"
    return Check(name="gpu", ok=None, fact=fact, cure=cure)


def _gpus(smi: str, environment: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Name, driver and compute capability of each GPU; none when nvidia-smi has no driver."""
    try:
        done = capture(
            [smi, *_SMI], environment=environment, cwd=Path("/"), timeout=30, check=False
        )
    except (BlackwheelError, subprocess.TimeoutExpired):
        return ()
    lines = done.stdout.splitlines() if done.code == 0 else []
    return tuple((row[1], row[2], row[3]) for line in lines if (row := _GPU.fullmatch(line)))
