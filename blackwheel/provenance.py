"""What each record of the chain says in the receipt."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from blackwheel import __version__, receipts
from blackwheel.audit import AuditedWheel
from blackwheel.build import BuiltWheel
from blackwheel.keys import Request
from blackwheel.patches import PatchedTree
from blackwheel.plan import BuildPlan

BEFORE_SMOKE: Final = tuple(stage for stage in receipts.STAGES if stage != "smoke")


def receipt(
    audited: AuditedWheel, lock: Path, *, started: datetime, finished: datetime
) -> receipts.Document:
    """Return the receipt of a wheel that was built here and audited; smoke adds its own section."""
    built = audited.built
    assert built is not None  # noqa: S101  a wheel from elsewhere gets no receipt
    made = built.plan
    return receipts.receipt(
        audited.path.name,
        audited.sha256,
        {
            "stack": _stack(made),
            "sources": _sources(made.tree),
            "patches": _patches(made.tree),
            "torch": asdict(made.torch),
            "toolchain": {**asdict(made.toolchain), "root": "cuda"},
            "environment": {
                "python": made.request.python,
                "name": lock.name,
                "digest": {"sha256": made.key.part("locks.build")},
            },
            "isolation": {"mode": built.isolation, "network": False},
            "command": {"argv": list(built.argv), "variables": dict(built.variables)},
            "run": {
                **receipts.run_section(started=started, finished=finished),
            },
            "objects": _objects(built),
            "audit": audited.section(),
        },
    )


def _stack(made: BuildPlan) -> dict[str, Any]:
    request: Request = made.request
    return {
        "name": request.stack.name,
        "project": request.project,
        "version": request.pin.version,
        "archs": list(request.archs),
        "blackwheel": __version__,
        "key": {"digest": made.key.digest, "slug": request.slug, "parts": dict(made.key.parts)},
    }


def _sources(tree: PatchedTree) -> dict[str, Any]:
    source = tree.source
    urls = {nested.path: nested.url for nested in source.pin.nested}
    return {
        "origin": source.origin,
        "reason": source.reason,
        "project": {
            "name": source.project,
            "uri": source.pin.source.url,
            "digest": {"gitCommit": source.commit, "gitTree": source.tree},
        },
        "nested": [
            {
                "name": nested.path,
                "uri": urls[nested.path],
                "digest": {"gitCommit": nested.commit, "gitTree": nested.tree},
            }
            for nested in source.nested
        ],
    }


def _patches(tree: PatchedTree) -> dict[str, Any]:
    return {
        "series": [{"name": p.name, "digest": {"sha256": p.sha256}} for p in tree.patches],
        "tree": tree.tree,
    }


def _objects(built: BuiltWheel) -> dict[str, Any]:
    return {
        "count": len(built.objects),
        "cpu_seconds": round(built.cpu_seconds, 1),
        "peak_bytes": built.peak_bytes,
        "last_run_seconds": round(built.seconds, 1),
        "jobs": built.plan.jobs,
        "each": list(built.objects),
    }
