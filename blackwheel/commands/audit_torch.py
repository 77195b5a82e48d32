"""Shows whether a wheel would link with another torch, and the symbols that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

from blackwheel.audit import audit, environments
from blackwheel.core.errors import Exit
from blackwheel.core.site import Site

SHOWN: Final = 20
"""Symbols of a library that are written out; all of them are in --json."""


def show_links(site: Site, wheels: Sequence[Path], other: audit.Exports, *, as_json: bool) -> int:
    """Show for each wheel whether it would link with another torch, and its missing symbols."""
    documents: list[dict[str, Any]] = []
    for path in wheels:
        requires = environments.requirements(path)
        own = environments.own_exports(requires, site=site)
        links, findings = audit.link_against(path, other, before=own)
        fits = not any(finding.fatal for finding in findings)
        documents.append(
            {
                "path": path,
                "torch": other.torch,
                "links": fits,
                "requires_torch": list(map(str, requires)),
                "libraries": [asdict(one) for one in links],
                "findings": [asdict(one) for one in findings],
            }
        )
        if not as_json:
            site.console.result(f"{path.name} with torch {other.torch}")
            site.console.result("\n".join(link_lines(links, findings, requires)) + "\n")
    if as_json:
        site.console.json(documents)
    return Exit.OK if all(one["links"] for one in documents) else Exit.AUDIT


def link_lines(
    links: Sequence[audit.Links],
    findings: Sequence[audit.Finding],
    requires: Sequence[Requirement],
) -> list[str]:
    """Return the lines about one wheel and another torch."""
    lines: list[str] = []
    for one in links:
        if one.missing:
            lines.append(f"  {one.library}: {_gone(len(one.missing))}")
            lines += [f"    {symbol}" for symbol in sorted(map(str, one.missing))[:SHOWN]]
            if len(one.missing) > SHOWN:
                lines.append(f"    and {len(one.missing) - SHOWN} more; --json has all")
    lines += [
        f"  {'FATAL' if one.fatal else 'note'}  {one}"
        for one in findings
        if one.name != "undefined-symbol"
    ]
    absent = sorted({name for one in links for name in one.elsewhere})
    lost = [len(one.missing) for one in links if one.missing]
    if lost:
        where = _count(len(lost), "library", "libraries")
        lines.append(f"it does not link: {_gone(sum(lost))}, wanted by {where}")
    elif any(one.fatal for one in findings):
        lines.append("it does not link: read what is named above")
    elif absent:
        shown = ", ".join(absent[:SHOWN])
        lines.append(f"every symbol of torch is there; {shown} must come from elsewhere")
    else:
        where = _count(len(links), "library", "libraries")
        lines.append(f"it links: every symbol of {where} is there")
    if not any(one.fatal for one in findings) and requires:
        shown = ", ".join(map(str, requires))
        lines.append(f"its metadata requires {shown}: an installer holds to that, links or not")
    return lines


def _gone(number: int) -> str:
    return f"{_count(number, 'symbol')} {'is' if number == 1 else 'are'} gone"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
