"""Finds the expected cost of a build: of its version, or of the nearest measured one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from packaging.version import InvalidVersion, Version

from blackwheel.builder.plan import Width, cpu_seconds
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site
from blackwheel.stacks import loader
from blackwheel.stacks.records import ProjectPin
from blackwheel.stacks.request import Request


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """CPU seconds of a build, and whose they are."""

    seconds: int = 0
    """0: nobody measured any version of it."""
    of: str = ""
    """Whose: the version that was measured, or the stack where the version is the same; empty where
    the stack measured its own."""

    def rest(self, before: int, objects: int) -> Spent:
        """Return the cost where so many of its objects were compiled before."""
        part = 1 - before / objects if objects else 1
        return replace(self, seconds=round(self.seconds * part))

    def took(self, wide: Width) -> str:
        """Return the wall time for people; empty where nothing is known."""
        if not self.seconds:
            return ""
        return wide.took(self.seconds) + (f" by {self.of}'s figures" if self.of else "")


def spent(site: Site, request: Request) -> Spent:
    """Return the figure of the stack, else that of another stack for the nearest version.

    Only a build of the same selection of kernels (the variant) tells anything of this one.
    """
    own = cpu_seconds(request)
    if own:
        return Spent(seconds=own)
    found = _nearest(request.pin, _measured(site, request))
    if found is None:
        return Spent()
    stack, pin = found
    same = pin.version == request.pin.version
    return Spent(seconds=pin.cpu_seconds * len(request.archs), of=stack if same else pin.version)


def _measured(site: Site, request: Request) -> Iterable[tuple[str, ProjectPin]]:
    """Yield stack and pin of the project where a cost is named, of every stack that can be read."""
    for name in loader.names(site.constraints):
        try:
            pin = loader.load(name, site.constraints).projects.get(request.project)
        except BlackwheelError:
            continue  # `invoke stacks` says what is wrong with it
        if pin and pin.cpu_seconds and pin.variant == request.pin.variant:
            yield name, pin


def _nearest(
    wanted: ProjectPin, found: Iterable[tuple[str, ProjectPin]]
) -> tuple[str, ProjectPin] | None:
    """Return the newest that is no newer than the version, else the oldest that is newer."""
    try:
        version = Version(wanted.version)
        known = {Version(pin.version): (name, pin) for name, pin in found}
    except InvalidVersion:
        return None
    older = [each for each in known if each <= version]
    nearest = max(older) if older else min(known, default=None)
    return known[nearest] if nearest is not None else None
