"""Writes the receipt of a built and audited wheel from the records of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from blackwheel import __version__
from blackwheel.audit.audit import AuditedWheel
from blackwheel.builder.build import BuiltWheel
from blackwheel.builder.plan import BuildPlan
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.isolation import NAMESPACES
from blackwheel.pytorch.guard import GUARD, built_for, expected_guard, guard_differences
from blackwheel.pytorch.identity import TorchIdentity
from blackwheel.receipts import document
from blackwheel.sources.patch import PatchedTree
from blackwheel.stacks.records import ArchivePin, SdistPin
from blackwheel.stacks.request import Request


def receipt(
    audited: AuditedWheel,
    lock: Path,
    *,
    started: datetime,
    finished: datetime,
    installed: Sequence[Mapping[str, Any]] = (),
) -> document.Document:
    """Return the receipt of a wheel that was built here and audited; smoke adds its own section.

    `installed` are packages of the build environment that no lock names.

    Raises `other-torch` where the process that ran setup.py met another torch than the environment
    holds.
    """
    built = audited.built
    assert built is not None  # noqa: S101  a wheel from elsewhere gets no receipt
    made = built.plan
    return document.receipt(
        audited.path.name,
        audited.sha256,
        {
            "stack": _stack(made, built.variables),
            "sources": _sources(made.tree),
            "patches": _patches(made.tree),
            "torch": {
                **torch_section(made.torch, audited.path, _version(made), audited.oldest_torch),
                "source": made.request.stack.torch.source,
            },
            "toolchain": {**asdict(made.toolchain), "root": "cuda"},
            "environment": {
                "python": made.request.python,
                "name": lock.name,
                "digest": {"sha256": made.key.part("locks.build")},
                **({"installed": list(installed)} if installed else {}),
            },
            "isolation": {
                "mode": built.isolation,
                "network": "none" if built.isolation == NAMESPACES else "dead proxies only",
            },
            "command": {"argv": list(built.argv), "variables": dict(built.variables)},
            "run": document.run_section(started=started, finished=finished),
            "objects": _objects(built),
            "audit": audited.section(),
        },
    )


def torch_section(
    identity: TorchIdentity, wheel: Path, version: str, oldest: str = ""
) -> dict[str, Any]:
    """Return the receipt's section about torch; raise `other-torch` as `receipt` does.

    Raises `guard-of-one-torch` where the wheel is to serve `oldest` and every later torch, and its
    guard refuses all but one.
    """
    section = identity.section()
    try:
        told = built_for(wheel)
        expected = expected_guard(section, version, oldest) if told is not None else {}
        differences = guard_differences(told or {}, expected)
        faults = [f"{name}: {found} instead of {wanted}" for name, found, wanted in differences]
    except ValueError as error:
        told, faults = None, [str(error)]
    if oldest and told is not None and "from" not in told:
        raise BlackwheelError(
            "guard-of-one-torch",
            f"torch = 'abi' promises torch {oldest} and later, and the wheel's own guard refuses"
            " every torch but one at import",
            where=f"{wheel.name}, {GUARD}",
            fix="leave torch = 'abi' out of the project's pin, or let the last patch of its series"
            f'\nwrite "from": "{oldest}" into {GUARD} and refuse only an older torch',
            code=Exit.TORCH,
        )
    if faults:
        raise BlackwheelError(
            "other-torch",
            "\n".join(["the torch that setup.py met is not the environment's", *faults]),
            where=f"{wheel.name}, {GUARD}",
            fix="invoke build-wheels --again",
            code=Exit.TORCH,
        )
    return {**section, "built_for": told}


def _version(made: BuildPlan) -> str:
    return f"{made.request.pin.version}+{made.key.part('label')}"


def _stack(made: BuildPlan, variables: Mapping[str, str]) -> dict[str, Any]:
    request: Request = made.request
    holds = [part.limits(variables) for part in made.known.holds]
    return {
        "name": request.stack.name,
        "project": request.project,
        "version": request.pin.version,
        "archs": list(request.archs),
        "driver": request.stack.driver,
        "blackwheel": __version__,
        **({"holds": holds} if holds else {}),
        "key": {"digest": made.key.digest, "slug": request.slug, "parts": dict(made.key.parts)},
    }


def _sources(tree: PatchedTree) -> dict[str, Any]:
    source = tree.source
    urls = {nested.path: nested.url for nested in source.pin.nested}
    archive = source.pin.sdist if source.origin == "sdist" else None
    wheels = {nested.path: nested.archive for nested in source.pin.nested if nested.archive}
    return {
        "origin": source.origin,
        "reason": source.reason,
        "project": {
            "name": source.project,
            "uri": source.pin.source.url,
            "digest": {
                **({"gitCommit": source.commit} if source.commit else {}),
                "gitTree": source.tree,
            },
        },
        **({"sdist": _file(archive)} if archive else {}),
        "nested": [
            {
                "name": nested.path,
                "uri": urls[nested.path],
                "digest": {"gitCommit": nested.commit, "gitTree": nested.tree},
                **({"wheel": _file(wheels[nested.path])} if nested.wheel else {}),
            }
            for nested in source.nested
        ],
    }


def _file(archive: SdistPin | ArchivePin) -> dict[str, Any]:
    return {"name": archive.name, "digest": {"sha256": archive.sha256}}


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
