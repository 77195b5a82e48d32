"""Draws the page of an audit again, from the receipt beside a wheel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email import message_from_bytes
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from blackwheel.audit.audit import AuditReport, Finding, Library, Links
from blackwheel.audit.kernels import KernelCounts
from blackwheel.audit.page import Sheet, page
from blackwheel.audit.symbols import Missing
from blackwheel.audit.verdict import closing
from blackwheel.core import archs


def recorded_page(
    wheel: Path,
    sha256: str,
    size: int,
    metadata: bytes,
    held: Mapping[str, Any],
    *,
    crumbs: Sequence[tuple[str, str]] = (),
) -> str:
    """Draw the audit in the sections `held` of a receipt; empty where it holds none.

    What another version of blackwheel recorded in another form has no page: KeyError, TypeError.
    """
    if "audit" not in held:
        return ""
    seen, wanted = held["audit"], archs.parse_list(";".join(held["stack"]["archs"]))
    report = AuditReport(
        path=wheel,
        sha256=sha256,
        size=size,
        libraries=tuple(_library(one) for one in seen["libraries"]),
        links=tuple(_links(one) for one in seen.get("links", ())),
        findings=tuple(Finding(**one) for one in seen.get("findings", ())),
    )
    lines = message_from_bytes(metadata).get_all("Requires-Dist") or []
    requires = [one for one in map(Requirement, map(str, lines)) if one.name == "torch"]
    sheet = Sheet(
        report=report,
        archs=wanted,
        requires=tuple(map(str, requires)),
        linked=held.get("torch", {}).get("runtime", "") if report.links else "",
        closing=closing(report, wanted, requires),
    )
    return page([sheet], crumbs)


def _library(one: Mapping[str, Any]) -> Library:
    pairs = ("elf_archs", "ptx_archs", "kernels_by_arch")
    return Library(
        **{
            **one,
            **{name: tuple((arch, count) for arch, count in one[name]) for name in pairs},
            "kernels": KernelCounts(**one["kernels"]),
            "examples": tuple(one["examples"]),
        }
    )


def _links(one: Mapping[str, Any]) -> Links:
    return Links(**{**one, "missing": tuple(Missing(**each) for each in one["missing"])})
