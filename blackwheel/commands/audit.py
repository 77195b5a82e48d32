"""Shows the audit of any wheel as a table, JSON or a page (`invoke audit`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

from blackwheel.audit import audit, environments, installed, on_card
from blackwheel.audit.metadata import Expected
from blackwheel.audit.page import Sheet, page
from blackwheel.audit.verdict import closing, for_card
from blackwheel.commands import audit_table
from blackwheel.commands.audit_verdict import Judged, builders, verdict
from blackwheel.core import archs, cards
from blackwheel.core.archs import Arch
from blackwheel.core.cards import Card
from blackwheel.core.errors import BlackwheelError, Exit, nearest
from blackwheel.core.site import Site
from blackwheel.receipts.beside import key_section
from blackwheel.shelf import index
from blackwheel.stacks import loader, records
from blackwheel.stacks.ask import requests
from blackwheel.stacks.request import left_out

ARCH: Final = "12.0a"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A wheel to audit, and the expectation of its stack."""

    path: Path
    expected: Expected | None = None
    """None for a wheel that belongs to no stack."""


def show_audit(
    site: Site,
    what: str | Sequence[str],
    *,
    arch: str = "",
    gpu: str = "",
    torch: str = "",
    html: str = "",
    as_json: bool = False,
    strict: bool = False,
    load: bool = False,
) -> int:
    """Audit wheel files, folders of wheels, a stack's shelf, NAME==VERSION, or an environment.

    What nobody here built is told by how it serves the card: `gpu`, else the one of this machine,
    else 12.0a. Then the exit code is `Exit.AUDIT` only for what no installer or loader takes, or
    if `strict` where none of a stack's own may be so; with `torch`, where one would not link there.
    `torch` may name several, and with `load` the libraries are loaded there, too.
    """
    whats = [what] if isinstance(what, str) else list(what)
    target = _page_file(html)
    card = asked_card(site, gpu, arch)
    if len(whats) == 1 and (places := installed.folders(Path(whats[0]).expanduser())):
        if torch or load or target:
            raise _refused(
                "usage",
                "--html, --torch and --load are for wheels, not for an environment",
                "invoke audit",
                f"invoke audit {whats[0]}",
            )
        from blackwheel.commands import audit_environment

        return audit_environment.show(site, whats[0], places, card, as_json=as_json, strict=strict)
    wanted = card.archs if arch or gpu else ()
    spoken = arch or ",".join(map(str, wanted))
    subjects = [one for each in whats for one in subjects_of(site, each, arch=spoken)]
    words: list[str] = []
    if torch:
        from blackwheel.commands import audit_torch

        words = audit_torch.torches(site, torch)
    if words and target is None:
        paths = [one.path for one in subjects]
        return audit_torch.show_links(site, paths, words, load=load, as_json=as_json)
    if load or len(words) > 1:
        raise _refused(
            "usage",
            "a page is drawn for one torch at most, and loads nothing"
            if words
            else "--load loads libraries beside a torch, and none is named",
            "--torch" if words else "--load",
            "without --html: --torch 2.11.0,2.13.0 --load",
        )
    places = [environments.environment_of(word, site=site) for word in words]
    other = environments.exports_in(places[0], site=site) if places else None
    sheets = [_sheet(site, one, wanted, card, other, strict=strict) for one in subjects]
    if target is not None:
        target.write_text(page(sheets), encoding="utf-8")
        site.console.say(f"wrote {target}")
    if as_json:
        wheels, last = [_document(sheet) for sheet in sheets], _verdict(site, card, sheets)
        site.console.document("audit", verdict=last, wheels=wheels)
    elif len(sheets) > 1:
        audit_table.show_several(site.console, sheets, _verdict(site, card, sheets))
    else:
        audit_table.show_one(site.console, sheets[0])
    return Exit.AUDIT if any(sheet.report.fatal for sheet in sheets) else Exit.OK


def asked_card(site: Site, gpu: str, arch: str = "") -> Card:
    """Return the card that counts: the one named, that of this machine, or 12.0a."""
    if arch and gpu:
        raise _refused("usage", "both --gpu and --arch say what to count", "--arch", "--gpu alone")
    if arch:
        return Card(title="", archs=archs.parse_list(arch))
    if gpu:
        return cards.card(gpu)
    from blackwheel.doctor import machine_checks

    return machine_checks.card(site.environment) or Card(
        title="RTX 50 and RTX PRO Blackwell", archs=archs.parse_list(ARCH)
    )


def _refused(name: str, fact: str, where: str, fix: str) -> BlackwheelError:
    return BlackwheelError(name, fact, where=where, fix=fix, code=Exit.USAGE)


def subjects_of(site: Site, what: str, *, arch: str = "") -> list[Subject]:
    """Find the wheels that WHAT names; raise `no-wheel` and errors of stacks and registry."""
    path = Path(what)
    if path.is_dir():
        found = [Subject(path=file) for file in sorted(path.rglob("*.whl"))]
    elif path.suffix == ".whl":
        found = [Subject(path=path)] if path.is_file() else []
    elif "==" in what:
        found = [Subject(path=_registry_wheel(site, what))]
    elif what not in (known := loader.names(site.constraints)):
        raise _refused(
            "unknown-subject",
            f"'{what}' is no file or folder here, no NAME==VERSION,"
            f" and no stack{nearest(what, known)}",
            "invoke audit",
            "a wheel file, the folder of an environment, NAME==VERSION of a registry,"
            f" or a stack: {', '.join(known)}",
        )
    else:
        stack = loader.load(what, site.constraints)
        found = [_shelved(site, stack, one, arch) for one in index.shelved(site.wheels / what)]
    if not found:
        raise BlackwheelError(
            "no-wheel",
            f"there is no wheel in '{what}'",
            where="invoke audit",
            fix=f"invoke build-wheels --stack {what}"
            if what in loader.names(site.constraints)
            else "name a wheel file, a folder with wheels, an environment, a stack,"
            " or NAME==VERSION",
            code=Exit.USAGE,
        )
    return found


def _registry_wheel(site: Site, what: str) -> Path:
    # Imported here: an index costs 0.3 s of imports, and most audits ask none.
    from blackwheel.sources import package_index

    name, version = package_index.named(what)
    return package_index.wheel_of(name, version, site=site)


def _shelved(site: Site, stack: records.Stack, wheel: index.ShelvedWheel, arch: str) -> Subject:
    """Hold a wheel of the shelf to its stack, as the build did; `arch` other than built is asked.

    A wheel that the stack builds no more is looked at like any other.
    """
    try:
        project = stack.named(wheel.project)
    except BlackwheelError:
        return Subject(path=wheel.path)
    built = key_section(wheel.receipt).get("parts", {})
    python = built.get("python", stack.python[0])
    (request,), _ = requests(
        site,
        stack.name,
        only=[project],
        arch=built.get("archs", ""),
        python=python,
        without=left_out(built),
    )
    expected = audit.expectation(request)
    if arch:
        expected = replace(expected, archs=archs.parse_list(arch))
    return Subject(path=wheel.path, expected=expected)


def _sheet(
    site: Site,
    subject: Subject,
    asked: Sequence[Arch],
    card: Card,
    other: audit.Exports | None,
    *,
    strict: bool = False,
) -> Sheet:
    """Audit one wheel, in the torch it was asked for or one that the store has of its own."""
    expected, path = subject.expected, subject.path
    foreign = expected is None and not strict
    wanted = tuple(asked) or (expected.archs if expected else card.archs)
    requires = environments.requirements(path)
    own = environments.own_exports(requires, site=site)
    exports = other or own
    with site.console.stage(_name(path), f"audit {path.name}"):
        report = audit.inspect(
            path,
            archs=wanted,
            exports=exports,
            before=own if other else None,
            expected=expected,
            strict=strict,
        )
    uncalled = audit_table.uncalled(site, _name(path), wanted)
    device = [one for one in report.libraries if not one.host_only]
    state = on_card.state(device, uncalled) if foreign else ""
    if foreign:
        judged = _judged(site, report, state, wanted)
        lines = (
            *for_card(report, card, requires, uncalled=uncalled),
            verdict(site, card, [judged]),
        )
    else:
        lacks = any(one.kernels.native < one.kernels.total for one in report.libraries)
        buildable = lacks and bool(builders(site, _name(path), ""))
        lines = (closing(report, wanted, requires, buildable=buildable),)
    return Sheet(
        report=report,
        archs=wanted,
        requires=tuple(map(str, requires)),
        linked=exports.torch if exports else "",
        closing="\n".join(lines),
        card=card if foreign else None,
        state=state,
    )


def _verdict(site: Site, card: Card, sheets: Sequence[Sheet]) -> str:
    """Return the last line about all wheels; that of a single one is there already."""
    if len(sheets) == 1:
        return sheets[0].verdict[-1]
    judged = [_judged(site, one.report, one.state, one.archs) for one in sheets]
    return verdict(site, card, judged)


def _judged(site: Site, report: audit.AuditReport, state: str, wanted: Sequence[Arch]) -> Judged:
    name = _name(report.path)
    return Judged(
        name=name,
        version=[*report.path.name.split("-"), ""][1],
        state=state,
        libraries=[one for one in report.libraries if not one.host_only],
        uncalled=audit_table.uncalled(site, name, wanted),
        broken=report.fatal[0].name if report.fatal else "",
    )


def _name(path: Path) -> str:
    return canonicalize_name(path.name.partition("-")[0])


def _document(sheet: Sheet) -> dict[str, Any]:
    """The report as it always was in JSON, and beside it what only the sheet knows."""
    return {
        **sheet.report.document(),
        "archs": [str(arch) for arch in sheet.archs],
        "requires_torch": list(sheet.requires),
        "symbols_looked_for_in": sheet.linked,
        "closing": sheet.closing,
        "card": str(sheet.card) if sheet.card else None,
        "state": sheet.state or None,
    }


def _page_file(html: str) -> Path | None:
    """Where the page goes; raise `no-folder` before an audit is spent on it."""
    if not html:
        return None
    path = Path(html).absolute()
    if path.is_dir() or not path.parent.is_dir():
        raise BlackwheelError(
            "no-folder",
            f"{path} is a folder" if path.is_dir() else f"there is no folder {path.parent}",
            where="--html",
            fix="--html audit.html",
            code=Exit.USAGE,
        )
    return path
