"""Draws audits as one HTML page without scripts, fonts or addresses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from blackwheel.audit.audit import AuditReport, Finding, Library, Links
from blackwheel.core.archs import Arch, from_sm
from blackwheel.core.units import size

KINDS: Final = (
    ("native", "native"),
    ("family", "SASS of the family"),
    ("ptx", "only PTX"),
    ("missing", "nothing that runs there"),
)
"""Fields of KernelCounts, in the order of the bars, and what they are called."""


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

    @property
    def wanted(self) -> str:
        """Text of the wanted archs, such as `12.0a`."""
        return ", ".join(str(arch) for arch in self.archs)


def page(sheets: Sequence[Sheet]) -> str:
    """Return the whole document; every text of a wheel is escaped in it."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    title = sheets[0].report.path.name if len(sheets) == 1 else f"{len(sheets)} wheels"
    body = "\n".join(_wheel(sheet) for sheet in sheets)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Audit of {escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _wheel(sheet: Sheet) -> str:
    report = sheet.report
    with_code = [one for one in report.libraries if not one.host_only]
    host = [one for one in report.libraries if one.host_only]
    verdict = "refused" if report.fatal else "passed"
    parts = [
        f'<main class="{verdict}">',
        f"<h1>{_breakable(report.path.name)}</h1>",
        f'<p class="verdict"><b>{verdict}</b> {escape(sheet.closing)}</p>',
        _facts(sheet),
        _coverage(with_code, sheet),
        _heat(with_code, sheet),
        _libraries(host, report.links),
        _findings(report.findings),
        "</main>",
    ]
    return "\n".join(filter(None, parts))


def _facts(sheet: Sheet) -> str:
    report = sheet.report
    rows = (
        ("size", size(report.size)),
        ("sha256", report.sha256 or "none: there is no file"),
        ("requires", ", ".join(sheet.requires) or "no torch at all"),
        ("symbols", f"looked for in torch {sheet.linked}" if sheet.linked else "not checked"),
        ("counted for", sheet.wanted),
    )
    cells = "".join(f"<dt>{name}</dt><dd>{_breakable(text)}</dd>" for name, text in rows)
    return f"<dl>{cells}</dl>"


def _coverage(libraries: Sequence[Library], sheet: Sheet) -> str:
    """How the kernels serve the wanted archs: one bar a library."""
    readable = [one for one in libraries if not one.unreadable and one.kernels.total]
    if not readable:
        return ""
    legend = "".join(f'<li><i class="{kind}"></i>{name}</li>' for kind, name in KINDS)
    bars = "".join(_bar(one) for one in readable)
    return (
        f"<h2>How the kernels serve {escape(sheet.wanted)}</h2>\n"
        f'<ul class="legend">{legend}</ul>\n<div class="bars">{bars}</div>'
    )


def _bar(library: Library) -> str:
    counts, total = library.kernels, library.kernels.total
    seen = [(kind, name, getattr(counts, kind)) for kind, name in KINDS]
    pieces = "".join(
        f'<i class="{kind}" style="flex-grow:{count}"></i>' for kind, _, count in seen if count
    )
    text = ", ".join(f"{name}: {count}" for _, name, count in seen if count)
    return (
        f'<div class="bar"><b>{_breakable(library.path)}</b><span>{counts.native} of {total}'
        f' native</span><div role="img" aria-label="{escape(text)}" title="{escape(text)}">'
        f"{pieces}</div><small>{escape(text)}</small></div>"
    )


def _heat(libraries: Sequence[Library], sheet: Sheet) -> str:
    """Libraries by archs: how many kernels have SASS of each, darker for a larger share."""
    if not libraries:
        return ""
    names = {name for one in libraries for name, _ in (*one.kernels_by_arch, *one.elf_archs)}
    wanted = {arch.sm for arch in sheet.archs}
    columns = sorted(names | wanted, key=from_sm)
    head = "".join(f'<th scope="col"{_mark(name in wanted)}>{name}</th>' for name in columns)
    bonds = {one.library: one for one in sheet.report.links}
    rows = "".join(_row(one, columns, wanted, bonds.get(one.path)) for one in libraries)
    return (
        "<h2>Kernels by library and arch</h2>\n<p>Kernels with SASS of each arch; a darker field is"
        " a larger share of the library's kernels. PTX is counted in pieces of code.</p>\n"
        f'<div class="heat"><table><thead><tr><th scope="col">library</th>{head}'
        f'<th scope="col">PTX</th><th scope="col">kernels</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _mark(wanted: bool) -> str:
    return ' class="wanted"' if wanted else ""


def _row(library: Library, columns: Sequence[str], wanted: set[str], bond: Links | None) -> str:
    about = _about(library, bond)
    title = f'<th scope="row">{_breakable(library.path)}<small>{escape(about)}</small></th>'
    if library.unreadable:
        text = f"unreadable: {library.unreadable}"
        return f'<tr>{title}<td class="text" colspan="{len(columns) + 2}">{escape(text)}</td></tr>'
    total = max(1, library.kernels.total)
    kernels = dict(library.kernels_by_arch)
    cells = "".join(_cell(name, kernels.get(name, 0), total, name in wanted) for name in columns)
    ptx = ", ".join(f"<span>{count} x {name}</span>" for name, count in library.ptx_archs)
    kind = "text ptx" if ptx else "none"
    cells += f'<td class="{kind}" data-arch="PTX">{ptx or "&middot;"}</td>'
    return (
        f'<tr>{title}{cells}<td class="text" data-arch="kernels">{library.kernels.total}</td></tr>'
    )


def _cell(arch: str, count: int, total: int, wanted: bool) -> str:
    """One field of the map; one kernel may lie there twice, in two pieces of code."""
    classes = " ".join(filter(None, ("wanted" * wanted, "none" * (count == 0))))
    share = min(100, round(100 * count / total))
    return (
        f'<td class="{classes}" data-arch="{arch}" style="--share:{share}%">'
        f"{count or ('0' if wanted else '&middot;')}</td>"
    )


def _about(library: Library, bond: Links | None) -> str:
    words = [size(library.size)]
    if bond:
        words.append(f"torch: {bond.torch}")
        words += [f"glibc {bond.glibc}"] if bond.glibc else []
    return ", ".join(words)


def _libraries(host: Sequence[Library], links: Iterable[Links]) -> str:
    if not host:
        return ""
    bonds = {one.library: one for one in links}
    rows = "".join(
        f"<li>{_breakable(one.path)} <small>{escape(_about(one, bonds.get(one.path)))}</small></li>"
        for one in host
    )
    return f"<h2>Host code only</h2>\n<ul class='plain'>{rows}</ul>"


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<h2>Findings</h2>\n<p>none</p>"
    rows = "".join(_finding(one) for one in sorted(findings, key=lambda one: not one.fatal))
    return f"<h2>Findings</h2>\n<ul class='findings'>{rows}</ul>"


def _finding(finding: Finding) -> str:
    kind = "fatal" if finding.fatal else "note"
    place = f"<code>{_breakable(finding.library)}</code> " if finding.library else ""
    return (
        f'<li class="{kind}"><b>{kind}: {escape(finding.name)}</b> {place}'
        f"<span>{escape(finding.fact)}</span></li>"
    )


def _breakable(text: str) -> str:
    """Escaped, and a browser may break the line after each part of a name or path."""
    return "".join(_parts(text))


def _parts(text: str) -> Iterator[str]:
    for letter in text:
        yield escape(letter)
        if letter in "/-_+.":
            yield "<wbr>"
