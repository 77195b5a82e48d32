"""What the tasks do, behind their thin faces in tasks.py."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blackwheel import (
    doctor,
    index,
    pipeline,
    plan,
    process,
    receipts,
    refresh,
    stacks,
    torchpin,
    views,
)
from blackwheel.console import duration, size
from blackwheel.edge import EXIT_FILE
from blackwheel.errors import BlackwheelError, Exit
from blackwheel.pipeline import Work
from blackwheel.site import Site


def build_wheels(
    site: Site,
    stack: str,
    *,
    only: Sequence[str] = (),
    arch: str = "",
    jobs: int = 0,
    python: str = "",
    again: bool = False,
    keep_going: bool = False,
) -> int:
    """Run the whole chain for a stack's projects; return the exit code."""
    asked, chosen = pipeline.requests(site, stack, only=only, arch=arch, python=python)
    with _alternatives(site, stack):
        torchpin.require_locked(asked[0].stack)
    todo = [pipeline.work(site, request, chosen, again=again) for request in asked]
    pending = [item for item in todo if item.reasons]
    if not pending:
        site.console.say(f"{stack}: nothing changed since these wheels were built")
        _summary(site, [item.shelved for item in todo if item.shelved])
        return Exit.OK
    with _alternatives(site, stack):
        pipeline.preflight(site, pending)
    _opening(site, pending, jobs)
    code = int(Exit.OK)
    built: list[Work] = []
    for item in pending:
        options = ["--jobs", str(jobs)] if jobs else []
        options += ["--arch", arch] if arch else []
        options += ["--again"] if again else []
        ended = 0
        if again or not pipeline.candidate(site, item):
            pipeline.patched_tree(site, item.request)
            ended = _nox(site, f"build({item.request.project})", item, options)
        if ended == 0:
            built.append(item)
        elif not keep_going:
            return ended
        code = ended or code
    shelved = _smoke_and_shelve(site, built)
    if isinstance(shelved, int):
        return shelved
    _summary(site, [*(item.shelved for item in todo if item.shelved and not item.reasons), *shelved])
    return code


def clone(site: Site, stack: str, only: Sequence[str]) -> None:
    """Fetch the sources of a stack's projects."""
    for request in pipeline.requests(site, stack, only=only)[0]:
        tree = pipeline.source_tree(site, request)
        site.console.result(f"{request.project} {tree.commit[:12]} ({tree.origin}): {tree.root}")


def apply_patches(site: Site, stack: str, only: Sequence[str]) -> None:
    """Fetch and patch the sources of a stack's projects."""
    for request in pipeline.requests(site, stack, only=only)[0]:
        tree = pipeline.patched_tree(site, request)
        site.console.result(f"{request.project}: {len(tree.patches)} patches: {tree.root}")


def refresh_patches(site: Site, stack: str, project: str) -> None:
    """Rebase a project's series onto the source its pin names."""
    (request,), _ = pipeline.requests(site, stack, only=[project])
    tree = pipeline.source_tree(site, request)
    series = pipeline.series_of(site, request)
    done = refresh.refresh(
        series,
        old=tree,
        new=tree,
        folder=series.folder,
        date=datetime.now(UTC).date().isoformat(),
        store=site.store,
        environment=site.environment,
        console=site.console,
    )
    for patch in done:
        site.console.result(f"{patch.outcome}: {patch.name}")


class _alternatives:  # noqa: N801  a context manager reads as one
    """Add to an error of this machine or of the pin which stacks can be built here."""

    def __init__(self, site: Site, stack: str) -> None:
        self._site, self._stack = site, stack

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, BlackwheelError):
            names = buildable_stacks(self._site)
            others = [f"invoke build-wheels --stack {n}" for n in names if n != self._stack]
            if others:
                error.fix += f"\nthis machine can build: {', '.join(others)}"


def _require_disk(site: Site, stack: stacks.Stack) -> None:
    check = doctor.disk(stack, views.place(site))
    if check.ok is False:
        raise BlackwheelError(
            "disk-too-small",
            check.fact,
            where=str(site.store),
            fix=check.cure,
            code=Exit.MACHINE,
        )


def buildable_stacks(site: Site) -> list[str]:
    """Return the stacks that lack nothing here."""
    place = views.place(site)
    loaded = (stacks.load(name, site.constraints) for name in stacks.names(site.constraints))
    return [stack.name for stack in loaded if not doctor.buildable(stack, place)]


def _opening(site: Site, pending: Sequence[Work], jobs: int) -> None:
    """Say what is known before hours begin; raise `disk-too-small`."""
    for item in pending:
        request, pin = item.request, item.request.pin
        count = pipeline.job_count(request, jobs)
        expected = f", about {duration(pin.cpu_seconds / count)}" if pin.cpu_seconds else ""
        wheel = f"{request.project} {pin.version}+{plan.label(request.stack, pin, request.archs)}"
        site.console.say(f"{wheel} for Python {request.python}: {'; '.join(item.reasons)}")
        say = site.console.say
        say(
            f"{request.project}: {pin.objects or 'unknown'} objects, {count} jobs{expected};"
            " it can be stopped, and continues when started again"
        )
        say(f"{request.project}: log: {site.store / 'builds' / request.slug / 'build.log'}")
    _require_disk(site, pending[0].request.stack)


def _nox(site: Site, session: str, item: Work, options: Sequence[str]) -> int:
    """Run one session with this terminal's output; return the exit code of what ran in it."""
    exit_file = site.store / f"exit-{item.key.digest[:16]}"
    exit_file.parent.mkdir(parents=True, exist_ok=True)
    exit_file.unlink(missing_ok=True)
    words = ["--stack", item.request.stack.name, "--python", item.python.where, *options]
    code = process.hand_over(
        [sys.executable, "-m", "nox", "--session", session, "--", *words],
        environment={**site.environment, EXIT_FILE: str(exit_file)},
        cwd=site.checkout,
    )
    if code and exit_file.exists():
        code = int(exit_file.read_text(encoding="ascii"))
    exit_file.unlink(missing_ok=True)
    return code


def _smoke_and_shelve(site: Site, built: Sequence[Work]) -> list[index.ShelvedWheel] | int:
    """Smoke the candidates alone and together, then shelve all of them, or none."""
    wheels = [wheel for item in built if (wheel := pipeline.candidate(site, item))]
    if not wheels:
        return []
    code = _nox(site, "smoke", built[0], ["--wheels", *map(str, wheels)])
    if code:
        return code
    shelved = []
    for wheel in wheels:
        path = pipeline.receipt_path(wheel)
        document = receipts.load(path)
        faults = receipts.verify(document, wheel)
        if faults:
            raise BlackwheelError(
                "broken-receipt",
                "\n".join(faults),
                where=str(path),
                fix="invoke build-wheels --again",
                code=Exit.INDEX,
            )
        shelf = site.wheels / built[0].request.stack.name
        shelved.append(index.shelve(wheel, document, shelf))
        shutil.rmtree(wheel.parent)
    return shelved


def _summary(site: Site, wheels: Sequence[index.ShelvedWheel]) -> None:
    """End with what was built, what is in it, and the line that installs it."""
    for wheel in wheels:
        held = receipts.sections(receipts.load(wheel.receipt))
        libraries = "\n         ".join(_archs(library) for library in held["audit"]["libraries"])
        slug = held["stack"]["key"]["slug"]
        site.console.result(
            f"wheel    {_short(wheel.path)}\n"
            f"size     {size(wheel.size)}\n"
            f"sha256   {wheel.sha256}\n"
            f"kernels  {libraries}\n"
            f"smoke    {held['smoke']['device']}\n"
            f"receipt  {_short(wheel.receipt)}\n"
            f"log      {site.store / 'builds' / slug / 'build.log'}\n"
        )
    files = " ".join(f"'{_short(wheel.path)}'" for wheel in wheels)
    site.console.result(f"install: python3 -m pip install {files}")


def _archs(library: Any) -> str:
    counts = ", ".join(f"{count} {arch}" for arch, count in library["kernels_by_arch"])
    return f"{library['path']}: {counts or 'host code only'}"


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
