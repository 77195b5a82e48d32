"""Audits a wheel again, links it where its torch is, and compares with the receipt's audit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from blackwheel.audit import audit, environments, torch_abi
from blackwheel.audit.exports import system_exports
from blackwheel.audit.symbols import Links
from blackwheel.core import archs
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site
from blackwheel.receipts.document import Section
from blackwheel.shelf.verify_pages import Check, compared_all
from blackwheel.stacks.request import Request
from blackwheel.toolchain import toolkit

SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Audited:
    """The audit of a wheel as it is today, and the torch that it was linked with."""

    report: audit.AuditReport
    exports: audit.Exports | None
    broken: str = ""
    """Why the torch that is here cannot be read."""


def audited(
    site: Site, wheel: Path, parts: Mapping[str, str], request: Request | None, *, digest: str
) -> Audited:
    """Run the whole audit of a stack's wheel again, links included where the store has its torch.

    `digest` is the sha256 of its bytes. Nothing is installed or downloaded.
    """
    exports, broken = _exports(site, request)
    report = audit.inspect(
        wheel,
        archs=[archs.parse(arch) for arch in parts["archs"].split(";")],
        exports=exports,
        expected=audit.expectation(request) if request else None,
        digest=digest,
    )
    return Audited(report=report, exports=exports, broken=broken)


def audit_checks(
    done: Audited, seen: Section, request: Request | None, *, must_link: bool
) -> Iterator[Check]:
    """Compare the audit of today with the one in the receipt.

    Without its torch only a wheel links that needs nothing of it; of another one nothing is known:
    open, or a fault where it `must_link`.
    """
    report, exports = done.report, done.exports
    for finding in report.fatal:
        yield Check(what="audit", ok=False, found=str(finding), expected="no fatal finding")
    now, before = _by(report.libraries, "path"), {one["path"]: one for one in seen["libraries"]}
    yield compared_all("libraries", sorted(now), sorted(before))
    differences = list(_differences(now, before))
    yield from differences
    same = sorted(now) == sorted(before) and not any(one.ok is False for one in differences)
    if same and not report.fatal:
        count = sum(one.kernels.native for one in report.libraries)
        yield Check(what="audit", ok=True, found=f"{count} native kernels")
    if report.fatal:
        return
    if exports is None:
        yield from _alone(done, seen.get("links"), request, must_link=must_link)
    else:
        how = f"with torch {exports.torch}"
        yield from _link_checks(report.links, seen.get("links"), how)


def abi_checks(done: Audited, seen: Section, oldest: str) -> Iterator[Check]:
    """Judge again whether every library serves `oldest` and later torches, as the key says.

    Without its torch here the names alone tell: what they leave unknown is open.
    """
    if not oldest:
        return
    bound, sure = done.report.abi, done.exports is not None
    unfit = list(torch_abi.unfit_findings(bound, oldest, sure=sure))
    for finding in unfit:
        yield Check(what="torch abi", ok=False, found=str(finding), expected=f"torch>={oldest}")
    unknown = [one.library for one in bound if one.bond == torch_abi.UNKNOWN]
    if unknown and not sure:
        why = f"of {', '.join(unknown[:SHOWN])} only an environment with its torch can tell"
        yield Check(what="torch abi", ok=None, found=why)
        return
    now = [json.loads(json.dumps(asdict(one))) for one in bound]
    if now != seen.get("torch_abi"):
        found, expected = json.dumps(seen.get("torch_abi")), json.dumps(now)
        yield Check(what="torch abi", ok=False, found=found, expected=expected)
    elif not unfit:
        found = "; ".join(sorted({str(one) for one in bound if one.bond == torch_abi.STABLE}))
        yield Check(what="torch abi", ok=True, found=found)


def _exports(site: Site, request: Request | None) -> tuple[audit.Exports | None, str]:
    """Return the exports of a stack's torch, if that is here; else why it cannot be read."""
    if request is None:
        return None, ""
    cuda = None
    if request.stack.torch.source == "installed":  # a vendor's torch may have no CUDA beside it
        lock = request.stack.lock(site.constraints, "toolchain")
        try:
            found = toolkit.present(
                request.stack.toolchain, lock=lock, store=site.store, environment=site.environment
            )
            cuda = found.root if found else None
        except BlackwheelError as error:
            return None, f"{error.name}: {error.fact.splitlines()[0]}"
    exports, broken = environments.stack_exports(request, site=site, cuda=cuda)
    return exports, "; ".join(broken)


def _link_checks(links: Sequence[Links], seen: Any, how: str) -> Iterator[Check]:
    """Compare what each library is bound to with the receipt; older receipts do not tell it."""
    now = _by(links, "library")
    before = {one["library"]: one for one in (seen or ())}
    differences = list(_differences(now, before))
    yield from differences
    if seen is not None and sorted(now) != sorted(before):
        yield compared_all("linked libraries", sorted(now), sorted(before))
    elif not any(one.ok is False for one in differences):
        yield Check(what="links", ok=True, found=f"{len(now)} libraries, {how}")


def _alone(
    done: Audited, seen: Any, request: Request | None, *, must_link: bool
) -> Iterator[Check]:
    """Link without any torch: right for a wheel that needs none of it, unknown for another."""
    system = audit.Exports(torch="", python="", libraries=system_exports())
    bonds, findings = done.report.linked(system)
    lacks = [str(one) for one in findings if one.fatal]
    torch = request.stack.torch.runtime if request else "of its stack"
    beside = "".join(f" and {path}" for path in request.pin.beside) if request else ""
    why = done.broken or f"no environment here holds torch {torch}{beside}"
    if not lacks:
        yield from _link_checks(bonds, seen, "which need nothing of torch")
    elif not must_link:
        yield Check(what="links", ok=None, found=done.broken or f"{why}: nox -s smoke makes one")
    else:
        name = request.stack.name if request else "NAME"
        expected = f"an environment to link in: nox -s smoke -- --stack {name}"
        more = [f"and {len(lacks) - 1} more of its libraries"] if lacks[1:] else []
        found = "\n".join([why, *lacks[:1], *more])
        yield Check(what="links", ok=False, found=found, expected=expected)


def _by(rows: Sequence[Any], field: str) -> dict[str, dict[str, Any]]:
    """Return records by one of their fields, in the form that JSON gives back."""
    return {getattr(one, field): json.loads(json.dumps(asdict(one))) for one in rows}


def _differences(
    now: Mapping[str, Mapping[str, Any]], before: Mapping[str, Mapping[str, Any]]
) -> Iterator[Check]:
    """Compare what is read now with the receipt; what only one of them tells is open, no fault."""
    alone: dict[str, set[str]] = {}
    for path in sorted({*now} & {*before}):
        for name in sorted({*now[path]} | {*before[path]}):
            if name not in before[path] or name not in now[path]:
                alone.setdefault(name, set()).add(path)
            elif now[path][name] != before[path][name]:
                found, expected = json.dumps(now[path][name]), json.dumps(before[path][name])
                yield Check(what=f"{path} {name}", ok=False, found=found, expected=expected)
    for name, paths in alone.items():
        why = f"told by another version of blackwheel alone, of {len(paths)} libraries"
        yield Check(what=f"audit {name}", ok=None, found=why)
