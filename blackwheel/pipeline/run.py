"""Builds every due project in its nox session, then smokes and shelves the wheels."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from blackwheel.builder import compile_cache, memory_pool, timeline
from blackwheel.builder.spent import spent
from blackwheel.core import file_lock, isolation
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.doctor import for_building
from blackwheel.pipeline import chain, sessions, smoke_session, todo
from blackwheel.pipeline.session_file import BuildOrder, SmokeOrder, build_order
from blackwheel.pipeline.sessions import Outcome
from blackwheel.pipeline.todo import Work, taken_labels
from blackwheel.pytorch import identity, nightly_index
from blackwheel.shelf import admission, index
from blackwheel.stacks import loader, pythons, records
from blackwheel.stacks.records import Stack
from blackwheel.stacks.request import Request

_Built = list[tuple[Work, Path]]
"""What was built and audited, in the order in which it was asked for."""


def build_pending(
    site: Site,
    stack: str,
    pending: Sequence[Work],
    *,
    jobs: int,
    again: bool,
    keep_going: bool,
    replace_shelved: bool = False,
) -> tuple[int, tuple[index.ShelvedWheel, ...]]:
    """Build, smoke and shelve; return the exit code and the newly shelved wheels.

    Two runs of one stack and Python would change each other's environments and wheel: the second
    waits, and looks at the shelf again.
    """
    chain.require_checks(site, pending)
    with alternatives(site, stack):
        pending = chain.preflight(site, pending)
    taken = taken_labels(site, pending)
    if taken and not replace_shelved:
        raise _label_taken(*taken[0])
    with contextlib.ExitStack() as held:
        for python in sorted({item.request.python for item in pending}):
            name, project = f"run-{stack}-py{python}", pending[0].request.project
            lock = file_lock.held(site.store, name, project=project, console=site.console)
            held.enter_context(lock)
        looked = [todo.looked_up(site, item, again=again) for item in pending]
        shelved = tuple(item.shelved for item in looked if item.shelved and not item.reasons)
        missing = [item for item in looked if item.reasons]
        code, built = _built(site, missing, jobs=jobs, again=again, keep_going=keep_going)
        if code and not keep_going:
            return code, shelved
        ended, new = _smoke_and_shelve(site, built)
        return code or ended, (*shelved, *new)


def _built(
    site: Site, pending: Sequence[Work], *, jobs: int, again: bool, keep_going: bool
) -> tuple[int, _Built]:
    """Build what is not built yet; return the exit code of the first failure, and all wheels."""
    if pending:
        _opening(site, pending, jobs)
    code, orders = 0, []
    wheels: dict[str, Path] = {}
    for item in pending:
        wheel = None if again else chain.candidate(site, item)
        if wheel:
            wheels[item.request.slug] = wheel
            continue
        try:
            orders.append(_order(site, item, jobs=jobs, again=again))
        except BlackwheelError as error:
            if not keep_going:
                raise
            site.console.error(error)
            code = code or int(error.code)
    lanes = _lanes(site, orders, jobs=jobs)
    ended, done = sessions.run(site, lanes, keep_going=keep_going)
    code = code or ended
    if code and not keep_going:
        return code, []
    for outcome in done:
        try:
            wheels[outcome.item.request.slug] = _made(outcome)
        except BlackwheelError as error:
            if not keep_going:
                raise
            site.console.error(error)
            code = code or int(error.code)
    slugs = [(item, item.request.slug) for item in pending]
    return code, [(item, wheels[slug]) for item, slug in slugs if slug in wheels]


def _order(site: Site, item: Work, *, jobs: int, again: bool) -> BuildOrder:
    """Tell a session all of it; its sources are at hand before hours begin."""
    tree = chain.patched_tree(site, item.request, todo.read_series(site, item))
    lock = chain.installed_pins(site, item.request)
    return build_order(item, lock, tree=tree, jobs=jobs, again=again)


def _made(outcome: Outcome) -> Path:
    """Return the wheel that a session made; raise `wheel-missing` where it is of no such key."""
    wheel, request = outcome.wheel, outcome.item.request
    if wheel and chain.is_candidate(outcome.item, wheel):
        return wheel
    raise BlackwheelError(
        "wheel-missing",
        f"the build of {request.project} for Python {request.python} ended well, and no audited"
        f" wheel of its key is there: {outcome.item.key.digest}",
        where=str(wheel or request.slug),
        fix="run the same command again",
        code=Exit.BUILD,
    )


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


def require_machine(site: Site, asked: Sequence[tuple[Request, pythons.Python]]) -> None:
    """Raise the error of an unfit machine, with the stacks that it can build instead."""
    with alternatives(site, asked[0][0].stack.name):
        chain.require_machine(site, asked)


@contextlib.contextmanager
def alternatives(site: Site, stack: str) -> Iterator[None]:
    """Note the other stacks that this machine can build on an error about machine or pin.

    Only those that build a project of this one: a stack of another upstream replaces nothing.
    """
    try:
        yield
    except BlackwheelError as error:
        known = loader.load(stack, site.constraints).projects
        names = [
            one.name
            for one in buildable_stacks(site)
            if one.name != stack and not known.keys().isdisjoint(one.build)
        ]
        if names:
            lines = ", ".join(f"invoke build-wheels --stack {name}" for name in names)
            error.add_note(f"this machine can build: {lines}")
        raise


def buildable_stacks(site: Site) -> list[Stack]:
    """Return the stacks for which this machine lacks nothing, and that were seen to be built.

    Those that are kept for their old wheels are left out.
    """
    place, found = for_building.place(site), []
    for name in loader.names(site.constraints):
        with contextlib.suppress(BlackwheelError):  # a broken stack cannot be built
            stack = loader.load(name, site.constraints)
            known = not stack.remarks and not stack.formerly
            if known and not for_building.buildable(stack, place):
                found.append(stack)
    return found


def _opening(site: Site, pending: Sequence[Work], jobs: int) -> None:
    """Say what is known before hours begin; raise `disk-too-small`."""
    age = nightly_index.age_line(pending[0].request.stack, datetime.now(UTC).date())
    for line in filter(None, (age, *pending[0].request.stack.remarks)):
        site.console.say(line)
    for item in pending:
        request, pin = item.request, item.request.pin
        wide = memory_pool.width(site, request, jobs)
        before = _compiled(site, request)
        before = min(before, pin.objects or before)
        took = spent(site, request).rest(before, pin.objects).took(wide)
        expected = f", about {took}" if took else ""
        expected += " alone" if expected and len(pending) > 1 else ""
        wheel = f"{request.project} {request.version}"
        site.console.say(f"{wheel} for Python {request.python}: {'; '.join(item.reasons)}")
        say = site.console.say
        said = f"{pin.objects or 'unknown'} objects"
        said += f", {before} of them compiled before" if before else ""
        say(
            f"{request.project}: {said}, {wide} at once{expected};"
            " it can be stopped, and continues when started again"
        )
        say(f"{request.project}: log: {site.store / 'builds' / request.slug / 'build.log'}")
    _require_disk(site, pending)


def _compiled(site: Site, request: Request) -> int:
    """Return how many objects of its build tree a run before this one compiled."""
    found = timeline.records(site.store / "builds" / request.slug / "work" / "objects.jsonl")
    return len({line["object"] for line in found if line["exit"] == 0 and line["object"]})


def _lanes(
    site: Site, orders: Sequence[BuildOrder], *, jobs: int
) -> dict[str, list[sessions.Session]]:
    """Put what can be built at the same time into lanes of their own.

    The Pythons of a project share a lane where there is a compile cache: the second finds there
    what the first compiled. All share one where a build's paths are not its own, where nothing
    shares out memory, and where a number of jobs was asked for.
    """
    pooled = memory_pool.folder(site.environment) is not None and not jobs
    cached = compile_cache.found(site.environment, site.store) is not None
    several = len({order.work.request.python for order in orders}) > 1
    found: dict[str, list[sessions.Session]] = {}
    for order in orders:
        request = order.work.request
        apart = pooled and order.work.key.part("isolation") == isolation.NAMESPACES
        name = request.project if apart else ""
        if apart and several and not cached:
            name += f" {request.python}"
        one = sessions.session(site, f"build({request.project})", order.work, order)
        found.setdefault(name, []).append(one)
    return found


def _smoke_and_shelve(site: Site, built: _Built) -> tuple[int, tuple[index.ShelvedWheel, ...]]:
    """Smoke the candidates of each Python alone and together, then shelve all of it, or none."""
    code, shelved = 0, list[index.ShelvedWheel]()
    for python in dict.fromkeys(item.request.python for item, _ in built):
        members = [(item, wheel) for item, wheel in built if item.request.python == python]
        items, wheels = [item for item, _ in members], [wheel for _, wheel in members]
        stack, where = items[0].request.stack, items[0].python
        groups = smoke_session.groups(site, stack, where, wheels, only=True)
        order = SmokeOrder(
            stack=stack.name,
            python=where.where,
            groups=tuple(groups),
            stacks={stack.name: stack},
        )
        one = sessions.session(site, "smoke", items[0], order)
        ended, _ = sessions.run(site, {"smoke": [one]}, keep_going=False)
        if ended:
            code = code or ended
        else:
            shelved += _shelve(site, members)
            index.show_all(site.wheels)
    return code, tuple(shelved)


def _shelve(site: Site, members: _Built) -> list[index.ShelvedWheel]:
    """Shelve smoked wheels; one of the same name that is there was allowed to be replaced."""
    admitted = [
        admission.admitted(site, wheel, item.request, key=item.key) for item, wheel in members
    ]
    items, shelved = [item for item, _ in members], []
    taken = taken_labels(site, items)
    shelf = site.wheels / items[0].request.stack.name
    for one in admitted:
        for _, old, _ in taken:
            if old.path.name == one.wheel.name:
                index.withdraw(old, shelf)
        shelved.append(admission.shelved(site, one))
        shutil.rmtree(one.wheel.parent)
    return shelved


def _require_disk(site: Site, pending: Sequence[Work]) -> None:
    check = for_building.disk(
        pending[0].request.stack,
        for_building.place(site),
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
