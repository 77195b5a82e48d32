"""Draws the page of an audit again, from the receipt beside a wheel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email import message_from_bytes
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from blackwheel.audit.audit import AuditReport, Finding, Library, Links
from blackwheel.audit.page import Sheet, page
from blackwheel.audit.verdict import closing
from blackwheel.core import archs, records


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

    What another version of blackwheel recorded in another form has no page: KeyError, TypeError,
    ValueError.
    """
    if "audit" not in held:
        return ""
    seen, wanted = held["audit"], archs.parse_list(";".join(held["stack"]["archs"]))
    report = AuditReport(
        path=wheel,
        sha256=sha256,
        size=size,
        libraries=records.checked(seen["libraries"], tuple[Library, ...]),
        links=records.checked(seen.get("links", ()), tuple[Links, ...]),
        findings=records.checked(seen.get("findings", ()), tuple[Finding, ...]),
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
