"""Shows arch plans and the effects of patches (`plan --objects`, `check-patches`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blackwheel.builder import arch_plan
from blackwheel.builder.arch_diff import archs_text
from blackwheel.builder.arch_plan import ArchPlan
from blackwheel.core import archs, file_lock
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pipeline import chain, patch_proof, run, sessions
from blackwheel.pipeline.session_file import build_order
from blackwheel.pipeline.todo import Work, work
from blackwheel.stacks.ask import requests
from blackwheel.stacks.request import Request


def show_objects(
    site: Site,
    stack: str,
    *,
    only: Sequence[str] = (),
    arch: str = "",
    python: str = "",
    without: Sequence[str] = (),
    as_json: bool = False,
) -> int:
    """Show the arch plan of a stack's projects; raise `wrong-arch` where a contract is broken."""
    asked, chosen = requests(site, stack, only=only, arch=arch, python=python, without=without)
    plans = []
    for request in asked:
        item = work(site, request, chosen)
        code, path = _made(site, item)
        if code:
            return code
        plans.append((request, patch_proof.load_plan(path)))
    if as_json:
        site.console.document("plan-objects", plans=[_row(one, plan) for one, plan in plans])
    else:
        for request, plan in plans:
            _show(site, request, plan)
    _require_contract(plans)
    return Exit.OK


def check_patches(
    site: Site,
    stack: str,
    *,
    only: Sequence[str] = (),
    python: str = "",
    without: Sequence[str] = (),
    as_json: bool = False,
) -> int:
    """Show the effect of each patch of a stack's series; raise `patch-changes-nothing`."""
    asked, chosen = requests(site, stack, only=only, python=python, without=without)
    found = []
    for request in asked:
        item = work(site, request, chosen)
        code, path = _made(site, item, proofs=True)
        if code:
            return code
        found.append((request, patch_proof.load_proofs(path)))
    if as_json:
        patches = [
            {"project": request.project, "patch": proof.patch, "effects": proof.effects}
            for request, proofs in found
            for proof in proofs
        ]
        site.console.document("check-patches", patches=patches)
    else:
        for request, proofs in found:
            site.console.result("\n".join(_proof_lines(request, proofs)))
    stale = [(r, proof) for r, proofs in found for proof in proofs if not proof.effects]
    if stale:
        raise BlackwheelError(
            "patch-changes-nothing",
            "\n".join(
                f"{proof.patch}: without it {r.project} {r.pin.version} of stack {stack} has the"
                f" same {_compared(proof)}"
                for r, proof in stale
            ),
            where="\n".join(
                sorted({f"patches/{r.project}/{r.pin.version}/series" for r, _ in stale})
            ),
            fix="take it out of the series, or correct what it was to change",
            code=Exit.PATCH,
        )
    return Exit.OK


def _made(site: Site, item: Work, *, proofs: bool = False) -> tuple[int, Path]:
    """Return where the plan lies; make it in the project's environment when it is not there."""
    path = patch_proof.plan_file(site, item, proofs=proofs)
    if path.exists():
        return 0, path
    request = item.request
    with run.alternatives(site, request.stack.name):
        (item,) = chain.preflight(site, [item])
    name = f"plan-{request.stack.name}-py{request.python}"
    with file_lock.held(site.store, name, project=request.project, console=site.console):
        code = 0
        if not path.exists():
            order = build_order(item, chain.installed_pins(site, item.request), proofs=proofs)
            one = sessions.session(site, f"plan({request.project})", item, order)
            code, _ = sessions.run(site, {request.project: [one]}, keep_going=False)
    return code, path


def _row(request: Request, plan: ArchPlan) -> dict[str, Any]:
    return {
        "project": request.project,
        "version": request.version,
        "python": request.python,
        "holds": bool(plan.objects or not request.pin.objects)
        and not any(each.missing for each in plan.objects),
        "groups": [
            {
                "target": group.target,
                "sources": group.sources,
                "requested": list(_requested(request, group)),
                "effective": list(group.archs),
                "missing": list(group.missing),
                "objects": group.count,
            }
            for group in arch_plan.groups(plan.objects)
        ],
        "lists": dict(plan.lists),
    }


def _requested(request: Request, group: arch_plan.Group) -> tuple[str, ...]:
    """Return what the stack asks for: nothing of what is no device code."""
    if not group.sources.endswith(".cu"):
        return ()
    return tuple(archs.parse(arch).sm for arch in request.archs)


def _show(site: Site, request: Request, plan: ArchPlan) -> None:
    title = f"{request.project} {request.version} for Python {request.python}"
    rows = [
        (
            group.target or "-",
            group.sources,
            archs_text(asked) if (asked := _requested(request, group)) else "-",
            archs_text(group.archs) if asked else "-",
            str(group.count),
            f"lacks {', '.join(group.missing)}" if group.missing else "",
        )
        for group in arch_plan.groups(plan.objects)
    ]
    columns = ("target", "sources", "asked", "command line", "objects", "")
    site.console.table(title, columns, rows)
    if plan.lists:
        site.console.table("the build's own lists:", ("list", "archs"), plan.lists)
    site.console.result(f"{len(plan.objects)} objects")


def _require_contract(plans: Sequence[tuple[Request, ArchPlan]]) -> None:
    lines = [
        f"{request.project} {request.pin.version}: {group.target or '-'}: {group.sources}"
        f" ({group.count}): asks for {archs_text(group.archs)},"
        f" the contract needs {', '.join(group.missing)}"
        for request, plan in plans
        for group in arch_plan.groups(plan.objects)
        if group.missing
    ]
    lines += [
        f"{request.project} {request.pin.version}: no object was planned;"
        f" the stack file counts {request.pin.objects}"
        for request, plan in plans
        if request.pin.objects and not plan.objects
    ]
    if lines:
        places = {f"patches/{request.project}/{request.pin.version}/" for request, _ in plans}
        raise BlackwheelError(
            "wrong-arch",
            "\n".join(lines),
            where=f"constraints/{plans[0][0].stack.name}.toml",
            fix="correct the patch or the variable that hands the archs to nvcc: "
            + ", ".join(sorted(places)),
            code=Exit.BUILD,
        )


def _compared(proof: patch_proof.Proof) -> str:
    return f"includes of {proof.inputs}" if proof.inputs else "objects, archs, metadata and files"


def _proof_lines(request: Request, proofs: Sequence[patch_proof.Proof]) -> list[str]:
    lines = [f"{request.project} {request.pin.version} in stack {request.stack.name}"]
    for proof in proofs:
        lines.append(f"  {proof.patch}")
        lines += [f"    {effect}" for effect in proof.effects or ("stale: changes nothing",)]
        if proof.given:
            lines.append(f"    (with {', '.join(proof.given)} in the tree: probes.toml)")
        if proof.apart_from:
            lines.append(f"    (both without {', '.join(proof.apart_from)}, which need it)")
    return lines
