"""Runs one isolated build without network: takes a BuildPlan, returns a BuiltWheel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blackwheel.builder import (
    compile_cache,
    compile_fault,
    memory_pool,
    network_attempts,
    objects,
    reuse,
    source_files,
    timeline,
    waiting,
)
from blackwheel.builder.compile_cache import Cache
from blackwheel.builder.compiling import Progress
from blackwheel.builder.plan import BuildPlan
from blackwheel.builder.workspace import Workshop, command, prepare, through_cache
from blackwheel.core import isolation, machine, process
from blackwheel.core.console import Console
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.units import duration, size
from blackwheel.pytorch import identity
from blackwheel.sources import patch
from blackwheel.sources.tree import Rows
from blackwheel.stacks.locks import lock_text
from blackwheel.toolchain.host_compiler import Compiler


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltWheel:
    """A wheel just built, with the cost of its build."""

    plan: BuildPlan
    path: Path
    sha256: str
    size: int
    objects: tuple[dict[str, Any], ...]
    """What the launcher recorded of each object that is in the wheel, also from earlier runs."""
    seconds: float
    """Wall seconds of the last run."""
    cpu_seconds: float
    peak_bytes: int
    """The largest resident set of one compiler process."""
    isolation: str
    argv: tuple[str, ...]
    """The upstream build's command line, at the fixed paths."""
    variables: Mapping[str, str]
    """Its whole environment."""
    log: Path


def build(
    plan: BuildPlan,
    *,
    store: Path,
    compiler: Compiler,
    mode: str,
    console: Console,
    lock: Path,
    cached: Cache | None = None,
) -> BuiltWheel:
    """Compile and pack one wheel; raise `build-failed` with the failing object's own words.

    Stopped at any moment, the next call continues with the objects that are already compiled.
    """
    request = plan.request
    workshop = Workshop(root=store / "builds" / request.slug)
    log = workshop.root / "build.log"
    packages = identity.site_packages(plan.environment)
    torch = identity.seen(packages, store=store)
    identity.check(torch, request.stack.torch, where=str(plan.environment))
    reuse.begin_anew_unless_same(
        workshop,
        reuse.made_with(plan, torch, compiler, mode, lock=lock_text(lock)),
        store=store,
        slug=request.slug,
        project=request.project,
        objects=plan.objects,
        console=console,
    )
    wanted = patch.require_unchanged(plan.tree)
    _drop_unproved(plan, workshop, wanted, isolation.fixed_paths(mode, store), console)
    prepare(plan, workshop, compiler)
    known = memory_pool.history(store, request.project)
    cores = max(plan.jobs, machine.read_machine().cores)
    settle = memory_pool.SETTLE if plan.queued > plan.jobs else 0
    expected = memory_pool.settings(
        plan.pools,
        cores,
        known,
        plan.known.build.costs,
        settle=settle,
        # Other machines compile what a distributed cache lacks: no step of it runs here.
        cached=cached is not None and not cached.distributed,
    )
    workshop.expected.write_text(expected, encoding="utf-8")
    Path(f"{workshop.expected}.failed").unlink(missing_ok=True)
    log.write_text("", encoding="utf-8")
    spec, variables = command(plan, workshop, store, compiler, mode)
    argv = spec.argv
    secret: dict[str, str] = {}
    if cached:
        spec, variables, secret = through_cache(cached, spec, variables, workshop, plan, compiler)
    isolated = isolation.isolated_command(spec, workshop.root / "isolation.json")
    files = source_files.require_patched(plan, workshop, wanted)
    with (
        console.stage(request.project, "compile") as stage,
        waiting.said(plan.pools, lambda why: console.say(f"{request.project}: {why}")) as beside,
    ):
        compiled = len(_recorded(workshop, plan.objects))
        before = _hits(workshop)
        progress = Progress(
            plan.request.pin,
            stage,
            jobs=plan.jobs,
            compiled=compiled,
            hits=lambda: _hits(workshop) - before,
            beside=beside,
        )
        with progress.shown():
            done = process.run(
                isolated,
                environment={**variables, **secret},
                cwd=workshop.root,
                log=log,
                on_line=progress.line,
                umask=0o022,  # modes of files go into the wheel
            )
        if done.code != 0:
            raise failure(plan, log, done.code, noted=workshop.heard)
        source_files.require_untouched(plan, workshop, files)
        stage.update(progress.total, progress.total)
        recorded = _recorded(workshop, plan.objects)
        cpu = sum(line["cpu_seconds"] for line in recorded)
        stage.conclude(f"{len(recorded)} objects, {duration(cpu)} of CPU")
        seconds = stage.elapsed
    asked = network_attempts.hosts(workshop.heard, ())
    if asked:
        hosts = ", ".join(asked)
        console.say(f"{request.project}: the build asked for {hosts}, and did without")
    seen = compile_cache.figures(workshop.cached)
    if seen:
        console.say(f"{request.project}: {compile_cache.told(seen)}")
    wheel = _the_wheel(plan, workshop, log)
    content = wheel.read_bytes()
    console.say(f"{request.project}: packed {wheel.name}, {size(len(content))}")
    return BuiltWheel(
        plan=plan,
        path=wheel,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        objects=recorded,
        seconds=seconds,
        cpu_seconds=cpu,
        peak_bytes=max((line["peak_bytes"] for line in recorded), default=0),
        isolation=mode,
        argv=argv,
        variables=variables,
        log=log,
    )


def _drop_unproved(
    plan: BuildPlan, workshop: Workshop, wanted: Rows, paths: isolation.Paths, console: Console
) -> None:
    """Remove the objects of an earlier run that these sources would not give."""
    folders = {paths.src: workshop.src, paths.work: workshop.work, paths.tmp: workshop.tmp}
    tree = objects.Tree(
        src=workshop.src,
        folders=folders,
        patched=plan.tree.root,
        wanted=wanted,
        before=patch.synced(workshop.manifest),
    )
    if count := tree.drop_unproved():
        what = "object was" if count == 1 else "objects were"
        console.say(
            f"{plan.request.project}: {count} {what} compiled from other contents than those of"
            " now: compiled again"
        )


def _hits(workshop: Workshop) -> int:
    """Count the objects that came out of the compile cache, in all runs so far."""
    return sum(bool(line["cached"]) for line in timeline.records(workshop.records))


def _recorded(workshop: Workshop, objects: str) -> tuple[dict[str, Any], ...]:
    """Return the last successful record of each object that lies in the build tree.

    `objects` is the glob of the folder where they land.
    """
    lines = timeline.records(workshop.records)
    latest = {line["object"]: line for line in lines if line["exit"] == 0 and line["object"]}
    there = {path.name for path in workshop.src.glob(f"{objects}/**/*.o")}
    kept = [line for line in latest.values() if Path(line["object"]).name in there]
    return tuple(sorted(kept, key=lambda line: str(line["object"])))


def failure(plan: BuildPlan, log: Path, code: int, *, noted: Path) -> BlackwheelError:
    """Return the error of a failed build: the failing object's own words, not the last lines."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    refused = [line for line in lines if line.startswith("blackwheel: refused ")]
    killed = [line for line in lines if line.startswith("blackwheel: killed ")]
    said = compile_fault.block(lines)[: process.TAIL_LINES]
    said = said or _without_frames(lines)[-process.TAIL_LINES :]
    words = "\n".join(line[:400] for line in said)
    stopped = code in (130, 143)
    if killed and not stopped:
        return _out_of_memory(plan, killed[0].removeprefix("blackwheel: killed "), log)
    asked = network_attempts.hosts(noted, lines)
    if asked and not refused and not stopped:
        what = f"{plan.request.project} {plan.request.pin.version}"
        return network_attempts.refused(what, asked, words, log=log)
    if compile_fault.is_disk_full(words) and not refused and not stopped:
        return _disk_full(plan, words, log)
    series = f"{plan.request.project}/{plan.request.pin.version}/"
    return BlackwheelError(
        "build-stopped" if stopped else "wrong-arch" if refused else "build-failed",
        f"{plan.request.project} {plan.request.pin.version} "
        + (
            "was stopped; the objects already compiled are kept"
            if stopped
            else f"{refused[0].removeprefix('blackwheel: ')}"
            if refused
            else f"ended with exit code {code}\n{words}"
        ),
        where=str(log),
        fix=f"correct the patch or the variable that hands the archs to nvcc: patches/{series}"
        if refused
        else compile_fault.CONTINUES
        if stopped
        else compile_fault.cure(words),
        code=Exit.STOPPED if stopped else Exit.BUILD,
    )


def _disk_full(plan: BuildPlan, words: str, log: Path) -> BlackwheelError:
    """Say which disk is full: the build tree and the compilers' temporary files share one."""
    return BlackwheelError(
        "disk-full",
        f"{plan.request.project} {plan.request.pin.version} had no room for its files\n{words}",
        where=str(log.parent),
        fix="free space there, or export BLACKWHEEL_HOME=/a/larger/folder; then the same command:"
        " nothing that compiled is lost",
        code=Exit.MACHINE,
    )


def _out_of_memory(plan: BuildPlan, source: str, log: Path) -> BlackwheelError:
    """Say what a person would look for in the kernel's log: no `-j` is to blame any more."""
    name = source.partition(": ")[0]
    return BlackwheelError(
        "out-of-memory",
        f"{plan.request.project} {plan.request.pin.version}: {Path(name).name}"
        " was killed twice, the second time with no other object beside it",
        where=str(log),
        fix="close other programs or raise the memory limit, then run the same command again:"
        " it continues with the objects already compiled",
        code=Exit.BUILD,
    )


def _without_frames(lines: list[str]) -> list[str]:
    """Drop the frames of Python's tracebacks: the exception's own line says what a person needs."""
    kept, inside = [], False
    for line in lines:
        inside = line.startswith("Traceback (") or (inside and line.startswith(" "))
        if not inside:
            kept.append(line)
    return kept


def _the_wheel(plan: BuildPlan, workshop: Workshop, log: Path) -> Path:
    wheels = sorted((workshop.work / "wheel").glob("*.whl"))
    if len(wheels) != 1:
        raise BlackwheelError(
            "not-one-wheel",
            f"the build of {plan.request.project} left {len(wheels)} wheels",
            where=str(log),
            fix="read the log; a build must end with exactly one",
            code=Exit.BUILD,
        )
    return wheels[0]
