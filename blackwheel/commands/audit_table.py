"""Writes the audits of wheels as tables: one wheel in full, several in a row each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from blackwheel.audit import audit, on_card, summary, torch_abi
from blackwheel.audit.kernels import KernelCounts
from blackwheel.audit.page import Sheet
from blackwheel.core.archs import Arch
from blackwheel.core.console import Console
from blackwheel.core.plain_text import one_line
from blackwheel.core.site import Site
from blackwheel.core.units import size
from blackwheel.stacks import projects


def counted(counts: KernelCounts) -> tuple[str, ...]:
    """Return the cells of the columns of `on_card.HEADS`."""
    each = (getattr(counts, name) for name in on_card.WAYS)
    return tuple(f"{count:,}" if count else "-" for count in each)


def uncalled(site: Site, name: str, wanted: Sequence[Arch]) -> on_card.Uncalled:
    """Return the question why nothing calls a library of this distribution on these archs."""
    known = projects.load(site.checkout / "patches", name)
    return lambda path: known.uncalled(path, wanted)


def show_several(console: Console, sheets: Sequence[Sheet], verdict: str) -> None:
    """Write one table of all, the fatal findings of each, and the verdict."""
    rows = []
    for sheet in sheets:
        device = [one for one in sheet.report.libraries if not one.host_only]
        state = "refused" if sheet.report.fatal else sheet.state or "as its stack wants it"
        name, version, *tags = sheet.report.path.name.split("-")
        counts = counted(on_card.tally(device))
        python = one_line(tags[0] if tags else "")
        rows.append((one_line(f"{name} {version}"), python, *counts, state))
    titles = list(dict.fromkeys(str(sheet.card or sheet.wanted) for sheet in sheets))
    console.table(
        f"kernels that run on {'; '.join(titles)}",
        ("wheel", "python", *on_card.HEADS, "runs"),
        rows,
    )
    for sheet in sheets:
        for finding in sheet.report.fatal:
            console.result(f"FATAL  {one_line(sheet.report.path.name)}: {finding}")
    console.prose(f"each in full: invoke audit WHEEL\n{verdict}\n")


def show_one(console: Console, sheet: Sheet) -> None:
    """Write one wheel's table, findings and verdict."""
    report = sheet.report
    title = f"{one_line(report.path.name)}  {size(report.size)}  sha256 {report.sha256}"
    if sheet.card:
        _show_served(console, title, sheet)
    else:
        _show_held(console, title, sheet)
    if report.files:
        shown = ", ".join(f"{count:,} {kind}" for kind, count in report.files)
        console.result(f"files: {shown}")
    for finding in report.findings:
        if finding.fatal or not sheet.card:
            console.result(f"{'FATAL' if finding.fatal else 'note'}  {finding}")
    notes = Counter(one.name for one in report.findings if not one.fatal)
    del notes["not-native"]  # the table says it
    if sheet.card and notes:
        shown = ", ".join(name + (f" ({n})" if n > 1 else "") for name, n in notes.items())
        console.result(f"notes: {shown}; --html and --json tell each")
    if sheet.linked:
        console.result(f"symbols: looked for in torch {sheet.linked}")
    elif report.libraries:
        console.result("symbols: not checked, no torch that it requires is here; --torch does")
    console.prose(f"{sheet.closing}\n")


def _show_served(console: Console, title: str, sheet: Sheet) -> None:
    """Write how the kernels of a wheel that nobody here built serve the card."""
    device = [one for one in summary.rows(sheet.report.libraries) if not one.host_only]
    rows = [
        (one.path, *(("unreadable",) if not one.kernels.total else counted(one.kernels)))
        for one in device
    ]
    cells = 1 + len(on_card.HEADS)
    if rows:
        columns = ("library", *on_card.HEADS)
        console.table(title, columns, [(*row, *[""] * (cells - len(row))) for row in rows])
    else:
        console.result(title)
    host = len(sheet.report.libraries) - sum(not one.host_only for one in sheet.report.libraries)
    if host:
        console.result(f"host code only: {host:,} more librar{'y' if host == 1 else 'ies'}")
    bonds = Counter(str(one) for one in sheet.report.abi)
    if set(bonds) - {torch_abi.NONE, "none"}:
        shown = ", ".join(f"{bond} ({count})" for bond, count in bonds.most_common())
        console.result(f"bound to torch: {shown}")


def _show_held(console: Console, title: str, sheet: Sheet) -> None:
    """Write the libraries of a stack's own wheel as the contract holds them."""
    report = sheet.report
    abi = {one.library: one for one in report.abi}
    glibc = {one.library: one.glibc for one in report.links}
    columns = ["library", "size", f"native {sheet.wanted}", "all kernels"]
    columns += ["torch"] if any(one.bond != torch_abi.NONE for one in report.abi) else []
    columns += ["glibc"] if glibc else []
    rows = [
        (one.path, size(one.size), *_kernels(one), *_bound(one.path, abi, glibc, columns))
        for one in summary.rows(report.libraries)
    ]
    console.table(title, columns, rows)


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
