"""The verbs people type: `invoke --list`. Each is a few lines over blackwheel.commands."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke import Collection, Context, task

from blackwheel.core import entry
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site

DEFAULTS = {"stack": "nightly", "python": "", "arch": "", "jobs": "", "to": "", "simple": ""}
"""Set others in invoke.yaml (`blackwheel: {stack: stable}`) or by INVOKE_BLACKWHEEL_STACK."""

_NUMBER = re.compile(r"0*[1-9][0-9]{0,5}")


def _run(action: Callable[[Site], Any]) -> None:
    sys.exit(entry.run(action))


def _words(text: str) -> tuple[str, ...]:
    """`a,b` arrives as one string: Invoke 3 has no positional lists that work."""
    return tuple(word for word in text.replace(",", " ").split() if word)


def _count(text: str) -> int:
    """Read a number of jobs here: Invoke answers what is no number with a traceback."""
    if text and not _NUMBER.fullmatch(text):
        raise BlackwheelError(
            "bad-jobs",
            f"'{text}' is no number of compilers",
            where="--jobs",
            fix="--jobs 2, or none: then as many as cores and memory allow",
            code=Exit.USAGE,
        )
    return int(text or 0)


def _number(text: str, what: str, *, option: str, fix: str) -> int:
    if _NUMBER.fullmatch(text):
        return int(text)
    raise BlackwheelError(
        "bad-number",
        f"'{text}' is no number of {what}",
        where=option,
        fix=fix,
        code=Exit.USAGE,
    )


@task(
    help={
        "stack": "which combination to build (default: nightly); invoke stacks lists them",
        "only": "build only these projects: flash-attn,vllm (default: all of the stack)",
        "arch": "other archs than the stack's: '9.0;12.0a'",
        "jobs": "compilers at once, one project after another (default: as cores and memory allow)",
        "python": "a version, a path, several (3.11,3.12) or all (default: the running one)",
        "again": "build from nothing although nothing changed",
        "keep-going": "when one project fails, build the others to their end",
        "lock": "lock the stack's nightly torch first, without asking",
        "without": "leave out these nested sources, where the stack allows it: triton_kernels",
        "replace": "let a wheel take the place of another build of the same label on the shelf",
    }
)
def build_wheels(
    c: Context,
    stack: str = "",
    only: str = "",
    arch: str = "",
    jobs: str = "",
    python: str = "",
    again: bool = False,
    keep_going: bool = False,
    lock: bool = False,
    replace: bool = False,
    without: str = "",
) -> None:
    """Build, prove and shelve a stack's wheels, e.g. invoke build-wheels --stack quickstart."""
    from blackwheel.commands import build_wheels as commands

    default = c.config.blackwheel
    _run(
        lambda site: commands.build_wheels(
            site,
            stack or default.stack,
            only=_words(only),
            arch=arch or default.arch,
            jobs=_count(jobs or str(default.jobs)),
            python=python or default.python,
            again=again,
            keep_going=keep_going,
            lock=lock,
            replace=replace,
            without=_words(without),
        )
    )


@task(help={"stack": "which stack (default: nightly)", "only": "only these projects"})
def clone(c: Context, stack: str = "", only: str = "") -> None:
    """Fetch the pinned sources into the store, e.g. invoke clone --stack stable."""
    from blackwheel.commands import stages

    _run(lambda site: stages.clone(site, stack or c.config.blackwheel.stack, _words(only)))


@task(
    help={
        "stack": "whose wheels (default: nightly)",
        "python": "of the machine that installs them: 3.12",
        "projects": "only these (default: all of the stack)",
        "index": "the shelf's address as that machine sees it: https://…/stable/simple/",
        "revision": "an earlier one that is still on the shelf (default: the newest)",
        "out": "the file (default: requirements-STACK-pyXY.txt)",
    }
)
def lock_consumer(
    c: Context,
    stack: str = "",
    python: str = "",
    projects: str = "",
    index: str = "",
    revision: str = "",
    out: str = "",
) -> None:
    """Write hashed requirements for another machine, e.g. invoke lock-consumer --stack stable."""
    from blackwheel.shelf import consumer_lock

    default = c.config.blackwheel
    _run(
        lambda site: consumer_lock.lock_consumer(
            site,
            stack or default.stack,
            python=python or default.python,
            projects=_words(projects),
            address=index,
            revision=_number(revision, "revisions", option="--revision", fix="--revision 2")
            if revision
            else 0,
            out=out,
        )
    )


@task(help={"stack": "which stack (default: nightly)", "only": "only these projects"})
def apply_patches(c: Context, stack: str = "", only: str = "") -> None:
    """Fetch and patch, all or nothing, e.g. invoke apply-patches --stack stable."""
    from blackwheel.commands import stages

    _run(lambda site: stages.apply_patches(site, stack or c.config.blackwheel.stack, _words(only)))


@task(help={"project": "whose series", "stack": "which stack's source (default: nightly)"})
def refresh_patches(c: Context, project: str, stack: str = "") -> None:
    """Put patches whose context moved where they belong, e.g. invoke refresh-patches flash-attn."""
    from blackwheel.commands import stages

    _run(lambda site: stages.refresh_patches(site, stack or c.config.blackwheel.stack, project))


@task(
    help={
        "stack": "which stack (default: nightly)",
        "only": "only these projects",
        "without": "leave out these nested sources",
        "json": "for programs",
    }
)
def check_patches(
    c: Context, stack: str = "", only: str = "", without: str = "", json: bool = False
) -> None:
    """Tell what each patch changes, and which are stale, e.g. invoke check-patches -s stable."""
    from blackwheel.commands import plan_objects

    name = stack or c.config.blackwheel.stack
    python = c.config.blackwheel.python
    _run(
        lambda site: plan_objects.check_patches(
            site,
            name,
            only=_words(only),
            python=python,
            without=_words(without),
            as_json=json,
        )
    )


@task(
    help={
        "what": "torch, or a project of the stack: flash-attn",
        "version": "2.10.0.dev20251016+cu128, 2.8.3, or latest; installed: what --python has",
        "stack": "whose pin (default: nightly)",
        "channel": "cu128: of which CUDA, where VERSION does not say (default: the stack's)",
        "archive": "a folder that gets the wheels too: shared, or for a closed network",
        "python": "with installed: the interpreter that has torch",
        "commit": "of a project, where its git host cannot be asked; third_party/NAME=COMMIT",
        "dry-run": "of a project: show what would be written, and write nothing",
        "objects": "of a project: plan every object before and after; needs torch and the compiler",
    }
)
def pin(
    c: Context,
    what: str,
    version: str,
    stack: str = "",
    channel: str = "",
    archive: str = "",
    python: str = "",
    commit: str = "",
    dry_run: bool = False,
    objects: bool = False,
) -> None:
    """Move the pin of a stack's torch or project, e.g. invoke pin flash-attn 2.8.3 -s stable."""
    from blackwheel.pins import move_torch as pins

    name = stack or c.config.blackwheel.stack
    _run(
        lambda site: pins.pin(
            site,
            what,
            version,
            stack=name,
            channel=channel,
            archive_in=archive,
            python=python,
            commits=_words(commit),
            dry_run=dry_run,
            objects=objects,
        )
    )


@task(help={"stack": "only this one (default: all)", "json": "for programs"})
def outdated(c: Context, stack: str = "", json: bool = False) -> None:  # noqa: ARG001
    """List newer upstreams and patches they have taken, e.g. invoke outdated --stack stable."""
    from blackwheel.pins import outdated as newer

    _run(lambda site: newer.show_outdated(site, stack, as_json=json))


@task(
    help={
        "stack": "which stack (default: nightly)",
        "only": "only these projects",
        "arch": "other archs than the stack's: '9.0;12.0a'",
        "jobs": "compilers at once",
        "python": "a version, a path, several (3.11,3.12) or all (default: the running one)",
        "without": "leave out these nested sources, where the stack allows it",
        "objects": "the archs of every object too: configures once in an environment",
        "matrix": "one row per stack, Python and project for a CI engine; --stack: of one",
        "json": "for programs",
    }
)
def plan(
    c: Context,
    stack: str = "",
    only: str = "",
    arch: str = "",
    jobs: str = "",
    python: str = "",
    without: str = "",
    objects: bool = False,
    matrix: bool = False,
    json: bool = False,
) -> None:
    """Tell what would be built and why; compiles nothing, e.g. invoke plan --stack stable."""
    from blackwheel.commands import views

    default = c.config.blackwheel
    if matrix:
        from blackwheel.commands import matrix as matrices

        _run(lambda site: matrices.show_matrix(site, stack, as_json=json))
    if objects:
        from blackwheel.commands import plan_objects

        _run(
            lambda site: plan_objects.show_objects(
                site,
                stack or default.stack,
                only=_words(only),
                arch=arch or default.arch,
                python=python or default.python,
                without=_words(without),
                as_json=json,
            )
        )
    _run(
        lambda site: views.show_plan(
            site,
            stack or default.stack,
            only=_words(only),
            arch=arch or default.arch,
            jobs=_count(jobs or str(default.jobs)),
            python=python or default.python,
            without=_words(without),
            as_json=json,
        )
    )


@task(
    help={
        "what": "a wheel, a folder, a stack, or NAME==VERSION of the package registry",
        "arch": "count kernels against these (default: the stack's, else 12.0a)",
        "torch": "would it link with this one: an environment's folder, or a version",
        "html": "write one page with the kernels drawn to this file",
        "json": "for programs",
        "strict": "hold a wheel of no stack to what a stack's own must be, too",
    }
)
def audit(
    c: Context,  # noqa: ARG001
    what: str,
    arch: str = "",
    torch: str = "",
    html: str = "",
    json: bool = False,
    strict: bool = False,
) -> None:
    """Tell which archs, torch and symbols wheels need, e.g. invoke audit vllm==0.26.0."""
    from blackwheel.commands import audit as auditing

    _run(
        lambda site: auditing.show_audit(
            site, what, arch=arch, torch=torch, html=html, as_json=json, strict=strict
        )
    )


@task(
    help={
        "stack": "what this stack needs (default: what all need)",
        "env": "look into an installed environment instead: its Python, or its folder",
        "serve": "can this machine run the stack's wheels, rather than build them",
        "json": "for programs; with --env",
    }
)
def doctor(
    c: Context, stack: str = "", env: str = "", serve: bool = False, json: bool = False
) -> None:
    """Tell what this machine lacks, with cures, e.g. invoke doctor --stack stable."""
    from blackwheel.commands import views

    if env:
        from blackwheel.shelf import verify as verifying

        _run(lambda site: verifying.show_environment(site, env, as_json=json))
    if serve:
        _run(lambda site: views.show_servable(site, stack or c.config.blackwheel.stack))
    _run(lambda site: views.show_doctor(site, stack))


@task(
    help={
        "stack": "whose wheels they build and run (default: nightly)",
        "python": "of the image: 3.12 (default: the stack's first)",
        "out": "the folder (default: docker/)",
    }
)
def dockerfiles(c: Context, stack: str = "", python: str = "", out: str = "") -> None:
    """Write a stack's container files, e.g. invoke dockerfiles --stack stable --out image."""
    from blackwheel.commands import dockerfiles as containers

    name, version = stack or c.config.blackwheel.stack, python or c.config.blackwheel.python
    _run(lambda site: containers.write(site, name, python=version, out=out))


@task(
    help={
        "stack": "show this stack's page and index first (default: all)",
        "port": "on 127.0.0.1 (default: 8642; 0: any)",
    }
)
def serve_index(c: Context, stack: str = "", port: str = "8642") -> None:  # noqa: ARG001
    """Serve the shelves on this machine, e.g. invoke serve-index --stack stable."""
    from blackwheel.shelf import server

    _run(lambda site: server.serve_index(site, stack, server.port_number(port)))


@task(help={"line": "a line of the kernel log, or an error message", "json": "for programs"})
def explain(c: Context, line: str, json: bool = False) -> None:  # noqa: ARG001
    """Tell what a crash means, e.g. invoke explain "$(dmesg | grep segfault | tail -1)"."""
    from blackwheel.commands import explain as explains

    _run(lambda site: explains.explain(site, line, as_json=json))


@task
def stacks(c: Context) -> None:  # noqa: ARG001
    """List the stacks and whether this machine can build them."""
    from blackwheel.commands import views

    _run(views.show_stacks)


@task
def status(c: Context) -> None:  # noqa: ARG001
    """List what is on the shelf and what of it is stale."""
    from blackwheel.commands import views

    _run(views.show_status)


@task(help={"yes": "remove it; without, only tell"})
def clean(c: Context, yes: bool = False) -> None:  # noqa: ARG001
    """Tell what disk the store uses; free it with --yes."""
    from blackwheel.commands import views

    _run(lambda site: views.clean(site, yes=yes))


@task(help={"what": "a wheel, a folder or a stack (default: every shelf)", "json": "for programs"})
def verify(c: Context, what: str = "", json: bool = False) -> None:  # noqa: ARG001
    """Compute again what receipts and pages say, e.g. invoke verify --what quickstart."""
    from blackwheel.shelf import verify as verifying

    _run(lambda site: verifying.show_verify(site, what, as_json=json))


@task(
    help={
        "to": "a folder (one directory index a stack in it), or the address of an upload server",
        "stack": "which stack's wheels (default: nightly)",
        "only": "only these projects, as a set of their own: flash-attn",
        "simple": "the simple/ that installers read, when it is neither in --to FOLDER nor +simple/"
        " or simple/ below the upload address: https://wheels.example/stable/simple/",
        "yes": "publish; without, only tell",
        "allow-unrun-arch": "although no kernel ever ran on an arch they were built for",
        "minutes": "how long uploads may take, all together (default: 60)",
        "json": "for programs",
    }
)
def publish(
    c: Context,
    to: str = "",
    stack: str = "",
    only: str = "",
    simple: str = "",
    yes: bool = False,
    allow_unrun_arch: bool = False,
    minutes: str = "60",
    json: bool = False,
) -> None:
    """Publish proved wheels and read them back, e.g. invoke publish --to /srv/wheels --yes."""
    from blackwheel.shelf import publish as publishing
    from blackwheel.shelf import remote_index

    default = c.config.blackwheel
    _run(
        lambda site: publishing.publish(
            site,
            stack or default.stack,
            to=to or default.to,
            only=_words(only),
            simple=simple or default.simple,
            yes=yes,
            allow_unrun=allow_unrun_arch,
            as_json=json,
            limits=remote_index.Limits(
                seconds=60.0 * _number(minutes, "minutes", option="--minutes", fix="--minutes 90")
            ),
        )
    )


@task(
    help={
        "stack": "whose wheels (default: nightly)",
        "keep": "how many of each project and Python stay (default: 3)",
        "index": "a published folder instead of this checkout's wheels/",
        "yes": "remove them; without, only tell",
    }
)
def prune(c: Context, stack: str = "", keep: str = "3", index: str = "", yes: bool = False) -> None:
    """Take old wheels off a shelf; pinned and newest stay, e.g. invoke prune --keep 2 --yes."""
    from blackwheel.shelf import prune as pruning

    name = stack or c.config.blackwheel.stack
    _run(
        lambda site: pruning.prune(
            site,
            name,
            keep=_number(keep, "wheels", option="--keep", fix="--keep 2"),
            folder=index,
            yes=yes,
        )
    )


@task(
    help={
        "stack": "whose build (default: nightly)",
        "project": "only this one",
        "python": "a version or a path",
        "html": "draw it on one page in this file",
        "bundle": "write one file to send with a question: receipts, logs, doctor; no secrets",
    }
)
def report(
    c: Context,
    stack: str = "",
    project: str = "",
    python: str = "",
    html: str = "",
    bundle: bool = False,
) -> None:
    """Tell what the last build did with cores and memory, e.g. invoke report --html build.html."""
    from blackwheel.commands import report as reports

    default = c.config.blackwheel
    if bundle:
        from blackwheel.commands import bundle as bundles

        _run(lambda site: bundles.show_bundle(site, stack or default.stack, Path.cwd()))
        return
    _run(
        lambda site: reports.show_report(
            site,
            stack or default.stack,
            project=project,
            python=python or default.python,
            out=html,
        )
    )


namespace = Collection(
    apply_patches,
    audit,
    build_wheels,
    check_patches,
    clean,
    clone,
    dockerfiles,
    doctor,
    lock_consumer,
    explain,
    outdated,
    pin,
    plan,
    prune,
    publish,
    refresh_patches,
    report,
    serve_index,
    stacks,
    status,
    verify,
)
namespace.configure({"blackwheel": DEFAULTS})
