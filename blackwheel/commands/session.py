"""Runs the verbs of nox sessions: `python -m blackwheel VERB`; `--help` lists them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from blackwheel.commands import bench as benching
from blackwheel.commands import bump as bumping
from blackwheel.core import entry, file_lock, isolation
from blackwheel.core.console import Console
from blackwheel.core.errors import BlackwheelError, Exit, nearest
from blackwheel.core.site import Site
from blackwheel.pins import lock_all
from blackwheel.pipeline import chain, environment, patch_proof, session_file, smoke_session, todo
from blackwheel.pipeline.session_file import BuildOrder, SmokeOrder
from blackwheel.pipeline.session_records import Ended, Made, Recorder, append
from blackwheel.smoke.bench import serving
from blackwheel.stacks import ask


class _Parser(argparse.ArgumentParser):
    """Takes whole options alone, and names what it does not know."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Name the word as every command does."""
        strange = message.partition("unrecognized arguments: ")[2].split()
        fact = message
        if strange:
            fact = f"there is no {strange[0]}{nearest(strange[0], _known(self))}"
        error = BlackwheelError(
            "unknown-option" if strange else "bad-option",
            fact,
            where=self.prog,
            fix=f"{self.prog} --help",
            code=Exit.USAGE,
        )
        Console(environment=os.environ).error(error)
        sys.exit(int(error.code))


def _known(parser: argparse.ArgumentParser) -> list[str]:
    """Options of a parser and of the verbs below it."""
    found = []
    for action in parser._actions:
        found += [word for word in action.option_strings if word.startswith("--")]
        if isinstance(action, argparse._SubParsersAction):
            found += [word for one in action.choices.values() for word in _known(one)]
    return found


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m blackwheel", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    common = _Parser(add_help=False)
    common.add_argument("file", type=Path, help="of the session: what it is to do")
    common.add_argument("--environment", type=Path, required=True)
    verbs.add_parser("build", parents=[common], help="build and audit one project's wheel")
    verbs.add_parser("plan", parents=[common], help="plan its objects, or what each patch changes")
    sync = verbs.add_parser("sync", parents=[common], help="install hashed pins, and wheels")
    sync.add_argument("--locks", nargs="*", default=[])
    sync.add_argument("--wheels", nargs="*", default=[])
    smoke = verbs.add_parser("smoke", parents=[common], help="import wheels, check their kernels")
    smoke.add_argument("--group", type=int, required=True, help="which one of the file's")
    resolve = verbs.add_parser("resolve", help="write the file of a session that a person typed")
    resolve.add_argument("file", type=Path)
    _add_resolve(resolve.add_subparsers(dest="session", required=True))
    bench = verbs.add_parser("bench", help="measure a wheel's attention, or a served model")
    bench.add_argument("what", choices=["attention", "serving"])
    bench.add_argument("--environment", type=Path)
    bench.add_argument("--order", type=Path, help="the session's file: whose torch lies there")
    bench.add_argument("--url", default="http://127.0.0.1:8000")
    bench.add_argument("--model", default="", help="default: that of docs/rtx5090.md")
    bench.add_argument("--runs", type=int, default=serving.RUNS)
    bench.add_argument("--tokens", type=int, default=serving.TOKENS)
    bench.add_argument("--log", type=Path, help="the server's log: names backends and graphs")
    bench.add_argument("--against", default="", help="official, nightly, a result; or a wheel")
    bench.add_argument("--output", type=Path, help="keep the result as JSON")
    lock = verbs.add_parser("lock", help="resolve and hash every environment again")
    lock.add_argument("stacks", nargs="*")
    lock.add_argument("--upgrade", action="store_true")
    bump = verbs.add_parser("bump", help="move a nightly to its newest build, and prove it")
    bump.add_argument("stack", nargs="?", default="nightly")
    bump.add_argument("--only", nargs="*", default=[], help="these projects of the stack")
    bump.add_argument("--report", type=Path, help="write the report here too, in Markdown")
    bump.add_argument("--archive", type=Path, help="a folder that gets the wheels of torch, too")
    return parser


def _add_resolve(sessions: argparse._SubParsersAction[_Parser]) -> None:
    for name in ("build", "plan"):
        one = sessions.add_parser(name, help="of one project")
        one.add_argument("project")
        one.add_argument("--stack", default="nightly")
        one.add_argument("--python", default="")
        one.add_argument("--arch", default="")
        one.add_argument("--jobs", type=int, default=0)
        one.add_argument("--without", default="")
        one.add_argument("--again", action="store_true")
        one.add_argument("--proofs", action="store_true")
    smoke = sessions.add_parser("smoke", help="of the shelf, or of wheels")
    smoke.add_argument("--stack", default="")
    smoke.add_argument("--python", default="")
    smoke.add_argument("--wheels", nargs="*", type=Path, default=[])
    smoke.add_argument("--require-gpu", action="store_true")


def _act(site: Site, options: argparse.Namespace) -> int | None:
    if options.verb not in ("sync", "build", "plan", "smoke"):
        return _do(site, options)
    with file_lock.used(site.store, console=site.console):
        return _do(site, options)


def _do(site: Site, options: argparse.Namespace) -> int | None:
    if options.verb == "bump":
        given = {"only": options.only, "report": options.report, "archive_in": options.archive}
        return bumping.bump(site, options.stack, **given)
    if options.verb == "lock":
        lock_all.lock_all(site, names=options.stacks, upgrade=options.upgrade)
    elif options.verb == "bench":
        _bench(site, options)
    elif options.verb == "resolve":
        session_file.write(options.file, _resolved(site, options))
    elif options.verb == "sync":
        environment.sync(site, options.environment.absolute(), options.locks, options.wheels)
    elif options.verb == "smoke":
        asked = session_file.read(options.file, SmokeOrder)
        group = asked.groups[options.group]
        smoke_session.smoke_installed(site, asked, group, options.environment)
    elif options.verb == "plan":
        order = session_file.read(options.file, BuildOrder)
        make = patch_proof.prove if order.proofs else patch_proof.make_plan
        make(site, order, environment=options.environment.absolute())
    else:
        _build(site, options)
    return None


def _resolved(site: Site, options: argparse.Namespace) -> session_file.Order:
    """Resolve the words that a person typed behind `nox -s SESSION --`."""
    if options.session == "smoke":
        return smoke_session.resolve(
            site,
            options.stack,
            options.python,
            options.wheels,
            require_gpu=options.require_gpu,
        )
    (asked,), python = ask.requests(
        site,
        options.stack,
        only=[options.project],
        arch=options.arch,
        python=options.python,
        without=[word for word in options.without.split(",") if word],
    )
    item = todo.work(site, asked, python, again=options.again)
    (item,) = chain.preflight(site, [item])
    given = {"jobs": options.jobs, "again": options.again, "proofs": options.proofs}
    return session_file.build_order(item, chain.installed_pins(site, item.request), **given)


def _build(site: Site, options: argparse.Namespace) -> None:
    """Build one wheel; name it in the records that a command reads, else on stdout."""
    order, records = session_file.read(options.file, BuildOrder), _records(options)
    wheel = chain.build_one(site, order, environment=options.environment.absolute())
    if records:
        append(records, Made(wheel=wheel))
    else:
        site.console.result(str(wheel))


def _records(options: argparse.Namespace) -> Path | None:
    """Return the file of records, where a command reads it."""
    path = session_file.records_of(options.file) if "file" in options else None
    return path if path and os.access(path, os.W_OK) else None


def _bench(site: Site, options: argparse.Namespace) -> None:
    if options.what == "serving":
        benching.bench_serving(
            site,
            options.url,
            model=options.model,
            runs=options.runs,
            tokens=options.tokens,
            log=options.log,
            against=options.against,
            output=options.output,
        )
        return
    if options.order:  # the torch of an interpreter is in no lock
        asked = session_file.read(options.order, SmokeOrder)
        smoke_session.link_torch(site, asked, asked.groups[0], options.environment)
    other = Path(options.against) if options.against else None
    benching.bench_attention(site, options.environment, against=other, output=options.output)


def main(arguments: Sequence[str]) -> int:
    """Run one verb; no stop of the caller leaves this process or its children behind."""
    options = _parser().parse_args(arguments)
    records = _records(options)
    try:
        relay = Recorder(records) if records else None
        stopped = entry.KEPT if options.verb == "build" else entry.STOPPED
        code = entry.run(lambda site: _act(site, options), relay=relay, stopped=stopped)
    finally:
        isolation.reap_descendants()
    if records and (code or options.verb != "sync"):  # a session goes on after that one
        append(records, Ended(code=code))
    return code
