"""Ends an audit with a verdict: does it serve the card, and which stack would replace it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from packaging.version import InvalidVersion, Version

from blackwheel.audit import on_card
from blackwheel.audit.kernels import Library
from blackwheel.core.cards import Card
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site
from blackwheel.stacks import loader, projects
from blackwheel.stacks.records import Stack
from blackwheel.stacks.request import label

SERVED: Final = (on_card.NATIVELY, on_card.FAMILY, on_card.NONE)
LOST: Final = (on_card.NOT, on_card.PARTLY)
SLOW: Final = "your driver compiles them at first use, which takes time"
NEEDLESS: Final = "You need not build your own."
_SHOWN: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A wheel, or a distribution of an environment, and how it runs on the card."""

    name: str
    version: str
    state: str
    libraries: Sequence[Library]
    """Those with device code."""
    uncalled: on_card.Uncalled
    broken: str = ""
    """The first finding for which it is refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Builder:
    """A stack of this checkout that builds a distribution."""

    stack: Stack
    project: str
    shelved: bool
    """A wheel of it is on the shelf."""
    partial: bool
    """It leaves out some of the project's kernels."""

    @property
    def version(self) -> str:
        """Release that it builds."""
        return self.stack.projects[self.project].version


def verdict(site: Site, card: Card, judged: Sequence[Judged]) -> str:
    """Answer in one line whether all of this runs on the card, and whether to build one's own."""
    if len(judged) == 1:
        return f"Verdict: {_one(site, card, judged[0])}"
    return f"Verdict: {_several(site, card, judged)}"


def _one(site: Site, card: Card, one: Judged) -> str:
    if one.broken:
        return f"no, {one.broken}: no installer or loader takes it as it is."
    readable = not any(library.unreadable for library in one.libraries)
    told = "" if readable or one.state == on_card.UNKNOWN else "as far as it can be read, "
    if one.state in SERVED:
        return told + _served(one.state, card)
    fact, wish = _lack(one, card)
    if own := _own(site, one):
        return (
            f"{told}{fact}. By its name it is what stack {own.stack.name} builds:"
            f" invoke audit {own.stack.name} tells which kernels that stack lets be older."
        )
    builds = _builds(site, card, one)
    return f"{told}{fact}. {f'{wish}: {builds}' if builds else _nobody(one)}"


def _served(state: str, card: Card) -> str:
    if state == on_card.NONE:
        return "yes, it holds no GPU code: any card will do. There is nothing to build."
    if state == on_card.NATIVELY:
        return f"yes, all that would be called runs natively on {card}. {NEEDLESS}"
    return (
        f"yes, all that would be called runs on {card} as machine code, some of it of the"
        f" family and not for exactly this card. {NEEDLESS}"
    )


def _lack(one: Judged, card: Card) -> tuple[str, str]:
    """Return what does not serve the card, and for what one would build."""
    counts = on_card.tally(one.libraries)
    if one.state in (on_card.PTX, on_card.PARTLY_PTX):
        share = f"{counts.ptx:,} of {counts.total:,}" if counts.ptx < counts.total else "all"
        fact = f"yes, but {share} kernels run on {card} only through PTX: {SLOW}"
        return fact, f"{NEEDLESS[:-1]} to run it; for native code"
    if one.state == on_card.PARTLY:
        files = [each.path for each in on_card.idle(one.libraries) if not one.uncalled(each.path)]
        holds = "holds" if len(files) == 1 else "hold"
        fact = f"no, not all of it runs on {card}: {_names(files)} {holds} nothing for it"
        return fact, "Where you need that, build your own"
    if one.state == on_card.NOT:
        return f"no, none of its {counts.total:,} kernels runs on {card}", "Build your own"
    return f"whether it runs on {card} cannot be told: its code cannot be read", "If it does not"


def _several(site: Site, card: Card, judged: Sequence[Judged]) -> str:
    broken = [one for one in judged if one.broken]
    held = [one for one in judged if not one.broken and one.state not in (*SERVED, "")]
    lost = [one for one in held if one.state in LOST]
    unknown = [one for one in held if one.state == on_card.UNKNOWN]
    slow = [one for one in held if one not in lost and one not in unknown]
    if not judged or (not held and not broken and all(not one.libraries for one in judged)):
        return "yes, nothing here holds GPU code: any card will do. There is nothing to build."
    if not held and not broken:
        return f"yes, all that would be called runs on {card} as machine code. {NEEDLESS}"
    parts = []
    if lost:
        parts.append(f"no, not all of it runs on {card}: {_stated(lost)}")
    elif not broken:
        parts.append("yes, as far as it can be read" if unknown else f"yes, all runs on {card}")
    if broken:
        names = _names([f"{one.name} ({one.broken})" for one in broken])
        parts.append(f"{'' if lost else 'no, '}refused: {names}")
    if slow:
        parts.append(f"compiled by your driver at first use: {_stated(slow)}")
    if unknown:
        parts.append(f"cannot be read: {_names([one.name for one in unknown])}")
    return "; ".join(parts) + f". {' '.join(_replacements(site, card, held))}".rstrip()


def _replacements(site: Site, card: Card, held: Sequence[Judged]) -> Iterator[str]:
    """Yield in one sentence those that no stack builds, then the stack that replaces each other."""
    found = {one.name: _builds(site, card, one) for one in held}
    if nobody := [name for name, builds in found.items() if not builds]:
        yield f"No stack of this repository builds {_names(nobody)}."
    if any(found.values()):
        yield "; ".join(f"For {name}: {builds}" for name, builds in found.items() if builds)


def _stated(held: Sequence[Judged]) -> str:
    return _names([f"{one.name} ({one.state})" for one in held])


def _names(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _nobody(one: Judged) -> str:
    return (
        f"No stack of this repository builds {one.name}: a newer release of its makers may hold it."
    )


def _own(site: Site, one: Judged) -> Builder | None:
    """Return the stack whose wheel bears this very version, with its label."""
    for each in builders(site, one.name, one.version) if "+" in one.version else ():
        pin = each.stack.projects[each.project]
        if one.version == f"{pin.version}+{label(each.stack, pin, each.stack.archs)}":
            return each
    return None


def _builds(site: Site, card: Card, one: Judged) -> str:
    """Say which stack would replace it, and whether that was or can be built; empty where none."""
    found = builders(site, one.name, one.version)
    if not found:
        return ""
    fitting = [each for each in found if set(card.wanted.split(", ")) <= set(each.stack.archs)]
    if not fitting:
        archs = ", ".join(found[0].stack.archs)
        return f"the stacks here build {one.name} for {archs} alone; docs/add-a-stack.md has more."
    best = fitting[0]
    name, words = best.stack.name, f"--only {best.project}"
    command = f"invoke build-wheels --stack {name} {words}"
    if best.shelved:
        state, command = "on the shelf here", f"invoke install --stack {name} {words} --into FOLDER"
    else:
        state = _buildable(site, best.stack)
    more = "; invoke stacks lists others" if fitting[1:] else ""
    part = ", a part of it" if best.partial else ""
    return (
        f"stack {name} builds {best.project} {best.version}{part} for torch"
        f" {best.stack.torch.version}, {state}: {command}{more}"
    )


def _buildable(site: Site, stack: Stack) -> str:
    # Imported here: its checks cost time, and most audits end without a stack.
    from blackwheel.doctor import for_building, nightly_window
    from blackwheel.pytorch import archive

    place = for_building.place(site)
    kept = archive.archive(site.store, site.environment, site.console)
    if lacks := for_building.buildable(stack, place):
        return f"not buildable here ({lacks[0]})"
    if nightly_window.unseen(stack, kept):
        return "its torch never seen from here"
    return "buildable here, not on the shelf here"


def builders(site: Site, name: str, version: str) -> list[Builder]:
    """Return the stacks that build a distribution, the one that replaces this release best first.

    All of it before a part, the same release before others, a wheel on the shelf before none, a
    stack that was seen to work before one with a remark, then the newest.
    """
    found = []
    for each in loader.names(site.constraints):
        with contextlib.suppress(BlackwheelError):  # a broken stack builds none
            stack = loader.load(each, site.constraints)
            for project in stack.build:
                if stack.distribution(project) == name:
                    found.append(_builder(site, stack, project))
    return sorted(
        found,
        key=lambda one: (
            one.partial,
            one.version != version.partition("+")[0],
            not one.shelved,
            bool(one.stack.remarks or one.stack.formerly),
            *_newest_first(one.version),
            one.stack.name,
        ),
    )


def _newest_first(version: str) -> tuple[int, ...]:
    try:
        return tuple(-part for part in (*Version(version).release, 0, 0, 0)[:4])
    except InvalidVersion:
        return (0, 0, 0, 0)


def _builder(site: Site, stack: Stack, project: str) -> Builder:
    pin, known = stack.projects[project], projects.load(site.patches, project)
    shelf, name = site.wheels / stack.name, stack.distribution(project).replace("-", "_")
    return Builder(
        stack=stack,
        project=project,
        shelved=any(shelf.glob(f"{name}-{pin.version}*.whl")),
        partial=any(
            part.limits(pin.variables)["cannot"] for part in known.holds if not part.left_out
        ),
    )
