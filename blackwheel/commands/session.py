"""Runs the verbs of nox sessions: `python -m blackwheel VERB`; `--help` lists them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from blackwheel.commands import bench as benching
from blackwheel.core import entry, isolation
from blackwheel.core.site import Site
from blackwheel.pins import lock_all
from blackwheel.pipeline import chain, patch_proof, smoke_session, todo
from blackwheel.smoke.bench import serving
from blackwheel.stacks import ask


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m blackwheel", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    stack = argparse.ArgumentParser(add_help=False)
    stack.add_argument("--stack", default="nightly")
    stack.add_argument("--python", default="")
    stack.add_argument("--arch", default="")
    stack.add_argument("--jobs", type=int, default=0)
    stack.add_argument("--without", default="")
    stack.add_argument("--again", action="store_true")
    stack.add_argument("--proofs", action="store_true")
    for name, does in (
        ("build", "build and audit one project's wheel"),
        ("plan", "plan its objects; with --proofs, without each patch too"),
    ):
        one = verbs.add_parser(name, parents=[stack], help=does)
        one.add_argument("project")
        one.add_argument("--environment", type=Path, required=True)
    file = verbs.add_parser("lock-file", parents=[stack], help="print the build environment's pins")
    file.add_argument("project")
    for name in ("smoke", "smoke-list"):
        verb = verbs.add_parser(name, help="import wheels; smoke-list prints what there is to do")
        verb.add_argument("--stack", default="")
        verb.add_argument("--python", default="")
        verb.add_argument("--wheels", nargs="*", type=Path, default=[])
        verb.add_argument("--environment", type=Path)
        verb.add_argument("--require-gpu", action="store_true")
    bench = verbs.add_parser("bench", help="measure a wheel's attention, or a served model")
    bench.add_argument("what", choices=["attention", "serving"])
    bench.add_argument("--environment", type=Path)
    bench.add_argument("--url", default="http://127.0.0.1:8000")
    bench.add_argument("--model", default=serving.MODEL)
    bench.add_argument("--runs", type=int, default=serving.RUNS)
    bench.add_argument("--tokens", type=int, default=serving.TOKENS)
    bench.add_argument("--log", type=Path, help="the server's log: names backends and graphs")
    bench.add_argument("--against", default="", help="official, nightly, a result; or a wheel")
    bench.add_argument("--output", type=Path, help="keep the result as JSON")
    lock = verbs.add_parser("lock", help="resolve and hash every environment again")
    lock.add_argument("stacks", nargs="*")
    lock.add_argument("--upgrade", action="store_true")
    return parser


def _act(site: Site, options: argparse.Namespace) -> None:
    if options.verb == "lock":
        lock_all.lock_all(site, names=options.stacks, upgrade=options.upgrade)
    elif options.verb == "smoke-list":
        groups = smoke_session.groups(site, options.stack, options.python, options.wheels)
        site.console.json(groups)
    elif options.verb == "smoke":
        smoke_session.smoke_installed(
            site,
            options.stack,
            options.wheels,
            options.environment,
            python=options.python,
            require_gpu=options.require_gpu,
        )
    elif options.verb == "bench":
        _bench(site, options)
    else:
        (asked,), python = ask.requests(
            site,
            options.stack,
            only=[options.project],
            arch=options.arch,
            python=options.python,
            without=[word for word in options.without.split(",") if word],
        )
        if options.verb == "lock-file":
            item = todo.work(site, asked, python, again=True)
            chain.preflight(site, [item])
            site.console.result(str(chain.installed_pins(site, asked)))
            return
        item = todo.work(site, asked, python, again=options.again)
        if options.verb == "plan":
            make = patch_proof.prove if options.proofs else patch_proof.make_plan
            make(site, item, environment=options.environment.absolute())
            return
        wheel = chain.build_one(
            site,
            item,
            environment=options.environment.absolute(),
            jobs=options.jobs,
            again=options.again,
        )
        if entry.EXIT_FILE not in site.environment:  # else its caller ends with a summary
            site.console.result(str(wheel))


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
    other = Path(options.against) if options.against else None
    benching.bench_attention(site, options.environment, against=other, output=options.output)


def main(arguments: Sequence[str]) -> int:
    """Run one verb; no stop of the caller leaves this process or its children behind."""
    isolation.die_with_parent()
    isolation.become_subreaper()
    options = _parser().parse_args(arguments)
    try:
        return entry.run(lambda site: _act(site, options))
    finally:
        isolation.reap_descendants()
