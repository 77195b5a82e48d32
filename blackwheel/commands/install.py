"""Installs a stack's shelved wheels into a new environment, and goes back (`invoke install`).

Below the folder that `--into` names lies one folder a run, named by its moment, and the link
`current`. The link moves last, in one step, once torch and wheels were seen to agree.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import filelock

from blackwheel.core import files, process
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.machine import read_machine
from blackwheel.core.site import Site
from blackwheel.core.units import size
from blackwheel.doctor.for_building import TORCH_BYTES
from blackwheel.doctor.machine_checks import gpu_checks
from blackwheel.pipeline import environment
from blackwheel.pytorch import archive
from blackwheel.receipts import document
from blackwheel.shelf import consumer_lock, verify
from blackwheel.shelf.simple_api import ShelvedWheel
from blackwheel.stacks import pythons
from blackwheel.stacks.ask import requests
from blackwheel.stacks.locks import lock_text
from blackwheel.stacks.records import Stack
from blackwheel.stacks.request import Request

MARK: Final = "blackwheel.json"
"""Written last: a folder without it was left by a run that was stopped."""
LINK: Final = "current"


def install(
    site: Site,
    stack: str,
    *,
    into: str,
    only: Sequence[str] = (),
    python: str = "",
    rollback: bool = False,
) -> int:
    """Install the newest wheels of a stack, or go back to the environment before.

    Nothing is downloaded before driver, disk, torch and folder were looked at. Raises
    `no-folder`, `folder-not-ours`, `own-environment`, `install-busy`, `driver-too-old`,
    `disk-full`, `another-torch`, `environment-differs`, `nothing-to-go-back-to`, and what
    `environment.sync` raises.
    """
    home = _home(into)
    if rollback and home.is_dir():
        with _held(home):
            return _go_back(site, home)
    if rollback:
        raise _nothing_older(f"there is no folder {home}")
    asked, chosen = requests(site, stack, only=only, python=python)
    wheels = [consumer_lock.newest(site, request) for request in asked]
    _check_torch(asked[0].stack, wheels)
    _check_driver(site, asked[0].stack)
    _check_room(home, wheels)
    program = pythons.located(chosen, uv=site.uv, environment=site.environment)
    text = _requirements(site, asked, wheels)
    with _held(home):
        for left in _folders(home, whole=False):
            shutil.rmtree(left)
        folder = home / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S.%f}-{stack}"
        try:
            _fill(site, folder, program, text)
            _agree(site, folder)
            _mark(folder, asked, wheels)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return _switch(site, home, folder, "installed")


def _home(into: str) -> Path:
    """Return the folder that holds the environments; refuse one that holds other things."""
    home = Path(into).expanduser().absolute()
    if not into:
        raise _refused("no-folder", "nothing says where to install", "--into ~/wheels", Exit.USAGE)
    if home.resolve().is_relative_to(Path(sys.prefix).resolve()):
        fact = f"{home} lies in blackwheel's own environment: {sys.prefix}"
        raise _refused("own-environment", fact, "a folder of your own: --into ~/wheels", Exit.USAGE)
    there = {path.name for path in home.iterdir()} if home.is_dir() else set()
    ours = {path.name for path in _folders(home)} | {".lock", ".lock.link", LINK}
    link = home / LINK
    if (home.exists() and not home.is_dir()) or there - ours or (LINK in there) > link.is_symlink():
        fact = f"{home} holds other things: {', '.join(sorted(there - ours)[:3]) or home.name}"
        fix = "an empty folder, or one that invoke install made"
        raise _refused("folder-not-ours", fact, fix, Exit.USAGE)
    return home


def _folders(home: Path, *, whole: bool | None = None) -> list[Path]:
    """Return the environments by age: all, the whole ones, or those that a stop left behind."""
    found = sorted(home.glob("[0-9]*-[0-9]*-[0-9]*T[0-9]*-*/"))
    return [one for one in found if whole is None or (one / MARK).is_file() is whole]


@contextmanager
def _held(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(home / ".lock", timeout=0):
            yield
    except filelock.Timeout:
        fact, fix = f"another run installs into {home}", "the same command, once it has ended"
        raise _refused("install-busy", fact, fix, Exit.BUSY) from None


def _check_torch(stack: Stack, wheels: Sequence[ShelvedWheel]) -> None:
    if stack.torch.source == "installed":
        fact = f"stack '{stack.name}' uses the torch of this machine; a new environment has none"
        fix = "uv pip install --no-deps WHEEL, into the environment that holds that torch"
        raise _refused("another-torch", fact, fix, Exit.TORCH)
    for wheel in wheels:
        held = document.sections(document.load(wheel.receipt))
        built = held.get("torch", {}).get("runtime", "that no receipt names")
        if built != stack.torch.runtime:
            fact = f"{wheel.path.name} was built against torch {built}\n"
            fact += f"stack '{stack.name}' pins {stack.torch.runtime}"
            fix = f"invoke build-wheels --stack {stack.name}"
            raise _refused("another-torch", fact, fix, Exit.TORCH)


def _check_driver(site: Site, stack: Stack) -> None:
    """Refuse a driver that cannot run the wheels; a machine without one may fill a folder."""
    check = next(iter(gpu_checks(stack, read_machine(), site.environment)))
    if check.ok is None and check.fact.startswith("driver "):
        raise _refused("driver-too-old", check.fact, check.cure, Exit.MACHINE)
    if check.ok is None:
        site.console.say("note: no NVIDIA driver is here; the environment needs one to run")


def _check_room(home: Path, wheels: Sequence[ShelvedWheel]) -> None:
    there = next(path for path in (home, *home.parents) if path.is_dir())
    free, needed = shutil.disk_usage(there).free, TORCH_BYTES
    for wheel in wheels:
        with zipfile.ZipFile(wheel.path) as packed:
            needed += sum(one.file_size for one in packed.infolist())
    if free < needed:
        fact = f"{there} has {size(free)} free; the environment takes about {size(needed)}"
        raise _refused("disk-full", fact, "a folder on another disk: --into", Exit.MACHINE)


def _requirements(site: Site, asked: Sequence[Request], wheels: Sequence[ShelvedWheel]) -> str:
    kept = archive.archive(site.store, site.environment, site.console)
    stack = asked[0].stack
    locks = [
        archive.installable(stack, request.tag, request.lock("run", site.constraints), kept)
        for request in asked
    ]
    members = [(one, lock_text(lock)) for one, lock in zip(wheels, locks, strict=True)]
    text = consumer_lock.requirements(members, stack=stack.name, python=asked[0].python, address="")
    for wheel in wheels:
        name = f"{wheel.project}=={wheel.version} "
        text = text.replace(name, f"{wheel.project} @ {wheel.path.absolute().as_uri()} ", 1)
    return text


def _fill(site: Site, folder: Path, program: Path, text: str) -> None:
    """Make the environment, and let uv put into it what the hashed lines name and nothing else."""
    make = [str(site.uv), "venv", "--quiet", "--no-project", "--python", str(program), str(folder)]
    with site.console.stage("install", f"fill {folder}"):
        done = process.capture(make, environment=site.environment, cwd=folder.parent, check=False)
        if done.code:
            raise environment.refused(done.code, done.stderr, where=str(folder))
        wanted = folder / "requirements.txt"
        files.replace_file(wanted, text.encode())
        environment.sync(site, folder, [str(wanted)])


def _agree(site: Site, folder: Path) -> None:
    """Hold torch and wheels of an environment against each other, as `doctor --env` does."""
    done = verify.environment_report(site, str(folder))
    if done.code:
        fix = "nox -s lock, then the build again: the pins and the wheels name different torches"
        raise _refused("environment-differs", done.stdout.rstrip(), fix, Exit.TORCH)


def _mark(folder: Path, asked: Sequence[Request], wheels: Sequence[ShelvedWheel]) -> None:
    told: dict[str, Any] = {
        "schema": "blackwheel.install/1",
        "stack": asked[0].stack.name,
        "python": asked[0].python,
        "torch": asked[0].stack.torch.runtime,
        "wheels": {wheel.path.name: wheel.sha256 for wheel in wheels},
    }
    files.replace_file(folder / MARK, (json.dumps(told, indent=2) + "\n").encode())


def _switch(site: Site, home: Path, folder: Path, done: str) -> int:
    """Point `current` at an environment in one step, so that a reader finds the old or the new."""
    new = home / ".lock.link"
    new.unlink(missing_ok=True)
    new.symlink_to(folder.name)
    os.replace(new, home / LINK)  # noqa: PTH105  a rename of a link, not of what it names
    files.sync_folder(home)
    site.console.result(f"{done:9}  {folder}\ncurrent    {home / LINK}")
    site.console.result(f"commands   {home / LINK / 'bin'}")
    site.console.result(f"back       invoke install --into {home} --rollback")
    return Exit.OK


def _go_back(site: Site, home: Path) -> int:
    """Point `current` at the whole environment before the one that it names."""
    now = (home / LINK).resolve().name
    before = [one for one in _folders(home, whole=True) if one.name < now]
    if not before:
        raise _nothing_older(f"no environment in {home} is older than {now}")
    _agree(site, before[-1])
    return _switch(site, home, before[-1], "back to")


def _nothing_older(fact: str) -> BlackwheelError:
    fix = "invoke install --into FOLDER"
    return _refused("nothing-to-go-back-to", fact, fix, Exit.USAGE)


def _refused(name: str, fact: str, fix: str, code: Exit) -> BlackwheelError:
    return BlackwheelError(name, fact, where="invoke install", fix=fix, code=code)
