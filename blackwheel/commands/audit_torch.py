"""Shows with which torches a wheel would link, and the symbols that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from blackwheel.audit import audit, environments, torch_abi
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.receipts.beside import key_section, receipt_path
from blackwheel.smoke import loading
from blackwheel.stacks import loader

SHOWN: Final = 20
"""Symbols of a library that are written out; all of them are in --json."""
ALL: Final = "all"
_MOST: Final = 12
"""Torches in one question: each may be gigabytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One wheel beside one torch."""

    exports: audit.Exports
    links: tuple[audit.Links, ...]
    findings: tuple[audit.Finding, ...]
    loads: dict[str, str] = field(default_factory=dict)
    """By library: `loads`, or what the loader said; empty where nobody asked it to be loaded."""

    @property
    def fits(self) -> bool:
        """Every symbol is there, and the loader refused no library."""
        linked = not any(finding.fatal for finding in self.findings)
        return linked and not any(map(loading.went_wrong, self.loads.values()))

    def cell(self, library: str) -> str:
        """Return the table's words about one library beside this torch."""
        (one,) = [link for link in self.links if link.library == library]
        if one.missing:
            return _gone(len(one.missing))
        linked = "links, but for what comes from elsewhere" if one.elsewhere else "links"
        return self.loads.get(library) or linked


def torches(site: Site, words: str) -> list[str]:
    """Return the environments and versions that `--torch` names; `all`: those of the stacks.

    Raises `unknown-torch` for too many.
    """
    named = [word.strip() for word in words.split(",") if word.strip()]
    if named == [ALL]:
        stacks = [loader.load(name, site.constraints) for name in loader.names(site.constraints)]
        found = {one.torch.version for one in stacks if one.torch.source == "registry"}
        named = sorted({str(Version(version).public) for version in found}, key=Version)
    if not 1 <= len(named) <= _MOST:
        raise BlackwheelError(
            "unknown-torch",
            f"{len(named)} torches are named, and one to {_MOST} can be",
            where="--torch",
            fix="--torch 2.11.0,2.13.0",
            code=Exit.USAGE,
        )
    return list(dict.fromkeys(named))


def show_links(
    site: Site, wheels: Sequence[Path], words: Sequence[str], *, load: bool, as_json: bool
) -> int:
    """Show for each wheel whether it would link with other torches, and its missing symbols.

    `words` are environments or versions of torch. With `load` its libraries are loaded there too,
    each in a process of its own: that runs their code.
    """
    places = [environments.environment_of(word, site=site) for word in words]
    documents: list[dict[str, Any]] = []
    for path in wheels:
        beside = _beside(site, path)
        others = [environments.exports_in(place, site=site, beside=beside) for place in places]
        requires = environments.requirements(path)
        own = environments.own_exports(requires, site=site)
        found, abi = audit.link_with(path, others, before=own)
        tried = [
            Tried(
                exports=other,
                links=links,
                findings=findings,
                loads=loading.try_loading(site, path, place / "bin" / "python") if load else {},
            )
            for other, place, (links, findings) in zip(others, places, found, strict=True)
        ]
        documents.append(_document(path, requires, tried, abi))
        if not as_json:
            _show(site, path, requires, tried, abi)
    if as_json:
        site.console.document("audit-torch", wheels=documents)
    return Exit.OK if all(one["links"] for one in documents) else Exit.AUDIT


def _beside(site: Site, wheel: Path) -> tuple[str, ...]:
    """Return the libraries that a wheel of a stack here has loaded before its own."""
    stack, _, project = key_section(receipt_path(wheel)).get("slug", "").partition("/")
    if stack not in loader.names(site.constraints):
        return ()
    pin = loader.load(stack, site.constraints).projects.get(project.partition("/")[0])
    return pin.beside if pin else ()


def promise(one: torch_abi.TorchAbi, tried: Sequence[Tried]) -> str:
    """Return the promise for a library: `stable from X` only where it was loaded at both ends.

    Both ends are the oldest and the newest torch that was asked for; the oldest must be X or newer.
    """
    if one.bond != torch_abi.STABLE:
        return str(one)
    versions = {_version(each): each for each in tried}
    served = {v: each for v, each in versions.items() if v >= Version(one.since)}
    bad = [str(v) for v, each in sorted(served.items()) if not _good(each, one.library)]
    if bad:
        return f"unknown: it should serve {one.since} and later, and not {', '.join(bad)}"
    seen = [v for v, each in served.items() if loading.went_well(each.loads.get(one.library, ""))]
    if len(seen) > 1 and {min(served), max(served)} <= set(seen):
        return f"{one}, loaded beside {min(seen)} and {max(seen)}"
    return f"{one} by its symbols, not loaded beside two"


def _good(tried: Tried, library: str) -> bool:
    (one,) = [link for link in tried.links if link.library == library]
    return not one.missing and not loading.went_wrong(tried.loads.get(library, ""))


def _version(tried: Tried) -> Version:
    try:
        return Version(Version(tried.exports.torch).public)
    except InvalidVersion:
        return Version("0")


def _document(
    path: Path,
    requires: Sequence[Requirement],
    tried: Sequence[Tried],
    abi: Sequence[torch_abi.TorchAbi],
) -> dict[str, Any]:
    """One wheel in JSON; beside a single torch in the form that it always had."""
    rows = [
        {
            "torch": one.exports.torch,
            "links": one.fits,
            "libraries": [asdict(each) for each in one.links],
            "findings": [asdict(each) for each in one.findings],
            "loads": one.loads,
        }
        for one in tried
    ]
    return {
        "path": path,
        **rows[0],
        "links": all(one.fits for one in tried),
        "requires_torch": list(map(str, requires)),
        "torch_abi": [{**asdict(one), "verdict": promise(one, tried)} for one in abi],
        "torches": rows,
    }


def _show(
    site: Site,
    path: Path,
    requires: Sequence[Requirement],
    tried: Sequence[Tried],
    abi: Sequence[torch_abi.TorchAbi],
) -> None:
    if len(tried) > 1:
        columns = ["library", *(one.exports.torch for one in tried), "bound to torch"]
        rows = [
            (one.library, *(each.cell(one.library) for each in tried), promise(one, tried))
            for one in abi
        ]
        site.console.table(path.name, columns, rows)
        site.console.result("")
    for one in tried:
        site.console.result(f"{path.name} with torch {one.exports.torch}")
        lines = link_lines(one.links, one.findings, requires)
        bad = {name: said for name, said in one.loads.items() if loading.went_wrong(said)}
        lines += [f"  {name} does not load: {said}" for name, said in bad.items()]
        site.console.result("\n".join(lines) + "\n")


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
