"""What each record of the chain says in the receipt."""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from blackwheel import __version__, receipts
from blackwheel.audit import AuditedWheel
from blackwheel.build import BuiltWheel
from blackwheel.errors import BlackwheelError, Exit
from blackwheel.isolation import NAMESPACES
from blackwheel.keys import Request
from blackwheel.patches import PatchedTree
from blackwheel.plan import BuildPlan
from blackwheel.torchpin import TorchIdentity

GUARD: Final = "_built_for.py"
"""What the last patch of a series makes setup.py write beside the package's own modules."""
BEFORE_SMOKE: Final = tuple(stage for stage in receipts.STAGES if stage != "smoke")


def receipt(
    audited: AuditedWheel,
    lock: Path,
    *,
    started: datetime,
    finished: datetime,
    installed: Sequence[Mapping[str, Any]] = (),
) -> receipts.Document:
    """Return the receipt of a wheel that was built here and audited; smoke adds its own section.

    `installed` are packages of the build environment that no lock names.

    Raises `other-torch` where the process that ran setup.py met another torch than the environment
    holds.
    """
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
            "torch": {
                **torch_section(made.torch, audited.path, _version(made)),
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
            "run": {
                **receipts.run_section(started=started, finished=finished),
            },
            "objects": _objects(built),
            "audit": audited.section(),
        },
    )


def built_for(wheel: Path) -> dict[str, Any] | None:
    """Return what setup.py wrote down of the torch it met; None for a wheel without that file.

    Nothing is executed. Raises ValueError where the file is not as the last patch writes it.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(f"/{GUARD}")]
        if not names:
            return None
        text = archive.read(names[0]).decode("utf-8")
    name, assigned, literal = text.partition(" = ")
    try:
        values = ast.literal_eval(literal) if (name, assigned) == ("TORCH", " = ") else None
    except (SyntaxError, ValueError):
        values = None
    if len(names) > 1 or not isinstance(values, dict) or text != f"TORCH = {values!r}\n":
        raise ValueError(f"{', '.join(names)}: not as setup.py writes it")
    return values


def expected_guard(torch: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return what `built_for` must be, from the receipt's torch and the wheel's version."""
    exact = "==" if "+" in torch["version"] else "==="
    return {
        "wheel": version,
        "requirement": f"torch{exact}{torch['version']}",
        "version": torch["runtime"],
        "git_version": torch["git_version"],
        "cuda": torch["cuda"],
    }


def guard_differences(
    told: Mapping[str, Any], expected: Mapping[str, Any]
) -> tuple[tuple[str, Any, Any], ...]:
    """Return name, found and expected value of everything in which a guard file differs."""
    names = sorted({*told, *expected})
    pairs = ((name, told.get(name), expected.get(name)) for name in names)
    return tuple(pair for pair in pairs if pair[1] != pair[2])


def torch_section(identity: TorchIdentity, wheel: Path, version: str) -> dict[str, Any]:
    """Return what the receipt says of torch; raise `other-torch` as `receipt` says."""
    section = identity.section()
    try:
        told = built_for(wheel)
        expected = expected_guard(section, version) if told is not None else {}
        differences = guard_differences(told or {}, expected)
        faults = [f"{name}: {found} instead of {wanted}" for name, found, wanted in differences]
    except ValueError as error:
        told, faults = None, [str(error)]
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


def _stack(made: BuildPlan) -> dict[str, Any]:
    request: Request = made.request
    return {
        "name": request.stack.name,
        "project": request.project,
        "version": request.pin.version,
        "archs": list(request.archs),
        "driver": request.stack.driver,
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
