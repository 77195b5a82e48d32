"""Sums up an audit in one sentence: whether a build of one's own is needed."""

from __future__ import annotations

from collections.abc import Sequence

from packaging.requirements import Requirement

from blackwheel.audit import audit, contract, on_card
from blackwheel.audit.metadata import accepts_one
from blackwheel.core.archs import Arch, from_sm
from blackwheel.core.cards import Card


def closing(
    report: audit.AuditReport,
    wanted: Sequence[Arch],
    requires: Sequence[Requirement],
    *,
    buildable: bool = True,
) -> str:
    """Answer "need I build at all?" in one sentence; `buildable`: a stack here builds it."""
    refused = [one for one in report.fatal if one.name != "torch-not-pinned"]
    if not report.libraries and refused:
        return f"Nothing of it can be used: {refused[0].name}."
    device = [one for one in report.libraries if not one.host_only]
    names = ", ".join(map(str, wanted))
    taken = accepts(requires)
    unread = [one for one in device if one.unreadable]
    lost = [one for one in unread if not _told(one, wanted)]
    if lost:
        return (
            f"Whether it serves {names} cannot be told: {len(lost)} of its libraries cannot"
            f" be read; it {taken}."
        )
    total = sum(one.kernels.total for one in device)
    if not total and not unread:
        return f"It holds no kernels, so there is nothing to build for {names}; it {taken}."
    return _need(report, names, taken, requires, buildable=buildable)


def for_card(
    report: audit.AuditReport,
    card: Card,
    requires: Sequence[Requirement],
    *,
    uncalled: on_card.Uncalled,
) -> tuple[str, ...]:
    """Say line by line how a wheel that nobody here built serves a card."""
    if not report.libraries and report.fatal:
        return (f"Nothing of it can be used: {report.fatal[0].name}.",)
    device = [one for one in report.libraries if not one.host_only]
    return (*on_card.lines(device, card, uncalled), f"It {accepts(requires)}.")


def _told(library: audit.Library, wanted: Sequence[Arch]) -> bool:
    """Tell whether the headers of what cannot be read say that it runs on none of these anyway."""
    archs = [from_sm(name) for name, _ in library.unread_archs]
    return bool(archs) and not any(one.runs_on(arch) for one in archs for arch in wanted)


def _need(
    report: audit.AuditReport,
    names: str,
    taken: str,
    requires: Sequence[Requirement],
    *,
    buildable: bool,
) -> str:
    """Say how the kernels serve the archs of these names, and what follows from it."""
    device = [one for one in report.libraries if not one.host_only]
    total = sum(one.kernels.total for one in device)
    native = sum(one.kernels.native for one in device)
    pieces = sum(count for one in device for _, count in one.unread_archs)
    lacks = any(
        one.name == "not-native" and contract.ALLOWED not in one.fact for one in report.findings
    )
    if native == total:
        need = f"All {total} kernels are native {names}"
    elif lacks:
        others = on_card.others(on_card.tally(device))
        need = f"{native} of {total} kernels are native {names} ({others})"
    else:
        need = f"{native} of {total} kernels are native {names}, and the stack allows the others"
    if pieces:
        need += f", {pieces:,} pieces that cannot be read are not compiled for it"
    need += f", and it {taken}: "
    if lacks:
        return need + ("build your own for native kernels." if buildable else "no stack builds it.")
    if report.fatal and any(one.name != "torch-not-pinned" for one in report.fatal):
        return need + "but read the findings before you use it."
    pinned = not requires or (len(requires) == 1 and accepts_one(requires[0]))
    return need + ("you need not build." if pinned else "you need not build, but pin torch.")


def accepts(requires: Sequence[Requirement]) -> str:
    """Say which torch a wheel takes."""
    if not requires:
        return "names no torch"
    shown = ", ".join(map(str, requires))
    if len(requires) == 1 and accepts_one(requires[0]):
        return f"accepts only {shown}"
    exact = len(requires) == 1 and [one.operator for one in requires[0].specifier] == ["=="]
    return f"accepts any build of {shown}" if exact else f"accepts more than one torch ({shown})"
