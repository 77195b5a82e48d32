"""Shows the audit of any wheel as a table, JSON or a page (`invoke audit`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

from blackwheel.audit import audit, environments, summary, torch_abi
from blackwheel.audit.metadata import Expected
from blackwheel.audit.page import Sheet, page
from blackwheel.audit.verdict import closing
from blackwheel.commands import audit_torch
from blackwheel.core import archs
from blackwheel.core.archs import Arch
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.plain_text import one_line
from blackwheel.core.site import Site
from blackwheel.core.units import size
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
    what: str,
    *,
    arch: str = "",
    torch: str = "",
    html: str = "",
    as_json: bool = False,
    strict: bool = False,
    load: bool = False,
) -> int:
    """Audit a wheel file, a folder's wheels, a stack's shelf, or NAME==VERSION of the registry.

    The exit code is `Exit.AUDIT` where a finding is fatal or, with `torch`, where one would not
    link there; `torch` may name several, and with `load` the libraries are loaded there, too. A
    wheel of no stack is fatal where no installer or loader takes it, or if `strict` where none of
    a stack's own may be so.
    """
    target = _page_file(html)
    wanted = archs.parse_list(arch) if arch else ()
    subjects = subjects_of(site, what, arch=arch)
    words = audit_torch.torches(site, torch) if torch else []
    if words and target is None:
        paths = [one.path for one in subjects]
        return audit_torch.show_links(site, paths, words, load=load, as_json=as_json)
    if load or len(words) > 1:
        raise BlackwheelError(
            "usage",
            "a page is drawn for one torch at most, and loads nothing"
            if words
            else "--load loads libraries beside a torch, and none is named",
            where="--torch" if words else "--load",
            fix="without --html: --torch 2.11.0,2.13.0 --load",
            code=Exit.USAGE,
        )
    places = [environments.environment_of(word, site=site) for word in words]
    other = environments.exports_in(places[0], site=site) if places else None
    sheets = [_sheet(site, one, wanted, other, strict=strict) for one in subjects]
    if target is not None:
        target.write_text(page(sheets), encoding="utf-8")
        site.console.say(f"wrote {target}")
    if as_json:
        site.console.json([_document(sheet) for sheet in sheets])
    else:
        for sheet in sheets:
            _show(site, sheet)
    return Exit.AUDIT if any(sheet.report.fatal for sheet in sheets) else Exit.OK


def subjects_of(site: Site, what: str, *, arch: str = "") -> list[Subject]:
    """Find the wheels that WHAT names; raise `no-wheel` and errors of stacks and registry."""
    path = Path(what)
    if path.is_dir():
        found = [Subject(path=file) for file in sorted(path.rglob("*.whl"))]
    elif path.suffix == ".whl":
        found = [Subject(path=path)] if path.is_file() else []
    elif "==" in what:
        found = [Subject(path=_registry_wheel(site, what))]
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
            else "name a wheel file, a folder with wheels, a stack, or NAME==VERSION",
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
    other: audit.Exports | None,
    *,
    strict: bool = False,
) -> Sheet:
    """Audit one wheel, in the torch it was asked for or one that the store has of its own."""
    expected, path = subject.expected, subject.path
    wanted = tuple(asked) or (expected.archs if expected else archs.parse_list(ARCH))
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
    return Sheet(
        report=report,
        archs=wanted,
        requires=tuple(map(str, requires)),
        linked=exports.torch if exports else "",
        closing=closing(report, wanted, requires, buildable=_name(path) in _buildable(site)),
    )


def _buildable(site: Site) -> set[str]:
    """Return the distributions that a stack of this checkout builds; a broken stack builds none."""
    found: set[str] = set()
    for name in loader.names(site.constraints):
        with contextlib.suppress(BlackwheelError):
            stack = loader.load(name, site.constraints)
            found |= {stack.distribution(project) for project in stack.build}
    return found


def _name(path: Path) -> str:
    return canonicalize_name(path.name.partition("-")[0])


def _show(site: Site, sheet: Sheet) -> None:
    """Write one wheel's table, findings and closing sentence."""
    report = sheet.report
    title = f"{one_line(report.path.name)}  {size(report.size)}  sha256 {report.sha256}"
    abi = {one.library: one for one in report.abi}
    glibc = {one.library: one.glibc for one in report.links}
    columns = ["library", "size", f"native {sheet.wanted}", "all kernels"]
    columns += ["torch"] if any(one.bond != torch_abi.NONE for one in report.abi) else []
    columns += ["glibc"] if glibc else []
    rows = [
        (one.path, size(one.size), *_kernels(one), *_bound(one.path, abi, glibc, columns))
        for one in summary.rows(report.libraries)
    ]
    site.console.table(title, columns, rows)
    if report.files:
        shown = ", ".join(f"{count:,} {kind}" for kind, count in report.files)
        site.console.result(f"files: {shown}")
    for finding in report.findings:
        site.console.result(f"{'FATAL' if finding.fatal else 'note'}  {finding}")
    if sheet.linked:
        site.console.result(f"symbols: looked for in torch {sheet.linked}")
    elif report.libraries:
        site.console.result("symbols: not checked, no torch that it requires is here; --torch does")
    site.console.result(f"{sheet.closing}\n")


def _kernels(library: audit.Library) -> tuple[str, str]:
    if library.unreadable and not library.kernels.total:
        return "unreadable", library.unreadable
    if library.host_only:
        return "", "host code only"
    count = library.kernels
    shown = ", ".join(f"{n} {a}" for a, n in library.kernels_by_arch)
    ptx = ", ".join(f"{n} x PTX {a}" for a, n in library.ptx_archs)
    unread = ", ".join(f"{n} unreadable {a}" for a, n in library.unread_archs)
    unread = unread or ("some unreadable" if library.unreadable else "")
    return f"{count.native} of {count.total}", ", ".join(filter(None, (shown, ptx, unread)))


def _bound(
    path: str, abi: Mapping[str, audit.TorchAbi], glibc: Mapping[str, str], columns: Sequence[str]
) -> Iterator[str]:
    """The columns torch and glibc, where there are any."""
    if "torch" in columns:
        yield str(abi.get(path, ""))
    if "glibc" in columns:
        yield glibc.get(path, "")


def _document(sheet: Sheet) -> dict[str, Any]:
    """The report as it always was in JSON, and beside it what only the sheet knows."""
    return {
        **asdict(sheet.report),
        "archs": [str(arch) for arch in sheet.archs],
        "requires_torch": list(sheet.requires),
        "symbols_looked_for_in": sheet.linked,
        "closing": sheet.closing,
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
