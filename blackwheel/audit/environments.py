"""Finds or installs an environment with a torch against which a wheel is linked."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from blackwheel.audit import archive, audit
from blackwheel.audit.core_metadata import core_metadata
from blackwheel.audit.dist_info import LIMITS
from blackwheel.audit.exports import LacksLibraryError
from blackwheel.audit.findings import RefusedError
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.file_lock import held
from blackwheel.core.files import component
from blackwheel.core.process import run
from blackwheel.core.site import Site
from blackwheel.core.zips import UNREADABLE
from blackwheel.pytorch import identity
from blackwheel.stacks.request import Request

FOLDER: Final = "torches"
_WHOLE: Final = "whole"
"""Lies in an environment whose installation came to its end."""
_TAIL: Final = 6
_METADATA: Final = ".dist-info/METADATA"


def environment_of(other: str, *, site: Site) -> Path:
    """Return the environment that `--torch OTHER` names: a folder, its Python, or a version.

    A version is installed once. Raises `unknown-torch` and `torch-not-installed`.
    """
    path = Path(other).absolute()
    if path.is_dir():
        return path
    if path.is_file() and path.parent.name == "bin":
        return path.parents[1]
    try:
        version = Version(other)
    except InvalidVersion:
        raise BlackwheelError(
            "unknown-torch",
            f"'{other}' is neither an environment's folder nor a version of torch",
            where="--torch",
            fix="--torch .venv, or --torch 2.13.0",
            code=Exit.USAGE,
        ) from None
    return _installed(version, site)


def exports_in(environment: Path, *, site: Site, beside: Sequence[str] = ()) -> audit.Exports:
    """Return the symbols that an environment exports to a wheel; raise `torch-missing`.

    Of the libraries `beside` those count that it has.
    """
    there = [one for one in beside if any(environment.glob(f"lib/python3*/site-packages/{one}"))]
    return audit.exports_of(environment, store=site.store, beside=there)


def own_exports(requires: Sequence[Requirement], *, site: Site) -> audit.Exports | None:
    """Return the exports of the one torch that a wheel requires, if the store has that torch.

    Never installs: where there is none, whoever wants the symbols checked asks for `--torch`.
    """
    if len(requires) != 1 or len(requires[0].specifier) != 1:
        return None
    environment = next(_kept(requires[0], site), None)
    return exports_in(environment, site=site) if environment else None


def stack_exports(
    request: Request, *, site: Site, cuda: Path | None = None
) -> tuple[audit.Exports | None, list[str]]:
    """Return the exports of a stack's own torch, if the store has it for this Python.

    Never installs. An environment without the libraries that the project's are loaded beside will
    not do. `cuda` is a toolkit for a torch that has no CUDA packages beside it. Also returns why
    environments with that torch could not be read.
    """
    torch, lib = request.stack.torch, f"lib/python{request.python}"
    broken = []
    for environment in _kept(Requirement(torch.requirement), site):
        if not (environment / lib).is_dir():
            continue
        try:
            found = audit.exports_of(
                environment, store=site.store, cuda=cuda, beside=request.pin.beside
            )
        except LacksLibraryError:
            continue
        except BlackwheelError as error:
            broken.append(f"{environment}: {error.fact.splitlines()[0]}")
            continue
        except OSError as error:  # another run changes it just now
            broken.append(f"{environment}: {error}")
            continue
        if found.torch == torch.runtime:
            return found, []
    return None, broken


def requirements(path: Path) -> tuple[Requirement, ...]:
    """Return a wheel's requirements of torch; none for an unreadable METADATA.

    The audit says of such a file what is wrong with it.
    """
    try:
        with archive.opened(path) as opened:
            (info,) = [one for one in opened.files if one.filename.endswith(_METADATA)]
            if info.file_size > LIMITS["METADATA"]:
                return ()
            with opened.reading(info) as stream:
                required = core_metadata(stream.read(info.file_size + 1)).requires
    except (*UNREADABLE, RefusedError):
        return ()
    return tuple(one for one in required if canonicalize_name(one.name) == "torch")


def _kept(requirement: Requirement, site: Site) -> Iterator[Path]:
    """Yield the environments of the store that hold this torch."""
    (only,) = requirement.specifier
    if only.operator not in ("==", "==="):
        return
    found = [*site.store.glob(f"{FOLDER}/*/*/{_WHOLE}"), *site.store.glob("nox/*/*/pyvenv.cfg")]
    for mark in sorted(found):
        holders = (identity.INSTALLED, "lib/python3*/site-packages")
        infos = [one for way in holders for one in mark.parent.glob(f"{way}/torch-*.dist-info")]
        for info in infos:
            version = info.name.removeprefix("torch-").removesuffix(".dist-info")
            if only.contains(version, prereleases=True):
                yield mark.parent


def _installed(version: Version, site: Site) -> Path:
    """Return `torches/<version>/cpXYZ`, made where it is not there or not whole."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    folder = site.store / FOLDER / component(str(version), where="--torch") / tag
    with held(site.store, f"torch-{version}-{tag}", project="torch", console=site.console):
        if (folder / _WHOLE).exists():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        site.console.say(
            f"torch: {version} is not here yet: 2 to 4 GB of download (less from uv's cache), about"
            " 5 GB of disk; it is kept for the next time"
        )
        _install(version, folder, site)
        (folder / _WHOLE).touch()
    return folder


def _install(version: Version, folder: Path, site: Site) -> None:
    log = site.store / "logs" / f"torch-{version}.log"
    uv = str(site.uv)
    steps = (
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--python", str(folder / "bin" / "python"), f"torch=={version}"],
    )
    with site.console.stage("torch", f"install torch {version}") as stage:
        for argv in steps:
            done = run(
                argv,
                environment=site.environment,
                cwd=folder.parent,
                log=log,
                on_line=lambda line: stage.update(0, 0, line.strip()),
            )
            if done.code != 0:
                shutil.rmtree(folder, ignore_errors=True)
                tail = "\n".join(done.stdout.splitlines()[-_TAIL:])
                raise BlackwheelError(
                    "torch-not-installed",
                    f"torch {version} could not be installed\n{tail}",
                    where=str(log),
                    fix="name a version that the package index has, or an environment: --torch DIR",
                    code=Exit.TORCH,
                )
