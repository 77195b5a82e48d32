"""Builds every due project in its nox session, then smokes and shelves the wheels."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from blackwheel.builder import compile_cache, memory_pool, plan
from blackwheel.core import file_lock, isolation
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site, isolation_mode
from blackwheel.doctor import for_building
from blackwheel.pipeline import chain, sessions
from blackwheel.pipeline.todo import Work, taken_labels, work
from blackwheel.pytorch import identity, nightly_index
from blackwheel.receipts import beside
from blackwheel.receipts import document as receipts
from blackwheel.shelf import index
from blackwheel.stacks import loader, pythons, records
from blackwheel.stacks.request import Request


def build_pending(
    site: Site,
    stack: str,
    pending: Sequence[Work],
    *,
    options: Sequence[str],
    jobs: int,
    again: bool,
    keep_going: bool,
    replace_shelved: bool = False,
) -> tuple[int, tuple[index.ShelvedWheel, ...]]:
    """Build, smoke and shelve; return the exit code and the newly shelved wheels.

    `options` are handed on to `python -m blackwheel build`. Two runs of one stack and Python would
    change each other's environments and wheel: the second waits, and looks at the shelf again.
    """
    with alternatives(site, stack):
        chain.preflight(site, pending)
    pending = [with_located_python(site, item) for item in pending]
    taken = taken_labels(site, pending)
    if taken and not replace_shelved:
        raise _label_taken(*taken[0])
    with contextlib.ExitStack() as held:
        for python in sorted({item.request.python for item in pending}):
            name, project = f"run-{stack}-py{python}", pending[0].request.project
            lock = file_lock.held(site.store, name, project=project, console=site.console)
            held.enter_context(lock)
        looked = [work(site, item.request, item.python, again=again) for item in pending]
        shelved = tuple(item.shelved for item in looked if item.shelved and not item.reasons)
        todo = [item for item in looked if item.reasons]
        code, new = _built(site, todo, options, jobs=jobs, again=again, keep_going=keep_going)
        return code, (*shelved, *new)


def _built(
    site: Site,
    pending: Sequence[Work],
    options: Sequence[str],
    *,
    jobs: int,
    again: bool,
    keep_going: bool,
) -> tuple[int, tuple[index.ShelvedWheel, ...]]:
    if pending:
        _opening(site, pending, jobs)
    code, built, todo = 0, [], []
    for item in pending:
        if not again and chain.candidate(site, item):
            built.append(item)
            continue
        try:
            chain.patched_tree(site, item.request)  # all sources are at hand before hours begin
        except BlackwheelError as error:
            if not keep_going:
                raise
            site.console.error(error)
            code = code or int(error.code)
            continue
        todo.append(item)
    lanes = _lanes(site, todo, options, jobs=jobs)
    ended, done = sessions.run(site, lanes, keep_going=keep_going)
    code = code or ended
    if code and not keep_going:
        return code, ()
    for item in done:
        if chain.candidate(site, item):
            built.append(item)
            continue
        changed = _changed_meanwhile(item)
        if not keep_going:
            raise changed
        site.console.error(changed)
        code = code or int(changed.code)
    ended, shelved = _smoke_and_shelve(site, [item for item in pending if item in built])
    return code or ended, shelved


def _changed_meanwhile(item: Work) -> BlackwheelError:
    """Say that what was built is not what was asked for."""
    request = item.request
    return BlackwheelError(
        "changed-meanwhile",
        f"pins, patches or locks of {request.project} changed before its build for Python"
        f" {request.python} began: its wheel is of another key",
        where=f"constraints/{request.stack.name}.toml, patches/{request.project}/",
        fix="run the same command again",
        code=Exit.BUILD,
    )


def with_located_python(site: Site, item: Work) -> Work:
    """Name the interpreter by path: nox looks in fewer places than doctor."""
    path = pythons.located(item.python, uv=site.uv, environment=site.environment)
    return replace(item, python=replace(item.python, where=str(path)))


def _label_taken(item: Work, wheel: index.ShelvedWheel, parts: dict[str, str]) -> BlackwheelError:
    """Say it now rather than after hours: installers keep what they hold under the same label."""
    request = item.request
    known = f"{request.project} {wheel.version} is on the shelf, built from something else"
    return BlackwheelError(
        "label-taken",
        "\n".join([known, *item.key.changes(parts)]),
        where=f"constraints/{request.stack.name}.toml",
        fix=f"raise projects.{request.project}.revision to {request.pin.revision + 1}\n"
        "or, while you try things out: --replace takes the old wheel off the shelf",
        code=Exit.INDEX,
    )


def require_locked(site: Site, stack: records.Stack) -> None:
    """Raise `torch-not-locked`, with the stacks that can be built instead."""
    with alternatives(site, stack.name):
        identity.require_locked(stack)


@contextlib.contextmanager
def alternatives(site: Site, stack: str) -> Iterator[None]:
    """Add the other stacks that this machine can build to an error about machine or pin."""
    try:
        yield
    except BlackwheelError as error:
        names = [name for name in buildable_stacks(site) if name != stack]
        if names:
            lines = ", ".join(f"invoke build-wheels --stack {name}" for name in names)
            error.fix += f"\nthis machine can build: {lines}"
        raise


def _place(site: Site) -> for_building.Place:
    return for_building.Place(
        environment=site.environment, store=site.store, constraints=site.constraints
    )


def buildable_stacks(site: Site) -> list[str]:
    """Return the stacks for which this machine lacks nothing, and that were seen to be built.

    Those that are kept for their old wheels are left out.
    """
    place, found = _place(site), []
    for name in loader.names(site.constraints):
        with contextlib.suppress(BlackwheelError):  # a broken stack cannot be built
            stack = loader.load(name, site.constraints)
            known = not stack.remarks and not stack.formerly
            if known and not for_building.buildable(stack, place):
                found.append(name)
    return found


def _opening(site: Site, pending: Sequence[Work], jobs: int) -> None:
    """Say what is known before hours begin; raise `disk-too-small`."""
    age = nightly_index.age_line(pending[0].request.stack, datetime.now(UTC).date())
    for line in filter(None, (age, *pending[0].request.stack.remarks)):
        site.console.say(line)
    for item in pending:
        request, pin = item.request, item.request.pin
        wide, cost = memory_pool.width(site, request, jobs), plan.cpu_seconds(request)
        expected = f", about {wide.took(cost)}" if cost else ""
        expected += " alone" if expected and len(pending) > 1 else ""
        wheel = f"{request.project} {request.version}"
        site.console.say(f"{wheel} for Python {request.python}: {'; '.join(item.reasons)}")
        say = site.console.say
        say(
            f"{request.project}: {pin.objects or 'unknown'} objects, {wide} at once{expected};"
            " it can be stopped, and continues when started again"
        )
        say(f"{request.project}: log: {site.store / 'builds' / request.slug / 'build.log'}")
    _require_disk(site, pending)


def without_words(request: Request) -> list[str]:
    """Return `--without` for one project's session, with that project's own parts."""
    return ["--without", ",".join(request.without)] if request.without else []


def _lanes(
    site: Site, pending: Sequence[Work], options: Sequence[str], *, jobs: int
) -> dict[str, list[sessions.Session]]:
    """Put what can be built at the same time into lanes of their own.

    The Pythons of a project share a lane where there is a compile cache: the second finds there
    what the first compiled. All share one where a build's paths are not its own, where nothing
    shares out memory, and where a number of jobs was asked for.
    """
    pooled = memory_pool.folder(site.environment) is not None and not jobs
    apart = pooled and isolation_mode(site).mode == isolation.NAMESPACES
    cached = compile_cache.found(site.environment, site.store) is not None
    several = len({item.request.python for item in pending}) > 1
    found: dict[str, list[sessions.Session]] = {}
    for item in pending:
        request = item.request
        name = request.project if apart else ""
        if apart and several and not cached:
            name += f" {request.python}"
        words = [*options, *without_words(request)]
        one = sessions.session(site, f"build({request.project})", item, words)
        found.setdefault(name, []).append(one)
    return found


def _smoke_and_shelve(
    site: Site, built: Sequence[Work]
) -> tuple[int, tuple[index.ShelvedWheel, ...]]:
    """Smoke the candidates of each Python alone and together, then shelve all of it, or none."""
    code, shelved = 0, list[index.ShelvedWheel]()
    for python in dict.fromkeys(item.request.python for item in built):
        items = [item for item in built if item.request.python == python]
        wheels = [wheel for item in items if (wheel := chain.candidate(site, item))]
        words = ["--wheels", *map(str, wheels)]
        ended = sessions.alone(site, sessions.session(site, "smoke", items[0], words))
        if ended:
            code = code or ended
        else:
            shelved += _shelve(site, items, wheels)
            index.show_all(site.wheels)
    return code, tuple(shelved)


def _shelve(site: Site, items: Sequence[Work], wheels: Sequence[Path]) -> list[index.ShelvedWheel]:
    """Shelve smoked wheels; one of the same name that is there was allowed to be replaced."""
    taken, shelved = taken_labels(site, items), []
    shelf = site.wheels / items[0].request.stack.name
    for wheel in wheels:
        path = beside.receipt_path(wheel)
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
        for _, old, _ in taken:
            if old.path.name == wheel.name:
                index.withdraw(old, shelf)
        shelved.append(index.shelve(wheel, document, shelf))
        shutil.rmtree(wheel.parent)
    return shelved


def _require_disk(site: Site, pending: Sequence[Work]) -> None:
    check = for_building.disk(
        pending[0].request.stack,
        _place(site),
        trees=len(pending),
        pythons=len({item.request.python for item in pending}),
    )
    if check.ok is False:
        raise BlackwheelError(
            "disk-too-small",
            check.fact,
            where=str(site.store),
            fix=check.cure,
            code=Exit.MACHINE,
        )
