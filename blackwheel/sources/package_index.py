"""Finds and downloads wheels and sdists of the package registry by name and version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from pypi_simple import PYPI_SIMPLE_ENDPOINT, DistributionPackage

from blackwheel.core.addresses import index_address, index_cure, shown
from blackwheel.core.download import download, forget
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.file_lock import held
from blackwheel.core.files import component, sha256
from blackwheel.core.simple_index import AbsentError, FailedError, Patience, project_page
from blackwheel.core.site import Site
from blackwheel.core.units import size

FOLDER: Final = "audited"
SHOWN: Final = 6
_PATIENCE: Final = Patience(tries=2)


class NoProjectError(BlackwheelError):
    """Raised where the index answers, and has no such project."""


def named(what: str) -> tuple[str, Version]:
    """Read `vllm==0.26.0`; raise `bad-requirement` for anything but one version of one project."""
    try:
        requirement = Requirement(what)
        (only,) = requirement.specifier
        version = Version(only.version)
        if only.operator == "==" and not requirement.marker and not requirement.extras:
            return requirement.name, version
    except (InvalidRequirement, InvalidVersion, ValueError):
        pass  # `==0.26.*` is no version, `>=1,==2` are two specifiers
    raise BlackwheelError(
        "bad-requirement",
        f"'{what}' does not name one version of one project",
        where="invoke audit",
        fix="write NAME==VERSION: vllm==0.26.0",
        code=Exit.USAGE,
    )


def wheel_of(name: str, version: Version, *, site: Site, tags: Sequence[Tag] = ()) -> Path:
    """Return the verified wheel in `audited/`, kept or downloaded; `tags` default to our own.

    Raises `no-project-there`, `no-version-there`, `no-wheel-there`, `no-digest-there`,
    `wrong-sha256` and what the download raises.
    """
    offered = offered_files(name, site)
    chosen = _best(name, version, offered, tuple(tags) or tuple(sys_tags()))
    digest = chosen.digests.get("sha256")
    if not digest:
        raise BlackwheelError(
            "no-digest-there",
            f"the package index names no sha256 of {chosen.filename}: nothing tells whose it is",
            where=shown(chosen.url),
            fix="download it yourself, and: invoke audit FILE",
            code=Exit.INDEX,
        )
    kept = site.store / FOLDER / component(chosen.filename, where=shown(chosen.url))
    kept.parent.mkdir(parents=True, exist_ok=True)
    with held(site.store, f"audited-{kept.name}", project=name, console=site.console):
        if not kept.is_file() or sha256(kept) != digest:
            _take(chosen, kept, digest, name=name, site=site)
    return kept


def sdist_of(name: str, version: Version, *, site: Site) -> Path | None:
    """Return the sdist of a release in `sdists/`, compared with the index's digest, or None.

    Raises `no-project-there`, `no-answer`, `wrong-sha256` and what the download raises.
    """
    offered = offered_files(name, site)
    files = [one for one in offered if one.package_type == "sdist" and _version(one) == version]
    if not files:
        return None
    chosen = files[0]
    kept = site.store / "sdists" / component(chosen.filename, where=shown(chosen.url))
    kept.parent.mkdir(parents=True, exist_ok=True)
    digest = chosen.digests.get("sha256", "")
    with held(site.store, f"sdist-{kept.name}", project=name, console=site.console):
        if not digest or not kept.is_file() or sha256(kept) != digest:
            _take(chosen, kept, digest, name=name, site=site)
    return kept


def versions(name: str, site: Site) -> list[Version]:
    """Return the versions of a project that the index lists and that are not yanked."""
    listed = {_version(one) for one in offered_files(name, site) if not one.is_yanked}
    return sorted(version for version in listed if version)


def offered_files(name: str, site: Site) -> list[DistributionPackage]:
    """Return every file that the index lists for a project."""
    endpoint = index_address(site.environment) or PYPI_SIMPLE_ENDPOINT
    try:
        return project_page(endpoint, name, patience=_PATIENCE).packages
    except AbsentError as error:
        if error.status == 403:
            raise _no_answer(endpoint, str(error)) from None
        raise NoProjectError(
            "no-project-there",
            f"the package index has no project '{name}'",
            where=shown(endpoint),
            fix="correct the name, or name the index that has it: export UV_DEFAULT_INDEX=ADDRESS",
            code=Exit.INDEX,
        ) from None
    except FailedError as error:
        raise _no_answer(endpoint, str(error)) from None


def _no_answer(endpoint: str, why: str) -> BlackwheelError:
    return BlackwheelError(
        "no-answer",
        f"the package index: {why}",
        where=shown(endpoint),
        fix=index_cure(why),
        code=Exit.INDEX,
    )


def _best(
    name: str, version: Version, offered: Sequence[DistributionPackage], tags: Sequence[Tag]
) -> DistributionPackage:
    """The wheel of that version whose tags come first among `tags`."""
    files = [one for one in offered if _version(one) == version]
    if not files:
        raise _no_version(name, version, offered)
    ranks = {tag: number for number, tag in enumerate(tags)}
    fitting = [
        (min(found), one)
        for one in files
        if (found := [ranks[tag] for tag in _tags(one) if tag in ranks])
    ]
    if not fitting:
        raise _no_wheel(name, version, files, tags[0])
    return min(fitting, key=lambda pair: (pair[0], pair[1].filename))[1]


def _version(package: DistributionPackage) -> Version | None:
    try:
        return Version(package.version or "")
    except InvalidVersion:
        return None


def _tags(package: DistributionPackage) -> frozenset[Tag]:
    try:
        return parse_wheel_filename(package.filename)[3]
    except (InvalidWheelFilename, InvalidVersion):
        return frozenset()


def _no_version(
    name: str, version: Version, offered: Sequence[DistributionPackage]
) -> BlackwheelError:
    known = sorted({found for one in offered if (found := _version(one))}, reverse=True)
    newest = ", ".join(str(one) for one in known[:SHOWN])
    return BlackwheelError(
        "no-version-there",
        f"the package index has no {name} {version}",
        where=f"{name}=={version}",
        fix=f"one of: {newest}" if newest else "the project has no files at all",
        code=Exit.INDEX,
    )


def _no_wheel(
    name: str, version: Version, files: Sequence[DistributionPackage], best: Tag
) -> BlackwheelError:
    wheels = sorted(one.filename for one in files if one.filename.endswith(".whl"))
    sources = sorted(one.filename for one in files if one.package_type == "sdist")
    listed = [f"it has: {one}" for one in wheels[:SHOWN]]
    if len(wheels) > SHOWN:
        listed.append(f"it has: {len(wheels) - SHOWN} more wheels")
    listed += [f"it has: {one} (an sdist: source to build from)" for one in sources]
    project = canonicalize_name(name)
    return BlackwheelError(
        "no-wheel-there",
        "\n".join([f"the package index has no wheel of {project} {version} for {best}", *listed]),
        where=f"{name}=={version}",
        fix="build it: invoke stacks tells which stack does"
        if sources and not wheels
        else "name a version with a wheel for this Python and platform,\n"
        "or download another's, and: invoke audit FILE",
        code=Exit.INDEX,
    )


def _take(package: DistributionPackage, kept: Path, digest: str, *, name: str, site: Site) -> None:
    """Download a file, and give it its name only when it is the one that the index lists."""
    known = f" ({size(package.size)})" if package.size else ""
    try:
        with site.console.stage(name, f"download {package.filename}{known}") as stage:
            part = download(package.url, kept, stage=stage, patience=Patience())
    except AbsentError as error:
        raise BlackwheelError(
            "no-answer",
            f"the package index lists {package.filename} and does not have it: {error}",
            where=shown(package.url),
            fix="the same command again, later or with another index",
            code=Exit.INDEX,
        ) from None
    found = sha256(part)
    if digest and found != digest:
        forget(part)
        raise BlackwheelError(
            "wrong-sha256",
            f"{package.filename} is not the file that the index lists; it was not kept\n"
            f"found:  {found}\nlisted: {digest}",
            where=shown(package.url),
            fix="the same command again; if it stays so, ask who runs the index or the proxy",
            code=Exit.INDEX,
        )
    part.replace(kept)
