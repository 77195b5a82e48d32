"""Reads the nightly index: listed builds, unlisted files, and the builds nearest to a lost one.

Its pages list the newest 60 builds of a package; older files stay reachable by their address.
"""

# ruff: noqa: PLC0415  parsing a page costs 0.3 s of imports, and most runs have their wheels.

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin, urlsplit

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from blackwheel.core.addresses import shown
from blackwheel.core.download import no_answer
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.http import AbsentError, FailedError, Patience
from blackwheel.core.simple_index import NoPageError, project_page
from blackwheel.stacks.records import Stack

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage

WINDOW: Final = 60
"""How many builds of a package its page lists."""
ENDED_DAYS: Final = 30
"""A channel without a build for so long, while others have some, gets none any more."""
_ABI3: Final = "abi3-"
PLATFORMS: Final = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64.manylinux_2_28_x86_64",
    "linux_x86_64",
)
"""How the nightlies' files have been named, newest way first."""
_SHOWN: Final = 4


class NotAnIndexError(BlackwheelError):
    """The page lists no wheel of its project: `not-an-index`."""


class IndexRefusedError(BlackwheelError):
    """The index answers 403 for a page: `index-refused`."""


class WheelLostError(BlackwheelError):
    """A pinned wheel is nowhere, or has other bytes by now: `torch-gone`, `other-bytes`.

    Only another pin helps: `invoke pin torch latest`.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A wheel that an index lists, or a guess at an unlisted one's address."""

    name: str
    url: str
    version: Version
    pythons: frozenset[str]
    """`cp311`; `abi3-cp312` for that one and newer ones; `py3` for any."""
    sha256: str = ""
    """What the index claims; empty where it claims nothing."""
    metadata: str = ""
    """Where the METADATA lies alone, if the index offers that."""

    def fits(self, tag: str) -> bool:
        """Tell whether the wheel serves this Python."""
        least = [int(one.removeprefix(f"{_ABI3}cp3")) for one in self.pythons if _ABI3 in one]
        return bool(self.pythons & {tag, "py3"}) or any(one <= int(tag[3:]) for one in least)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """One project's page, reduced to Linux on x86-64."""

    project: str
    index: str
    offers: tuple[Offer, ...]

    def at(self, version: Version, tag: str) -> Offer | None:
        """Return the wheel of a version for one Python, if it is listed."""
        found = (offer for offer in self.offers if offer.version == version and offer.fits(tag))
        return next(found, None)

    def versions(self, channel: str, tags: Iterable[str]) -> list[Version]:
        """Return the versions of a channel that serve every one of these Pythons, oldest first."""
        wanted = tuple(tags)
        listed = {offer.version for offer in self.offers if offer.version.local == channel}
        return sorted(v for v in listed if all(self.at(v, tag) for tag in wanted))


def channel_cuda(channel: str) -> str:
    """Return the CUDA release of a channel, `12.8` of `cu128`; raise `unknown-channel`."""
    found = re.fullmatch(r"cu(\d{2})(\d)", channel)
    if not found:
        raise BlackwheelError(
            "unknown-channel",
            f"'{channel}' is no CUDA channel of the nightly index",
            where="--channel",
            fix="--channel cu128, for CUDA 12.8",
            code=Exit.USAGE,
        )
    return f"{found[1]}.{found[2]}"


def build_date(version: Version) -> date | None:
    """Return the day in a nightly's version."""
    found = re.fullmatch(r"(\d{4})(\d{2})(\d{2})", str(version.dev or ""))
    try:
        return date(*map(int, found.groups())) if found else None
    except ValueError:
        return None


def listing(index: str, project: str, *, patience: Patience) -> Listing:
    """Read a project's page; a page that does not exist lists nothing.

    Raises `no-answer`, `index-refused`, and `not-an-index` for what is no page of this project.
    """
    from pypi_simple import ACCEPT_HTML_PREFERRED

    address = f"{index.rstrip('/')}/{canonicalize_name(project)}/"
    why = "a login or an error page?"
    try:
        packages = project_page(
            index, project, accept=ACCEPT_HTML_PREFERRED, patience=patience
        ).packages
    except NoPageError as error:
        packages, why = [], f"it {error}"
    except FailedError as error:
        raise no_answer(address, error) from None
    except AbsentError as error:
        if error.status != 403:
            return Listing(project=project, index=index, offers=())
        raise IndexRefusedError(
            "index-refused",
            f"the index {error}",
            where=shown(address),
            fix="open the address in a browser; a proxy may want to be named: HTTPS_PROXY",
            code=Exit.INDEX,
        ) from None
    offers = tuple(offer for package in packages if (offer := offered(package, project)))
    if not offers:
        raise NotAnIndexError(
            "not-an-index",
            f"the page lists no {project} wheel for Linux on x86-64: {why}",
            where=shown(address),
            fix="open the address in a browser, and correct torch.index in the stack file",
            code=Exit.INDEX,
        )
    return Listing(project=project, index=index, offers=offers)


def gathered(pages: Sequence[str], project: str, *, patience: Patience) -> Listing:
    """Read every page of a project, a channel's own first; refused pages list nothing.

    Storage that may not be listed answers 403 for a page that does not exist, and some packages
    have their page above the channel's alone.
    """
    found: list[Offer] = []
    for index in pages:
        try:
            found += listing(index, project, patience=patience).offers
        except IndexRefusedError:
            continue
    return Listing(project=project, index=pages[0], offers=tuple(found))


def require_alive(newest: Version, root: Listing) -> None:
    """Raise `channel-ended` where other channels have had builds for weeks, and this one none."""
    day = build_date(newest)
    last: dict[str, date] = {}
    for offer in root.offers:
        of, when = offer.version.local or "", build_date(offer.version)
        if when and re.fullmatch(r"cu\d+", of):
            last[of] = max(when, last.get(of, when))
    alive = {of: when for of, when in last.items() if day and (when - day).days > ENDED_DAYS}
    if alive:
        others = ", ".join(f"{of} ({when})" for of, when in sorted(alive.items()))
        raise BlackwheelError(
            "channel-ended",
            f"the newest build of {newest.local} is of {day}, and there were others since:"
            f"\n{others}",
            where=shown(root.index),
            fix="a stack of another CUDA, docs/nightly-stack.md; or name the build itself:"
            f" invoke pin torch {newest}",
            code=Exit.TORCH,
        )


def offered(package: DistributionPackage, project: str) -> Offer | None:
    """Return a listed file as an offer; None unless it is a wheel for Linux on x86-64."""
    try:
        name, version, _, tags = parse_wheel_filename(package.filename)
    except (InvalidWheelFilename, InvalidVersion):
        return None
    pythons = frozenset(python for tag in tags if (python := _python(tag)))
    scheme = urlsplit(package.url).scheme
    if name != canonicalize_name(project) or not pythons or scheme not in ("http", "https"):
        return None
    return Offer(
        name=package.filename,
        url=package.url,
        version=version,
        pythons=pythons,
        sha256=package.digests.get("sha256", ""),
        metadata=package.metadata_url if package.has_metadata else "",
    )


def _python(tag: Tag) -> str:
    """Return the Python that a tag serves on Linux on x86-64; free-threaded ones are others."""
    if tag.platform != "any" and not re.fullmatch(r"(many)?linux\w*_x86_64", tag.platform):
        return ""
    if tag.abi == tag.interpreter and re.fullmatch(r"cp3\d+", tag.interpreter):
        return tag.interpreter
    if tag.abi == "abi3" and re.fullmatch(r"cp3\d+", tag.interpreter):
        return f"{_ABI3}{tag.interpreter}"
    return "py3" if tag.interpreter == "py3" and tag.abi == "none" else ""


def hidden(known: Listing, version: Version, tag: str) -> tuple[Offer, ...]:
    """Return the addresses where an unlisted wheel would lie: beside listed ones, at the index.

    The builds of some packages lie one level above their channel's page.
    """
    index = known.index.rstrip("/") + "/"
    listed = dict.fromkeys(urljoin(offer.url, ".") for offer in known.offers)
    bases = list(dict.fromkeys([*listed, index, urljoin(index, "..")]))
    stem = f"{canonicalize_name(known.project).replace('-', '_')}-{version}-{tag}-{tag}"
    names = [f"{stem}-{platform}.whl" for platform in PLATFORMS]
    return tuple(
        Offer(name=name, url=base + quote(name), version=version, pythons=frozenset({tag}))
        for name in names
        for base in bases
    )


def newest(known: Listing, channel: str, tags: Sequence[str]) -> Version:
    """Return the newest version that serves every Python; raise `no-nightly`."""
    versions = known.versions(channel, tags)
    if not versions:
        raise BlackwheelError(
            "no-nightly",
            f"the index lists no {known.project} of {channel} for {', '.join(tags)}",
            where=shown(known.index),
            fix="name another --channel, or fewer Pythons in the stack file",
            code=Exit.TORCH,
        )
    return versions[-1]


def nearest(known: Listing, version: Version, tags: Sequence[str]) -> list[Version]:
    """Return the versions of the same channel by how near their days are, at most four."""
    versions = known.versions(version.local or "", tags)
    wanted = build_date(version)
    if wanted is None:
        return versions[::-1][:_SHOWN]
    days = [(day, v) for v in versions if (day := build_date(v))]
    days.sort(key=lambda pair: (abs((pair[0] - wanted).days), pair[0] < wanted))
    return [v for _, v in days[:_SHOWN]]


def gone(
    known: Listing, version: Version, tags: Sequence[str], *, stack: str, lacking: Sequence[str]
) -> WheelLostError:
    """Return the error of a build that nothing has: the nearest ones, and how to move the pin."""
    near = nearest(known, version, tags)
    there = ", ".join(map(str, sorted(near))) or "none"
    served = ", ".join(lacking)
    return WheelLostError(
        "torch-gone",
        f"{known.project} {version} for {served} is not listed, not at its address and not archived"
        f"\nnearest that serve {', '.join(tags)}: {there}",
        where=shown(known.index),
        fix=f"invoke pin torch {near[0] if near else 'latest'} --stack {stack}",
        code=Exit.TORCH,
    )


def age_line(stack: Stack, today: date) -> str:
    """Return the age of a stack's nightly and how to move its pin; nothing for other torches."""
    day = build_date(Version(stack.torch.version))
    if stack.torch.source != "index" or day is None:
        return ""
    days = (today - day).days
    return (
        f"torch {stack.torch.version} is {days} day{'' if days == 1 else 's'} old;"
        f" to move the pin: invoke pin torch latest --stack {stack.name}"
    )
