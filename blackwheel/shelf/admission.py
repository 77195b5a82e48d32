"""Admits a wheel or refuses it: the one gate before a shelf and before an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blackwheel.audit.linkage import Linkage
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.receipts import document as receipts
from blackwheel.shelf import index, sbom, shelved_here, verify
from blackwheel.stacks.key import Key
from blackwheel.stacks.request import Request


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """A wheel of a request, with the receipt that was verified; made by `admitted` alone."""

    wheel: Path
    receipt: receipts.Document
    """Names the sha256 of the bytes that were audited."""
    request: Request
    bound: tuple[Linkage, ...]
    """Its libraries, as they were audited."""


def examined(
    site: Site, wheel: Path, asked: Request, *, key: Key | None = None, smoked: bool = True
) -> verify.Verified:
    """Hold a wheel to the request that asks for it, whole; its faults keep it from being that.

    Its receipt must be of the stack, project, Python, archs and label that are asked for, with the
    key of this checkout (or `key`, of a build that began before); its bytes must pass the whole
    audit with the stack's contract, and link. `smoked` asks for the stage `smoke`.
    """
    return verify.verify(site, wheel, asked=asked, key=key, smoked=smoked)


def admitted(site: Site, wheel: Path, asked: Request, *, key: Key | None = None) -> Admitted:
    """Return the wheel of a request, `examined`; raise `unproved` with every fault."""
    done = examined(site, wheel, asked=asked, key=key)
    if done.faults or done.receipt is None:
        raise unproved(
            ["not taken: what is not proved is neither shelved nor published"],
            [done],
            where=str(wheel),
            fix=f"invoke build-wheels --stack {asked.stack.name} --again makes the wheel anew",
        )
    return Admitted(wheel=wheel, receipt=done.receipt, request=asked, bound=done.bound)


def shelved(site: Site, one: Admitted) -> index.ShelvedWheel:
    """Shelve an admitted wheel with its SBOM, and note its receipt in the store."""
    shelved_here.remember(site.store, one.wheel.name, one.receipt)
    made = sbom.sbom(one.receipt, one.bound)
    return index.shelve(one.wheel, one.receipt, site.wheels / one.request.stack.name, sbom=made)


def unproved(
    lines: list[str], done: Sequence[verify.Verified], *, where: str, fix: str
) -> BlackwheelError:
    """Return the error of wheels that are not proved, with every fault of each."""
    for one in done:
        for check in one.faults:
            found, expected = check.found or "nothing", check.expected or "nothing"
            lines = [*lines, one.path.name, f"  {check.what}: {found}", f"  expected: {expected}"]
    return BlackwheelError("unproved", "\n".join(lines), where=where, fix=fix, code=Exit.INDEX)
