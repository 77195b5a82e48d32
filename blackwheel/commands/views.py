"""Shows plan, stacks, status, doctor, and the disk space that can be freed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blackwheel.builder import memory_pool, plan
from blackwheel.builder.spent import spent
from blackwheel.core import file_lock
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.machine import read_machine
from blackwheel.core.site import Site
from blackwheel.core.units import size
from blackwheel.doctor import for_building, for_serving
from blackwheel.doctor.check import Check
from blackwheel.doctor.for_building import place
from blackwheel.pipeline.missing import missing
from blackwheel.pipeline.todo import taken_labels, work
from blackwheel.receipts.beside import key_section
from blackwheel.shelf import index
from blackwheel.sources.series import NoSeriesError
from blackwheel.stacks import loader, projects, records
from blackwheel.stacks.ask import for_pythons, requests
from blackwheel.stacks.request import left_out


def show_plan(
    site: Site,
    stack: str,
    *,
    only: Sequence[str] = (),
    arch: str = "",
    jobs: int = 0,
    python: str = "",
    without: Sequence[str] = (),
    as_json: bool = False,
) -> None:
    """Show the plan of build-wheels with its reasons; touches no tree, network or compiler."""
    asked = for_pythons(site, stack, python, only=only, arch=arch, without=without)
    memory, shared = read_machine().memory_available, bool(memory_pool.folder(site.environment))
    rows: list[dict[str, Any]] = []
    expected: list[str] = []
    lacks: dict[str, list[str]] = {}
    for request, chosen in asked:
        lacking = lacks.setdefault(f"{request.project} {request.version}", [])
        lacking += [line for line in missing(site, request) if line not in lacking]
        try:
            item, pin = work(site, request, chosen), request.pin
        except NoSeriesError:
            continue  # without it there is no key
        largest = projects.load(site.patches, request.project).largest_object(pin)
        wide, cost = memory_pool.width(site, request, jobs), spent(site, request)
        rows.append(
            {
                "project": request.project,
                "version": request.version,
                "python": request.python,
                "build": bool(item.reasons),
                "why": list(item.reasons) or ["nothing changed"],
                "label_taken": bool(taken_labels(site, [item])),
                "objects": pin.objects,
                "jobs": wide.most,
                "jobs_of_the_largest": wide.least,
                "bytes_of_the_largest": largest,
                "bytes_available": memory,
                "shared_out": shared,
                "expected_seconds": round(cost.seconds / wide.least),
                "key": item.key.digest,
            }
        )
        expected.append(cost.took(wide) or "unknown time")
    if as_json:
        absent = {name: lines for name, lines in lacks.items() if lines}
        site.console.document("plan", plans=rows, missing=absent)
        return
    how = "shared out object by object among all builds here" if shared else "not shared out"
    for row, time in zip(rows, expected, strict=True):
        wide = plan.Width(most=row["jobs"], least=row["jobs_of_the_largest"])
        site.console.result(
            f"{row['project']} {row['version']} for Python {row['python']}\n"
            f"  build:  {'yes' if row['build'] else 'no'}: {'; '.join(row['why'])}\n"
            + ("  label:  taken: raise the revision, or --replace\n" if row["label_taken"] else "")
            + f"  cost:   {row['objects'] or 'unknown'} objects, {wide} at once, {time}\n"
            f"  memory: {size(memory)} available, {how};"
            f" the largest object takes {size(row['bytes_of_the_largest'])}\n"
            f"  key:    {row['key']}"
        )
    for remark in asked[0][0].stack.remarks:
        site.console.result(f"{stack}: {remark}")
    for name, lines in lacks.items():
        if lines:
            site.console.result("\n  ".join([f"missing, before {name} can be built:", *lines]))


def show_status(site: Site, only: str = "", *, as_json: bool = False) -> None:
    """List the wheels on the shelf, and tell whether their keys are still the stack's.

    With `only` those of one stack; raises `unknown-stack`.
    """
    rows, told = [], []
    for name in [only] if only else loader.names(site.constraints):
        stack = loader.load(name, site.constraints)
        leaving = _leaving(site, stack, network=False)
        if leaving and not leaving.ok:
            site.console.say(f"{name}: {leaving.fact}; {leaving.cure}")
        for wheel in index.shelved(site.wheels / name):
            key = key_section(wheel.receipt)
            state = _state(site, stack, key)
            rows.append((name, wheel.path.name, size(wheel.size), state))
            given = {"stack": name, "wheel": wheel.path.name, "sha256": wheel.sha256}
            told.append({**given, "bytes": wheel.size, "state": state})
    if as_json:
        site.console.document("status", wheels=told)
    elif rows:
        site.console.table("", ("stack", "wheel", "size", "state"), rows)
    else:
        empty = f"the shelf of {only}" if only else "the shelf"
        site.console.result(f"{empty} is empty; invoke stacks tells what can be built here")


def _state(site: Site, stack: records.Stack, key: dict[str, Any]) -> str:
    if not key:
        return "no receipt"
    parts = key["parts"]
    project = key["slug"].split("/")[1]
    if project not in stack.build:
        return "the stack builds it no more"
    (request,), chosen = requests(
        site,
        stack.name,
        only=[project],
        arch=parts["archs"],
        python=parts["python"],
        without=left_out(parts),
    )
    changes = work(site, request, chosen).key.changes(parts)
    return f"stale: {'; '.join(changes)}" if changes else f"current, key {key['digest'][:12]}"


def _leaving(site: Site, stack: records.Stack, *, network: bool) -> Check | None:
    """Tell whether a pinned nightly is kept, or about to leave its index."""
    from blackwheel.doctor import nightly_window
    from blackwheel.pytorch import archive

    kept = archive.archive(site.store, site.environment, site.console)
    return nightly_window.archive_check(
        stack, kept, today=datetime.now(UTC).date(), network=network
    )


def show_doctor(site: Site, stack: str, *, as_json: bool = False) -> int:
    """Check this machine; the exit code tells whether a requirement is lacking."""
    chosen = loader.load(stack, site.constraints) if stack else None
    checks = [*for_building.examine(chosen, place(site))]
    leaving = _leaving(site, chosen, network=True) if chosen else None
    checks += [leaving] if leaving else []
    if _listed(site, checks, as_json=as_json):
        return Exit.MACHINE
    if as_json:
        return Exit.OK
    name = chosen.name if chosen else "quickstart"
    site.console.result(f"\nnext: invoke build-wheels --stack {name}")
    return Exit.OK


def show_servable(site: Site, stack: str, *, as_json: bool = False) -> int:
    """Check whether this machine can run a stack's wheels; the exit code tells."""
    chosen = loader.load(stack, site.constraints)
    shelf = site.wheels / chosen.name
    checks = for_serving.examine(
        chosen, site.patches, site.environment, read_machine(), shelf=shelf
    )
    return Exit.MACHINE if _listed(site, checks, as_json=as_json) else Exit.OK


def _listed(site: Site, checks: Sequence[Check], *, as_json: bool) -> bool:
    """Print what was looked at; tell whether something that is needed lacks."""
    if as_json:
        site.console.document("doctor", checks=[asdict(check) for check in checks])
        return any(check.ok is False for check in checks)
    marks = {True: "ok", False: "LACKS", None: "note"}
    width = max(len(check.name) for check in checks)
    for check in checks:
        site.console.result(f"{marks[check.ok]:5}  {check.name:{width}}  {check.fact}")
        if check.cure:
            site.console.result(f"{'':{width + 9}}fix: {check.cure}")
    return any(check.ok is False for check in checks)


def clean(site: Site, *, yes: bool) -> None:
    """Show the disk space of the store and, with `yes`, remove trees, environments and exports."""
    kinds = (
        "builds",
        "nox",
        "patched",
        "plans",
        "sources",
        "toolchains",
        "git",
        "sdists",
        "exports",
        "audited",
        "digests",
        "torches",
        "sccache",
        "history",
    )
    folders = [site.store / kind for kind in kinds if (site.store / kind).is_dir()]
    if not folders:
        site.console.say(f"there is nothing in {site.store}")
        return
    rows = [(folder.name, size(_disk(folder)), str(folder)) for folder in folders]
    site.console.table("", ("what", "disk", "where"), rows)
    if not yes:
        site.console.say("nothing was removed; --yes removes all of it (the shelf stays)")
        return
    left: list[str] = []
    with file_lock.unused(site.store):
        for folder in folders:
            if folder.is_symlink():
                site.console.say(f"{folder} is a link: what it leads to was left as it is")
                continue
            before = len(left)
            shutil.rmtree(folder, onerror=lambda _, path, why: left.append(f"{path}: {why[1]}"))
            if len(left) == before:
                site.console.say(f"removed {folder}")
    if left:
        raise BlackwheelError(
            "not-removed",
            "\n".join([f"{len(left)} files could not be removed:", *left[:10]]),
            where=str(site.store),
            fix="remove them as the user to whom they belong; the rest is gone",
            code=Exit.MACHINE,
        )


def _disk(folder: Path) -> int:
    """Bytes on disk, each inode once: environments share their files with uv's cache."""
    seen: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # a run that goes on removes files, too
            state = path.lstat()
            seen[state.st_dev, state.st_ino] = state.st_blocks * 512
    return sum(seen.values())
