"""Takes one project through source, patches, build, audit and receipt."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from blackwheel.audit import audit
from blackwheel.builder import build, compile_cache, memory_pool, plan, source_folders
from blackwheel.builder.memory_pool import width
from blackwheel.builder.plan import BuildPlan
from blackwheel.core import file_lock, isolation, machine
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site, isolation_mode
from blackwheel.pipeline import receipt, todo
from blackwheel.pipeline.session_file import BuildOrder
from blackwheel.pipeline.todo import Work
from blackwheel.pytorch import archive, identity, installed, reach
from blackwheel.pytorch.installed import show_torch
from blackwheel.receipts import document as receipts
from blackwheel.receipts.beside import key_section, receipt_path
from blackwheel.receipts.document import BEFORE_SMOKE
from blackwheel.shelf import admission
from blackwheel.smoke.checks import tables
from blackwheel.sources import fetch, patch
from blackwheel.sources.series import Series
from blackwheel.stacks import projects, pythons, request
from blackwheel.stacks.request import Request
from blackwheel.toolchain import host_compiler, toolkit


def preflight(site: Site, pending: Sequence[Work]) -> list[Work]:
    """Raise every error that would stop a build later, before anything is cloned or compiled.

    Return the work with each interpreter named by its path: nox looks in fewer places than doctor.
    What the machine lacks is known at once; then whether a pinned wheel can be had; a torch of
    gigabytes is downloaded after that.
    """
    for item in pending:
        identity.require_locked(item.request.stack)
    interpreters = require_machine(site, [(item.request, item.python) for item in pending])
    found = [
        replace(item, python=replace(item.python, where=str(python)))
        for item, python in zip(pending, interpreters, strict=True)
    ]
    _require_reach(site, found)
    for item in found:
        _require_torch(site, item)
    return found


def require_checks(site: Site, pending: Sequence[Work]) -> None:
    """Raise `bad-checks` before hours begin, for kernel checks that could not start after them."""
    for project in sorted({item.request.project for item in pending}):
        file = site.patches / project / projects.CHECKS
        if file.is_file():
            tables.require(file)


def require_machine(site: Site, asked: Sequence[tuple[Request, pythons.Python]]) -> list[Path]:
    """Return the interpreters of builds of one stack; raise the error of an unfit machine.

    Whatever is locked: nothing of the network is asked.
    """
    stack = asked[0][0].stack
    found = [
        pythons.located(chosen, uv=site.uv, environment=site.environment) for _, chosen in asked
    ]
    compiler = host_compiler.host_compiler(site.environment, cuda=stack.toolchain.cuda)
    host_compiler.require_shared_runtime(compiler, site.environment)
    host_compiler.require_gcc(compiler, stack, [request.project for request, _ in asked])
    if stack.toolchain.source == "host":
        _toolchain(site, asked[0][0])
    return found


def _require_reach(site: Site, found: Sequence[Work]) -> None:
    """Say what of a nightly must be downloaded; raise where it cannot be had any more."""
    stack = found[0].request.stack
    if stack.torch.source != "index":
        return
    kept = archive.archive(site.store, site.environment, site.console)
    wanted = reach.require(stack, dict.fromkeys(item.request.tag for item in found), kept)
    if wanted.wheels:
        site.console.say(f"torch: to download: {wanted}")


def _require_torch(site: Site, item: Work) -> None:
    """Raise where the torch of a build cannot be had, or its hashed pins are of another one."""
    stack, lock = item.request.stack, item.request.lock("build", site.constraints)
    if stack.torch.source == "index":
        installed_pins(site, item.request)
    elif stack.torch.source == "installed":
        python = Path(item.python.where)
        installed.require(python, stack, lock, store=site.store, environment=site.environment)
    elif stack.torch.wheels:
        torch = identity.locked_torch(stack, item.request.tag)
        identity.require_in_lock(torch, lock, stack=stack.name)


def installed_pins(site: Site, asked: Request) -> Path:
    """Return the hashed pins of a build as an installer gets them, its torch fetched and kept."""
    kept = archive.archive(site.store, site.environment, site.console)
    lock = asked.lock("build", site.constraints)
    return archive.installable(asked.stack, asked.tag, lock, kept)


def source_tree(site: Site, asked: Request) -> fetch.SourceTree:
    """Fetch the pinned source, from git or the sdist of the same release."""
    return fetch.fetch(site, asked.project, asked.pin)


def patched_tree(site: Site, asked: Request, series: Series) -> patch.PatchedTree:
    """Fetch and patch; raise where a folder that the build needs is absent."""
    tree = patch.apply(site, source_tree(site, asked), series, stack=asked.stack.name)
    source_folders.require_folders(asked, tree.root)
    return tree


def tree_of(site: Site, order: BuildOrder) -> patch.PatchedTree:
    """Return the patched tree of an order, or make it.

    Raises `patched-tree-changed` and `changed-meanwhile`: hours may have passed since the order.
    """
    if order.tree is None:
        return patched_tree(site, order.work.request, todo.read_series(site, order.work))
    try:
        patch.require_unchanged(order.tree)
    except BlackwheelError:
        patched_tree(site, order.work.request, todo.read_series(site, order.work))  # names files
        raise
    return order.tree


def _toolchain(site: Site, asked: Request) -> toolkit.Toolchain:
    return toolkit.toolchain_for(
        asked.stack.toolchain,
        lock=asked.stack.lock(site.constraints, "toolchain"),
        store=site.store,
        uv=site.uv,
        environment=site.environment,
        console=site.console,
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
    paths = isolation.fixed_paths(item.key.part("isolation"), site.store)
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
        known=projects.load(site.patches, asked.project),
        pools=pools,
    )


def build_one(site: Site, order: BuildOrder, *, environment: Path) -> Path:
    """Build and audit the wheel of an order; return it, with its receipt beside it."""
    item, asked = order.work, order.work.request
    name = asked.slug.replace("/", "-")
    with file_lock.held(site.store, f"build-{name}", project=asked.project, console=site.console):
        folder = site.store / "builds" / asked.slug
        if order.again:
            records = folder / "work" / "objects.jsonl"
            memory_pool.keep_history(site.store, asked.project, asked.slug, records)
            shutil.rmtree(folder, ignore_errors=True)
        before = candidate(site, item)
        if before:
            site.console.say(f"{asked.project}: {before.name} was built and audited before")
            return before
        todo.require_locks(site, item)
        started = datetime.now(UTC)
        tree = tree_of(site, order)
        pools = memory_pool.locks(site.environment)
        count = width(site, asked, order.jobs).most
        free = machine.read_machine().memory_available
        queued = count if order.jobs or not pools else plan.queued(count, free)
        beside = show_torch(site, asked.stack, item.python, environment)
        made = build_plan(
            site, item, tree, environment=environment, jobs=count, queued=queued, pools=pools
        )
        built = _built(site, made, order.lock)
        with site.console.stage(asked.project, "audit the wheel") as stage:
            audited = audit.audit(
                built.path,
                expected=audit.expectation(asked),
                exports=audit.exports_of(
                    environment,
                    store=site.store,
                    cuda=made.toolchain.root if beside else None,
                    beside=asked.pin.beside,
                ),
                built=built,
            )
            stage.conclude("kernels, symbols and metadata are what the stack asks for")
        document = receipt.receipt(
            audited, order.lock, started=started, finished=datetime.now(UTC), installed=beside
        )
        receipts.write(receipt_path(built.path), document)
        return built.path


def _built(site: Site, made: BuildPlan, lock: Path) -> build.BuiltWheel:
    """Compile, isolated as the key says."""
    mode = made.key.part("isolation")
    if mode != isolation.NAMESPACES:
        site.console.say(
            f"{made.request.project}: no namespaces here ({isolation_mode(site).reason}):"
            " the build has no network only as far as proxies go, and is not reproducible"
        )
    return build.build(
        made,
        store=site.store,
        compiler=host_compiler.host_compiler(site.environment, cuda=made.toolchain.cuda_version),
        mode=mode,
        console=site.console,
        lock=lock,
        cached=compile_cache.found(site.environment, site.store),
    )


def candidate(site: Site, item: Work) -> Path | None:
    """Return the audited wheel of this key that is not on the shelf yet.

    Whoever may write the store can plant one: it is held to everything that a shelf asks for
    before any of its code runs, and one with a fault is named and built anew.
    """
    folder = site.store / "builds" / item.request.slug / "work" / "wheel"
    for wheel in sorted(folder.glob("*.whl")):
        if not is_candidate(item, wheel):
            continue
        done = admission.examined(site, wheel, item.request, key=item.key, smoked=False)
        if not done.faults:
            return wheel
        for check in done.faults:
            fact = f"{check.what}: {check.found or 'nothing'}"
            site.console.say(f"{item.request.project}: {wheel.name} is built anew: {fact}")
    return None


def is_candidate(item: Work, wheel: Path) -> bool:
    """Tell whether a wheel has a whole receipt but for smoke, of the key of this work."""
    path = receipt_path(wheel)
    if not path.exists() or key_section(path).get("digest") != item.key.digest:
        return False
    return not receipts.verify(receipts.load(path), wheel, stages=BEFORE_SMOKE)
