"""Reads a torch wheel's own metadata from the file; unpacks and executes nothing."""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.specifiers import Specifier
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from blackwheel.core.download import no_answer
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.http import AbsentError, FailedError, Patience
from blackwheel.core.ranged import opened_remotely
from blackwheel.core.zips import UNREADABLE, held
from blackwheel.pytorch import identity as torchpin
from blackwheel.pytorch.identity import TorchIdentity

_METADATA: Final = r"[^/]+\.dist-info/METADATA"
_Field = TypeVar("_Field")
_LONGEST: Final = 4 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchFile:
    """A torch wheel, read to its last byte."""

    identity: TorchIdentity
    requires: tuple[Requirement, ...]


def read_torch(path: Path) -> TorchFile:
    """Read identity and requirements of a torch wheel; raise `not-a-wheel` or `not-a-torch`."""
    text = metadata_text(path, path.name)
    with zipfile.ZipFile(path) as wheel:
        return _torch_file(wheel, text, path.name)


def peek_torch(url: str, name: str, patience: Patience) -> TorchFile:
    """Read identity and requirements of a torch wheel at its address, and little else of it.

    Raises `not-a-wheel`, `not-a-torch`, and `no-answer`, also where the server sends no parts.
    """
    with peeked(url, name, patience) as wheel:
        return _torch_file(wheel, remote_metadata(wheel, name), name)


@contextlib.contextmanager
def peeked(url: str, name: str, patience: Patience) -> Iterator[zipfile.ZipFile]:
    """Give a wheel that stays at its address; raise `not-a-wheel` and `no-answer`."""
    try:
        with opened_remotely(url, patience) as file, zipfile.ZipFile(file) as wheel:
            yield wheel
    except (AbsentError, FailedError) as error:
        raise no_answer(url, error) from None
    except UNREADABLE as error:
        raise _not_a_wheel(name, f"it is no whole zip file: {error}") from None


def remote_metadata(wheel: zipfile.ZipFile, name: str) -> str:
    """Return the METADATA of a wheel whose name shall be `name`; raise `not-a-wheel`."""
    found = [one for one in wheel.namelist() if re.fullmatch(_METADATA, one)]
    if len(found) != 1 or wheel.getinfo(found[0]).file_size > _LONGEST:
        raise _not_a_wheel(name, f"it has {len(found)} METADATA, or one without an end")
    text = held(wheel, found[0], most=_LONGEST).decode("utf-8", "replace")
    _require_said(text, name)
    return text


def _torch_file(wheel: zipfile.ZipFile, text: str, name: str) -> TorchFile:
    try:
        version = held(wheel, torchpin.VERSION_FILE, most=_LONGEST).decode("utf-8")
        cmake = held(wheel, torchpin.CMAKE_PACKAGE, most=_LONGEST).decode("utf-8")
        identity = torchpin.identity(text, version, cmake)
    except KeyError as error:
        raise _not_a_torch(name, str(error.args[0])) from None
    except UNREADABLE as error:
        raise _not_a_torch(name, f"its version file cannot be read: {error}") from None
    except BlackwheelError as error:
        raise _not_a_torch(name, error.fact) from None
    lacking = [one for one in ("runtime", "git_version", "cuda") if not getattr(identity, one)]
    if lacking:
        raise _not_a_torch(name, f"{torchpin.VERSION_FILE} names no {', '.join(lacking)}")
    return TorchFile(identity=identity, requires=requirements(text, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """Requirements of a wheel, as its METADATA writes them."""

    requires: tuple[str, ...]
    python: str


def needs(path: Path, name: str) -> Needs:
    """Read the requirements of the wheel at `path`, whose other files are not looked at."""
    try:
        with zipfile.ZipFile(path) as wheel:
            found = [n for n in wheel.namelist() if re.fullmatch(_METADATA, n)]
            text = held(wheel, found[0]).decode("utf-8") if found else ""
    except UNREADABLE as error:
        raise _not_a_wheel(name, f"it is no whole zip file: {error}") from None
    requires, python = _read(
        text, name, lambda told: (tuple(map(str, told.requires_dist or ())), told.requires_python)
    )
    return Needs(requires=requires, python=str(python or ""))


def metadata_text(path: Path, name: str) -> str:
    """Return the METADATA of the wheel at `path`, whose name shall be `name`; reads all of it.

    Raises `not-a-wheel` where a file in it is damaged or where it is another distribution.
    """
    try:
        with zipfile.ZipFile(path) as wheel:
            broken = wheel.testzip()
            if broken:
                raise _not_a_wheel(name, f"{broken} is damaged in it")
            found = [n for n in wheel.namelist() if re.fullmatch(_METADATA, n)]
            text = held(wheel, found[0]).decode("utf-8") if len(found) == 1 else ""
    except UnicodeDecodeError as error:
        raise _not_a_wheel(name, f"its METADATA is no text: {error}") from None
    except UNREADABLE as error:
        raise _not_a_wheel(name, f"it is no whole zip file: {error}") from None
    _require_said(text, name)
    return text


def _require_said(text: str, name: str) -> None:
    said, version = _read(text, name, lambda told: (told.name, told.version))
    wanted, wanted_version, _, _ = parse_wheel_filename(name)
    if (canonicalize_name(said), version) != (wanted, wanted_version):
        raise _not_a_wheel(name, f"its METADATA says {said} {version}")


def _read(text: str, name: str, field: Callable[[Metadata], _Field]) -> _Field:
    """Read METADATA; its fields are parsed when they are asked for."""
    try:
        return field(Metadata.from_email(text, validate=False))
    except (ExceptionGroup, ValueError) as error:  # a version of 5,000 digits
        raise _not_a_wheel(name, f"its METADATA cannot be read: {error}") from None


def requirements(text: str, name: str) -> tuple[Requirement, ...]:
    """Return the requirements in the METADATA of a wheel; raise `not-a-wheel`."""
    return _read(text, name, lambda told: tuple(told.requires_dist or ()))


def exact_version(requirement: Requirement) -> Version | None:
    """Return the one version that a requirement accepts, or None."""
    specifiers: list[Specifier] = list(requirement.specifier)
    if len(specifiers) == 1 and specifiers[0].operator in ("==", "==="):
        text = specifiers[0].version
        return None if text.endswith(".*") else Version(text)
    return None


def belongs_to(requires: tuple[Requirement, ...], torch: Version) -> bool:
    """Tell whether these requirements name exactly this torch, with or without its local part."""
    for requirement in requires:
        wanted = exact_version(requirement)
        if canonicalize_name(requirement.name) == "torch" and wanted:
            return wanted in (torch, Version(torch.public))
    return False


def _not_a_wheel(name: str, why: str) -> BlackwheelError:
    return BlackwheelError(
        "not-a-wheel",
        f"{name} is not the wheel that its name says: {why}",
        where=name,
        fix="the same command again; nothing was kept or pinned",
        code=Exit.TORCH,
    )


def _not_a_torch(name: str, why: str) -> BlackwheelError:
    return BlackwheelError(
        "not-a-torch",
        f"{name} does not tell which torch it is: {why}",
        where=name,
        fix="pin another build: invoke pin torch latest",
        code=Exit.TORCH,
    )
