"""Draws audits as one page without addresses: how the kernels of each wheel run on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blackwheel.audit import on_card
from blackwheel.audit.audit import AuditReport, Library, Links
from blackwheel.audit.summary import rows
from blackwheel.core.archs import Arch, from_sm
from blackwheel.core.cards import Card, cards
from blackwheel.pages.render import render


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """One wheel's report, with the archs and requirements that a reader looks for."""

    report: AuditReport
    archs: tuple[Arch, ...]
    """Those that kernels are counted against."""
    requires: tuple[str, ...]
    """What it requires of torch: none, or `torch==2.11.0`."""
    linked: str
    """The torch that its symbols were looked for in; empty where none was here."""
    closing: str
    """Need I build at all?"""
    card: Card | None = None
    """Of a wheel that nobody here built: the card that the reader asks for."""
    state: str = ""
    """How it runs on that card, in two or three words; of a stack's own wheel empty."""

    @property
    def verdict(self) -> list[str]:
        """Lines of the closing words."""
        return self.closing.splitlines() or [""]

    @property
    def tone(self) -> str:
        """Class of its section, which gives the verdict its colour."""
        if self.report.fatal:
            return "refused"
        return "passed" if self.state in on_card.WELL else "partly"

    @property
    def wanted(self) -> str:
        """Text of the wanted archs, such as `12.0a`."""
        return ", ".join(str(arch) for arch in self.archs)

    @property
    def cards(self) -> str:
        """Names of the GPUs with the wanted archs."""
        return "; ".join(dict.fromkeys(cards(arch) for arch in self.archs))

    @property
    def device(self) -> tuple[Library, ...]:
        """Libraries with device code; those that are alike are one."""
        return tuple(one for one in rows(self.report.libraries) if not one.host_only)

    @property
    def host(self) -> tuple[Library, ...]:
        """Libraries without device code."""
        return tuple(one for one in rows(self.report.libraries) if one.host_only)

    @property
    def columns(self) -> tuple[str, ...]:
        """Archs of all device code, and the wanted ones: `sm_80`, `sm_120a`."""
        pairs = ((*one.kernels_by_arch, *one.elf_archs) for one in self.device)
        names = {name for each in pairs for name, _ in each} | {arch.sm for arch in self.archs}
        return tuple(sorted(names, key=from_sm))

    @property
    def bonds(self) -> dict[str, Links]:
        """Torch and glibc of each library, by its path."""
        return {one.library: one for one in self.report.links}


def page(sheets: Sequence[Sheet], crumbs: Sequence[tuple[str, str]] = ()) -> str:
    """Return the whole page; every text of a wheel is escaped in it."""
    title = sheets[0].report.path.name if len(sheets) == 1 else f"{len(sheets)} wheels"
    heads = {"title": f"Audit of {title}", "crumbs": crumbs, "here": "Audit"}
    return render("audit", **heads, sheets=sheets, kinds=on_card.WAYS)
