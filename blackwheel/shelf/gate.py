"""Decides which wheels may be published: a stack's whole set, each with a receipt that holds."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.core.units import counted
from blackwheel.receipts import document as receipts
from blackwheel.shelf import admission, index, signing
from blackwheel.shelf import sbom as sboms
from blackwheel.shelf.admission import Admitted
from blackwheel.shelf.index import current
from blackwheel.shelf.signing import Policy
from blackwheel.shelf.smoke_record import archs_that_ran
from blackwheel.shelf.wheel_facts import NOT_RUN
from blackwheel.stacks import loader, records
from blackwheel.stacks.request import Request


@dataclass(frozen=True, kw_only=True, slots=True)
class Proved:
    """A shelved wheel of the stack's current label whose receipt was verified without a fault."""

    wheel: index.ShelvedWheel
    request: Request
    receipt: receipts.Document
    unrun: tuple[str, ...]
    """Archs on which no kernel of it ran, each with the reason."""
    signed: bytes = b""
    """The file of its signed receipt, whole; empty where it is not signed."""
    sbom: bytes = b""


def proved_set(
    site: Site,
    stack_name: str,
    *,
    only: Sequence[str] = (),
    allow_unrun: bool = False,
    policies: Sequence[Policy] = (),
) -> tuple[Proved, ...]:
    """Return the stack's current wheels, each after the wheels that it needs.

    `only` makes these projects the set; `policies` say who must have signed each. Raises
    `nothing-to-publish`, `incomplete-set`, `unproved` with every fault of every wheel, what
    `signing.signed_bytes` raises, and `kernels-not-run`.
    """
    stack = loader.load(stack_name, site.constraints)
    for name in only:
        stack.project(name)
    wanted = [name for name in stack.build if not only or name in only]
    chosen = [
        (wheel, asked)
        for wheel in index.shelved(site.wheels / stack.name)
        if (asked := current(wheel, stack)) is not None and asked.project in wanted
    ]
    if not chosen:
        raise _nothing(site, stack)
    _require_whole(chosen, stack, wanted)
    signed = {wheel.path: signing.signed_bytes(wheel.path, policies) for wheel, _ in chosen}
    read = _require_proved(site, chosen, stack)

    def ran(wheel: index.ShelvedWheel, asked: Request) -> Container[str]:
        return asked.archs if policies else archs_that_ran(site.store, wheel)

    order = {project: number for number, project in enumerate(stack.build)}
    proved = sorted(
        (
            _proved(wheel, read[wheel.path], signed[wheel.path], ran=ran(wheel, asked))
            for wheel, asked in chosen
        ),
        key=lambda one: (order[one.request.project], one.wheel.path.name),
    )
    if not allow_unrun:
        _require_run(proved)
    return tuple(proved)


def _nothing(site: Site, stack: records.Stack) -> BlackwheelError:
    others = [
        name
        for name in loader.names(site.constraints)
        if name != stack.name and index.shelved(site.wheels / name)
    ]
    fixes = [f"invoke build-wheels --stack {stack.name}"]
    fixes += [f"or publish what is shelved: --stack {' or '.join(others)}"] if others else []
    return BlackwheelError(
        "nothing-to-publish",
        f"no wheel of the current label of stack {stack.name} is on the shelf",
        where=f"wheels/{stack.name}",
        fix="\n".join(fixes),
        code=Exit.INDEX,
    )


def _require_whole(
    chosen: Sequence[tuple[index.ShelvedWheel, Request]],
    stack: records.Stack,
    wanted: Sequence[str],
) -> None:
    """Each Python that has one of the set's wheels must have them all."""
    groups: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for _, asked in chosen:
        groups.setdefault((asked.python, asked.archs), set()).add(asked.project)
    lacks, fixes = [], []
    for (python, archs), found in sorted(groups.items()):
        missing = [project for project in wanted if project not in found]
        if missing:
            lacks.append(f"Python {python}: has {', '.join(sorted(found))}")
            lacks.append(f"Python {python}: lacks {', '.join(missing)}")
            other = f" --arch '{';'.join(archs)}'" if archs != stack.archs else ""
            fixes.append(f"invoke build-wheels --stack {stack.name} --python {python}{other}")
            fixes.append(f"or what is there: --only {','.join(sorted(found))}")
    if lacks:
        raise BlackwheelError(
            "incomplete-set",
            "\n".join([f"stack {stack.name} is published together or not at all", *lacks]),
            where=f"wheels/{stack.name}",
            fix="\n".join(fixes),
            code=Exit.INDEX,
        )


def _require_proved(
    site: Site, chosen: Sequence[tuple[index.ShelvedWheel, Request]], stack: records.Stack
) -> dict[Path, Admitted]:
    """Return each wheel as it was verified; raise `unproved` with all faults of all."""
    done = []
    with site.console.stage(stack.name, f"verify {counted(len(chosen), 'wheel')}") as stage:
        for number, (wheel, asked) in enumerate(chosen):
            stage.update(number, len(chosen), wheel.path.name)
            done.append(admission.examined(site, wheel.path, asked))
    if any(one.faults for one in done):
        raise admission.unproved(
            ["nothing is published: what is not proved stays here"],
            done,
            where=f"wheels/{stack.name}",
            fix=f"invoke verify {stack.name} tells all of it;\n"
            f"invoke build-wheels --stack {stack.name} --again makes the wheel anew",
        )
    return {
        one.path: Admitted(wheel=one.path, receipt=one.receipt, request=asked, bound=one.bound)
        for one, (_, asked) in zip(done, chosen, strict=True)
        if one.receipt is not None
    }


def _proved(
    wheel: index.ShelvedWheel, one: Admitted, signed: bytes, *, ran: Container[str]
) -> Proved:
    """Bind what was signed to the receipt that was verified."""
    asked, receipt = one.request, one.receipt
    if signed:
        signing.require_same(wheel.path, signed, receipt)
    held = receipts.sections(receipt)
    bom = sboms.sbom(receipt, one.bound)
    unrun = tuple(_unrun(asked.archs, held["smoke"].get("kernels"), ran))
    return Proved(wheel=wheel, request=asked, receipt=receipt, unrun=unrun, signed=signed, sbom=bom)


def _unrun(archs: Sequence[str], kernels: Any, ran: Container[str]) -> Iterator[str]:
    """Yield each arch of which smoke says that no kernel ran, says nothing, or alone says it."""
    told = kernels if isinstance(kernels, dict) else {}
    for arch in archs:
        said = str(told.get(arch) or f"{NOT_RUN}: the receipt does not tell")
        if said.startswith(NOT_RUN):
            yield f"{arch}: {said}"
        elif arch not in ran:
            yield f"{arch}: {NOT_RUN} here: the receipt says so, and this store has no record of it"


def _require_run(proved: Sequence[Proved]) -> None:
    facts = [f"{one.wheel.path.name}\n  {text}" for one in proved for text in one.unrun]
    if facts:
        raise BlackwheelError(
            "kernels-not-run",
            "\n".join(["no kernel of these ever ran on the arch it was built for", *facts]),
            where="smoke, in the receipt",
            fix="build where such a GPU is: smoke runs the kernels there;\n"
            "or, knowing that: --allow-unrun-arch",
            code=Exit.SMOKE,
        )
