"""Lists the stacks: contents, lowest driver, and whether this machine can build them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from blackwheel.core import tables
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site
from blackwheel.doctor import for_building, nightly_window
from blackwheel.doctor.for_building import place
from blackwheel.pytorch import archive
from blackwheel.stacks import loader
from blackwheel.stacks.records import Stack

UNSEEN: Final = "not seen from here"
"""State of a nightly whose wheels nobody downloaded here: its host alone can tell."""
COLUMNS: Final = (
    *("stack", "torch", "CUDA", "Python", "archs", "driver", "builds"),
    "buildable here",
)
HEAD: Final = "ok: this machine can build the stack; LACKS: it cannot; note: nobody knows yet"
_GAP: Final = 2
_LEAST: Final = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A stack, and the reasons for which this machine may not build it."""

    stack: Stack
    default: bool
    lacks: tuple[str, ...]
    unseen: tuple[str, ...]
    """Wheels of its nightly that were never downloaded here."""

    @property
    def title(self) -> str:
        """Name, with a mark on the default."""
        return f"{self.stack.name} (default)" if self.default else self.stack.name

    @property
    def state(self) -> str:
        """State on this machine: `yes` for buildable, the lacks, or that nobody knows."""
        return "; ".join(self.lacks) or (UNSEEN if self.unseen else "yes")

    @property
    def driver(self) -> str:
        """Lowest driver, and that for PTX where it is a higher one."""
        lowest, ptx = self.stack.driver, self.stack.driver_ptx
        return f"≥ {lowest}" + (f", PTX {ptx}" if ptx > lowest else "")

    @property
    def builds(self) -> str:
        """Projects with their versions."""
        pins = self.stack.projects
        return ", ".join(f"{name} {pins[name].version}" for name in self.stack.build)

    @property
    def row(self) -> tuple[str, ...]:
        """Cells of the wide table."""
        stack = self.stack
        pins = (stack.torch.runtime, stack.toolchain.cuda)
        serves = (", ".join(stack.python), ", ".join(stack.archs))
        return (self.title, *pins, *serves, self.driver, self.builds, self.state)

    @property
    def mark(self) -> str:
        """State in one word, as doctor has it."""
        return "LACKS" if self.lacks else "note" if self.unseen else "ok"

    def lines(self, width: int, names: int) -> Iterator[str]:
        """Yield its two or three lines for a narrow terminal; `names` is the width of the names."""
        stack = self.stack
        begins = f"{self.mark:5}  {self.title:{names}}"
        held = f"torch {stack.torch.runtime}, Python {_span(stack.python)}, driver {self.driver}"
        why = () if self.state == "yes" else (self.state,)
        for text in (self.builds, held, *why):
            room = max(width, len(begins) + _LEAST)
            yield tables.wrapped(text, room, begins, " " * (len(begins) + 2))
            begins = " " * len(begins)

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        stack = self.stack
        return {
            "stack": stack.name,
            "torch": stack.torch.runtime,
            "cuda": stack.toolchain.cuda,
            "python": list(stack.python),
            "archs": list(stack.archs),
            "driver": str(stack.driver),
            "driver_ptx": str(stack.driver_ptx),
            "builds": {one: stack.projects[one].version for one in stack.build},
            "remarks": list(stack.remarks),
            "lacks": list(self.lacks),
            "unseen": list(self.unseen),
        }


def show_stacks(site: Site, *, default: str = "", as_json: bool = False) -> None:
    """List the stacks with their contents, lowest driver, and this machine's lacks."""
    found = list(_listed(site, default))
    if as_json:
        stacks = [one.document() for one in found]
        site.console.document("stacks", default=default, stacks=stacks)
        return
    names = max((len(one.title) for one in found), default=0) + _GAP
    site.console.table(
        "",
        COLUMNS,
        [one.row for one in found],
        narrow=lambda width: [HEAD, *(line for one in found for line in one.lines(width, names))],
    )
    remarks = [f"{one.stack.name}: {text}" for one in found for text in one.stack.remarks]
    for text in (*remarks, *_of_default(found)):
        site.console.prose(text)


def _listed(site: Site, default: str) -> Iterator[Listed]:
    """Yield the stacks; a broken one is said."""
    here, kept = place(site), archive.archive(site.store, site.environment, site.console)
    for name in loader.names(site.constraints):
        try:
            stack = loader.load(name, site.constraints)
        except BlackwheelError as error:
            site.console.error(error)
            continue
        yield Listed(
            stack=stack,
            default=name == default,
            lacks=for_building.buildable(stack, here),
            unseen=nightly_window.unseen(stack, kept),
        )


def _of_default(found: Sequence[Listed]) -> Iterator[str]:
    """Say what to build where the default's torch was never seen from here."""
    for one in found:
        if one.default and one.unseen:
            known = [each.stack for each in found if each.state == "yes"]
            known = [each for each in known if not (each.remarks or each.formerly)]
            names = [each.name for each in known if not {*each.build}.isdisjoint(one.stack.build)]
            builds = ", ".join(f"invoke build-wheels --stack {name}" for name in names)
            index = one.stack.torch.pages[0]
            yield (
                f"{one.stack.name}, the default: its torch is at {index} alone, and was {UNSEEN};"
                " a build asks there first, and ends in seconds where nothing answers."
            )
            if builds:
                yield f"What builds here without it: {builds}"


def _span(pythons: Sequence[str]) -> str:
    """Return `3.11 to 3.13` for Pythons without a gap, else all of them."""
    minors = [int(python.partition(".")[2]) for python in pythons]
    whole = minors == list(range(minors[0], minors[0] + len(minors)))
    return f"{pythons[0]} to {pythons[-1]}" if whole and len(minors) > 1 else ", ".join(pythons)
