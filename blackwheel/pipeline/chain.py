"""Takes one project through source, patches, build, audit and receipt."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from blackwheel.audit import audit
from blackwheel.builder import build, compile_cache, memory_pool, plan, source_folders
from blackwheel.builder.memory_pool import width
from blackwheel.builder.plan import BuildPlan
from blackwheel.core import file_lock, isolation
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site, isolation_mode
from blackwheel.pipeline import receipt
from blackwheel.pipeline.todo import Work
from blackwheel.pytorch import archive, identity, installed
from blackwheel.pytorch.installed import show_torch
from blackwheel.receipts import document as receipts
from blackwheel.receipts.beside import key_section, receipt_path
from blackwheel.receipts.document import BEFORE_SMOKE
from blackwheel.sources import fetch, patch
from blackwheel.sources.series import series_of
from blackwheel.stacks import pythons, request
from blackwheel.stacks.request import Request
from blackwheel.toolchain import host_compiler, toolkit


def preflight(site: Site, todo: Sequence[Work]) -> None:
    """Raise every error that would stop a build later, before anything is cloned or compiled."""
    for item in todo:
        stack = item.request.stack
        identity.require_locked(stack)
        if stack.torch.source == "index":
            installed_pins(site, item.request)
        elif stack.torch.wheels:
            torch = archive.locked_torch(stack, item.request.tag)
            lock = item.request.lock("build", site.constraints)
            archive.require_in_lock(torch, lock, stack=stack.name)
        python = pythons.located(item.python, uv=site.uv, environment=site.environment)
        if stack.torch.source == "installed":
            lock = item.request.lock("build", site.constraints)
            installed.require(python, stack, lock, store=site.store, environment=site.environment)
        found = host_compiler.host_compiler(site.environment, cuda=stack.toolchain.cuda)
        host_compiler.require_gcc(found, stack, [item.request.project])
        if stack.toolchain.source == "host":
            _toolchain(site, item.request)


def installed_pins(site: Site, asked: Request) -> Path:
    """Return the hashed pins of a build as an installer gets them, its torch fetched and kept."""
    kept = archive.archive(site.store, site.environment, site.console)
    lock = asked.lock("build", site.constraints)
    return archive.installable(asked.stack, asked.tag, lock, kept)


def source_tree(site: Site, asked: Request) -> fetch.SourceTree:
    """Fetch the pinned source, from git or the sdist of the same release."""
    return fetch.fetch(
        asked.project,
        asked.pin,
        store=site.store,
        environment=site.environment,
        console=site.console,
    )


def patched_tree(site: Site, asked: Request) -> patch.PatchedTree:
    """Fetch and patch; raise where a folder that the build needs is absent."""
    try:
        tree = patch.apply(
            source_tree(site, asked),
            series_of(site, asked),
            store=site.store,
            environment=site.environment,
            console=site.console,
        )
    except BlackwheelError as error:
        if error.name == "stale-patch":  # patches know no stack, and the command must
            error.fix += f" --stack {asked.stack.name}"
        raise
    source_folders.require_folders(asked, tree.root)
    return tree


def _toolchain(site: Site, asked: Request) -> toolkit.Toolchain:
    return toolkit.toolchain_for(
        asked.stack.toolchain,
        lock=site.constraints / asked.stack.locks / "toolchain.txt",
        store=site.store,
        uv=site.uv,
        environment=site.environment,
        on_line=None,
    )


def build_plan(
    site: Site,
    item: Work,
    tree: patch.PatchedTree,
    *,
    environment: Path,
    jobs: int,
    queued: int = 0,
    pools: tuple[tuple[Path, str], ...] = (),
) -> BuildPlan:
    """Collect all inputs for a build of this tree.

    `jobs` compilers run at once; of `queued`, where more is asked for, the others wait in a pool.
    """
    asked = item.request
    paths = isolation.fixed_paths(isolation_mode(site).mode, site.store)
    lock = asked.lock("build", site.constraints)
    return BuildPlan(
        request=asked,
        tree=tree,
        torch=identity.seen(
            identity.site_packages(environment),
            wheel_sha256=identity.locked_digests(lock),
            store=site.store,
        ),
        toolchain=_toolchain(site, asked),
        environment=environment,
        variables=request.build_variables(asked, jobs=queued or jobs, paths=paths),
        jobs=jobs,
        queued=queued or jobs,
        key=item.key,
        pools=pools,
    )


def build_one(
    site: Site, item: Work, *, environment: Path, jobs: int = 0, again: bool = False
) -> Path:
    """Fetch, patch, build and audit one project; return the wheel with its receipt beside it."""
    asked = item.request
    identity.require_locked(asked.stack)
    name = asked.slug.replace("/", "-")
    with file_lock.held(site.store, f"build-{name}", project=asked.project, console=site.console):
        folder = site.store / "builds" / asked.slug
        if again:
            records = folder / "work" / "objects.jsonl"
            memory_pool.keep_history(site.store, asked.project, asked.slug, records)
            shutil.rmtree(folder, ignore_errors=True)
        before = candidate(site, item)
        if before:
            site.console.say(f"{asked.project}: {before.name} was built and audited before")
            return before
        started = datetime.now(UTC)
        tree = patched_tree(site, asked)
        pools = memory_pool.locks(site.environment)
        count = width(site, asked, jobs).most
        queued = count if jobs or not pools else count * plan.QUEUED
        lock = asked.lock("build", site.constraints)
        beside = show_torch(site, asked.stack, item.python, environment)
        made = build_plan(
            site, item, tree, environment=environment, jobs=count, queued=queued, pools=pools
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
            compiler=host_compiler.host_compiler(
                site.environment, cuda=made.toolchain.cuda_version
            ),
            mode=mode.mode,
            console=site.console,
            lock=lock,
            cached=compile_cache.found(site.environment, site.store),
        )
        with site.console.stage(asked.project, f"audit {built.path.name}") as stage:
            audited = audit.audit(
                built.path,
                expected=audit.expectation(asked),
                exports=audit.exports_of(
                    environment, store=site.store, cuda=made.toolchain.root if beside else None
                ),
                built=built,
            )
            stage.conclude("kernels, symbols and metadata are what the stack asks for")
        finished = datetime.now(UTC)
        document = receipt.receipt(
            audited, lock, started=started, finished=finished, installed=beside
        )
        receipts.write(receipt_path(built.path), document)
        return built.path


def candidate(site: Site, item: Work) -> Path | None:
    """Return the audited wheel of this key that is not on the shelf yet."""
    folder = site.store / "builds" / item.request.slug / "work" / "wheel"
    for wheel in sorted(folder.glob("*.whl")):
        path = receipt_path(wheel)
        if path.exists():
            faults = receipts.verify(receipts.load(path), wheel, stages=BEFORE_SMOKE)
            if not faults and key_section(path).get("digest") == item.key.digest:
                return wheel
    return None
