"""The chain for a stack: what is to do, what is done already, and each stage in its process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from blackwheel import (
    archs,
    audit,
    build,
    compiler,
    index,
    isolation,
    locks,
    machine,
    patches,
    plan,
    pythons,
    receipts,
    series,
    sources,
    stacks,
    store,
    toolchain,
    torchpin,
)
from blackwheel.plan import BuildPlan, Key, Request
from blackwheel.site import Site


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One request with its key, and what the shelf already holds for it."""

    request: Request
    python: pythons.Python
    key: Key
    shelved: index.ShelvedWheel | None
    """The wheel of this key on the shelf, if there is one."""
    reasons: tuple[str, ...]
    """Why it must be built; empty when nothing changed."""


def requests(
    site: Site, stack_name: str, *, only: Sequence[str] = (), arch: str = "", python: str = ""
) -> tuple[tuple[Request, ...], pythons.Python]:
    """Resolve what a command line asks for; raises what `stacks`, `archs` and `pythons` raise."""
    stack = stacks.load(stack_name, site.constraints)
    for name in only:
        stack.project(name)
    chosen = pythons.choose(stack, python, environment=site.environment)
    wanted = tuple(str(a) for a in archs.parse_list(arch)) if arch else stack.archs
    names = [name for name in stack.build if not only or name in only]
    return tuple(
        Request(stack=stack, project=name, python=chosen.version, archs=wanted) for name in names
    ), chosen


def isolation_mode(site: Site) -> isolation.Isolation:
    """Return the isolation that this machine allows, or BLACKWHEEL_ISOLATION asks for."""
    return isolation.available_isolation(site.environment.get("BLACKWHEEL_ISOLATION", ""))


def work(site: Site, asked: Request, python: pythons.Python, *, again: bool = False) -> Work:
    """Compare a request's key with the shelf; touches no tree, network or environment."""
    chosen = series_of(site, asked)
    mode = isolation_mode(site).mode
    key = plan.key(asked, series=chosen, constraints=site.constraints, isolation=mode)
    found, before = None, None
    for wheel in index.shelved(site.wheels / asked.stack.name):
        made = wheel.receipt["predicate"]["key"] if wheel.receipt else {}
        if made.get("digest") == key.digest:
            found = wheel
        if made.get("slug") == asked.slug:
            before = made["parts"]
    reasons: tuple[str, ...] = ()
    if again:
        reasons = ("--again was given",)
    elif not found:
        reasons = key.changes(before) if before else ("no wheel of it is on the shelf",)
    return Work(request=asked, python=python, key=key, shelved=found, reasons=reasons)


def series_of(site: Site, asked: Request) -> series.Series:
    """Return the series of a request's project at its version."""
    return series.load_series(site.patches / asked.project / asked.pin.version)


def preflight(site: Site, todo: Sequence[Work]) -> None:
    """Raise at once what would stop a build later: nothing is cloned or compiled before."""
    for item in todo:
        stack = item.request.stack
        torchpin.require_locked(stack)
        compiler.host_compiler(site.environment, cuda=stack.toolchain.cuda)
        if stack.toolchain.source == "host":
            _toolchain(site, item.request)
        pythons.located(item.python, uv=site.uv, environment=site.environment)


def source_tree(site: Site, asked: Request) -> sources.SourceTree:
    """Fetch what the pin names, from git or the sdist of the same release."""
    return sources.fetch(
        asked.project,
        asked.pin,
        store=site.store,
        environment=site.environment,
        console=site.console,
    )


def patched_tree(site: Site, asked: Request) -> patches.PatchedTree:
    """Fetch and patch."""
    return patches.apply(
        source_tree(site, asked),
        series_of(site, asked),
        store=site.store,
        environment=site.environment,
        console=site.console,
    )


def _toolchain(site: Site, asked: Request) -> toolchain.Toolchain:
    return toolchain.toolchain_for(
        asked.stack.toolchain,
        lock=site.constraints / asked.stack.locks / "toolchain.txt",
        store=site.store,
        uv=site.uv,
        environment=site.environment,
        on_line=None,
    )


def job_count(asked: Request, jobs: int = 0) -> int:
    """Return the number of compilers at once: `jobs`, else what cores and memory allow."""
    seen = machine.read()
    largest = plan.largest_object(asked.pin.variables)
    return jobs or plan.job_count(seen.cores, seen.memory_available, largest)


def build_one(
    site: Site, item: Work, *, environment: Path, jobs: int = 0, again: bool = False
) -> Path:
    """Fetch, patch, build and audit one project; return the wheel with its receipt beside it."""
    asked = item.request
    torchpin.require_locked(asked.stack)
    name = asked.slug.replace("/", "-")
    with store.held(site.store, f"build-{name}", project=asked.project, console=site.console):
        folder = site.store / "builds" / asked.slug
        if again:
            shutil.rmtree(folder, ignore_errors=True)
        candidate = _candidate(folder, item.key)
        if candidate:
            site.console.say(f"{asked.project}: {candidate.name} was built before, and audited")
            return candidate
        tree = patched_tree(site, asked)
        count = job_count(asked, jobs)
        lock = asked.lock("build", site.constraints)
        made = BuildPlan(
            request=asked,
            tree=tree,
            torch=torchpin.seen(
                torchpin.site_packages(environment), wheel_sha256=torchpin.locked_digests(lock)
            ),
            toolchain=_toolchain(site, asked),
            environment=environment,
            variables=plan.build_variables(asked, jobs=count),
            jobs=count,
            key=item.key,
        )
        mode = isolation_mode(site)
        if mode.mode != isolation.NAMESPACES:
            site.console.say(
                f"{asked.project}: no namespaces here ({mode.reason}):"
                " the build has no network only as far as proxies go, and is not reproducible"
            )
        built = build.build(
            made,
            store=site.store,
            compiler=compiler.host_compiler(
                site.environment, cuda=made.toolchain.cuda_version
            ),
            mode=mode.mode,
            console=site.console,
        )
        audited = audit_one(site, asked, built.path)
        receipts.write(receipt_path(built.path), receipt(built, audited, lock))
        return built.path


def receipt_path(wheel: Path) -> Path:
    """Return where a wheel's receipt lies."""
    return wheel.with_name(f"{wheel.name}.receipt.json")


def audit_one(site: Site, asked: Request, wheel: Path) -> audit.AuditedWheel:
    """Audit one wheel against its stack; raises with every fatal finding."""
    pin = asked.pin
    with site.console.stage(asked.project, f"audit {wheel.name}"):
        return audit.audit(
            wheel,
            archs=[archs.parse(arch) for arch in asked.archs],
            contracts=pin.contract,
            modules=pin.modules,
            version=f"{pin.version}+{plan.label(asked.stack, pin, asked.archs)}",
            torch=asked.stack.torch.requirement,
            environment=site.environment,
        )


def _candidate(folder: Path, key: Key) -> Path | None:
    """Return the wheel that an earlier run built for this key and could not shelve."""
    for wheel in sorted((folder / "work" / "wheel").glob("*.whl")):
        path = receipt_path(wheel)
        if path.exists():
            document = receipts.load(path)
            if document["predicate"]["key"]["digest"] == key.digest and not receipts.verify(
                document, wheel
            ):
                return wheel
    return None


def receipt(built: build.BuiltWheel, audited: audit.AuditedWheel, lock: Path) -> dict[str, Any]:
    """Return the in-toto statement of a built and audited wheel; smoke adds its own section."""
    made = built.plan
    asked = made.request
    source = made.tree.source
    return receipts.statement(
        built.path.name,
        built.sha256,
        {
            "key": {
                "digest": made.key.digest,
                "slug": asked.slug,
                "parts": dict(made.key.parts),
            },
            "stack": {"name": asked.stack.name, "project": asked.project, "archs": asked.archs},
            "source": {
                "origin": source.origin,
                "url": asked.pin.source.url,
                "commit": source.commit,
                "tree": source.tree,
                "reason": source.reason,
                "nested": [asdict(nested) for nested in source.nested],
            },
            "patches": [asdict(patch) for patch in made.tree.patches],
            "patched_tree": made.tree.tree,
            "torch": asdict(made.torch),
            "toolchain": asdict(replace(made.toolchain, root=Path("cuda"))),
            "environment": {"python": asked.python, "lock": lock.name},
            "variables": dict(made.variables),
            "isolation": built.isolation,
            "build": {
                "size": built.size,
                "seconds": round(built.seconds, 1),
                "cpu_seconds": round(built.cpu_seconds, 1),
                "peak_bytes": built.peak_bytes,
                "jobs": made.jobs,
            },
            "objects": list(built.objects),
            "audit": audited.section(),
        },
    )


def lock_all(site: Site, *, names: Sequence[str] = (), upgrade: bool = False) -> None:
    """Write the hashed pins of every stack that has its own and whose torch can be resolved."""
    for name in names or stacks.names(site.constraints):
        stack = stacks.load(name, site.constraints)
        if stack.locks != name:
            site.console.say(f"{name}: uses the pins of {stack.locks}")
            continue
        if stack.torch.source == "index":
            site.console.say(f"{name}: torch is not locked yet: invoke pin torch …")
            continue
        wanted = [("toolchain", stack.toolchain.requirements, stack.python[0])]
        for project in stack.build:
            pin = stack.projects[project]
            torch = (stack.torch.requirement,)
            for python in stack.python:
                tag = f"py{python.replace('.', '')}"
                wanted.append((f"build-{project}-{tag}", (*torch, *pin.requirements), python))
                wanted.append((f"run-{project}-{tag}", (*torch, *pin.runtime), python))
        for file, requirements, python in wanted:
            if not requirements:
                continue
            changed = locks.compile_lock(
                requirements,
                python=python,
                out=site.constraints / name / f"{file}.txt",
                source=f"constraints/{name}.toml",
                uv=site.uv,
                environment=site.environment,
                upgrade=upgrade,
            )
            site.console.say(f"{name}: {file}.txt {'written' if changed else 'unchanged'}")
