"""The verbs people type: `blackwheel --list`, `invoke --list`. Each is a line or two of a package.

Each option is named once, where the verb declares it; `ask` holds what was typed.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else an interrupted import
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # says a traceback; `entry.run` sets it again
if not sys.flags.dont_write_bytecode:  # Invoke sets it, and every run would compile anew
    sys.dont_write_bytecode = False

from invoke import Collection, Task

from blackwheel.commands import program
from blackwheel.commands.verbs import Ask, Option, verb
from blackwheel.core import entry
from blackwheel.core.site import Site

DEFAULTS = {
    **{"stack": "nightly", "python": "", "arch": "", "jobs": "", "to": "", "simple": ""},
    **{"sign": "", "signed_by": ""},
}
"""Set others in invoke.yaml (`blackwheel: {stack: stable}`) or by INVOKE_BLACKWHEEL_STACK."""

STACK = Option(
    help="which stack (default: nightly); invoke stacks lists them", word="NAME", setting="stack"
)
ONLY = Option(
    help="only these projects: flash-attn,vllm (default: all of the stack)",
    word="NAMES",
    several=True,
)
ARCH = Option(help="other archs than the stack's: '9.0;12.0a'", word="ARCHS", setting="arch")
JOBS = Option(
    help="compilers at once, one project after another (default: as cores and memory allow)",
    word="N",
    counts="compilers",
    fix="--jobs 2, or none: then as many as cores and memory allow",
    setting="jobs",
)
PYTHONS = Option(
    help="a version, a path, several (3.11,3.12) or all (default: the running one)",
    word="PYTHON",
    setting="python",
)
WITHOUT = Option(
    help="leave out these nested sources, where the stack allows it: triton_kernels",
    word="NAMES",
    several=True,
)
KEY = Option(
    help="the private key: a file, agent:FILE.pub (of ssh), or exec:PROGRAM",
    word="KEY",
    setting="sign",
)
YES = Option(help="do it; without, only tell", default=False)
JSON = Option(help="for programs", default=False, to="as_json")


def _flag(text: str, to: str = "") -> Option:
    return Option(help=text, default=False, to=to)


def _place(word: str, text: str, *, required: bool = True) -> Option:
    return Option(help=text, word=word, place=True, required=required)


@verb(
    "Start",
    entry.KEPT,
    stack=STACK,
    only=ONLY,
    arch=ARCH,
    jobs=JOBS,
    python=PYTHONS,
    without=WITHOUT,
    again=_flag("build from nothing although nothing changed"),
    keep_going=_flag("when one project fails, build the others to their end"),
    lock=_flag("lock the stack's nightly torch first, without asking"),
    replace=_flag("let a wheel take the place of another build of the same label on the shelf"),
    sign=Option(
        help="sign what is shelved with this key (invoke sign tells which)",
        word="KEY",
        setting="sign",
    ),
)
def build_wheels(site: Site, ask: Ask) -> int:
    """Build, prove and shelve a stack's wheels, e.g. invoke build-wheels --stack quickstart."""
    from blackwheel.commands import build_wheels as commands

    return commands.build_wheels(site, **ask.given)


@verb(
    "Start",
    stack=STACK,
    into=Option(
        help="the folder of the environments; `current` there is the newest", word="FOLDER"
    ),
    only=ONLY,
    python=Option(help="of the environment: a version or a path", word="PYTHON", setting="python"),
    rollback=_flag("point `current` at the environment before"),
)
def install(site: Site, ask: Ask) -> int:
    """Install wheels of the shelf in a new environment, e.g. invoke install --into ~/vllm."""
    from blackwheel.commands import install as installing

    return installing.install(site, **ask.given)


@verb("Build", stack=STACK, only=ONLY)
def clone(site: Site, ask: Ask) -> None:
    """Fetch the pinned sources into the store, e.g. invoke clone --stack stable."""
    from blackwheel.commands import stages

    stages.clone(site, ask.stack, ask.only)


@verb(
    "Share",
    stack=STACK,
    only=Option(help=ONLY.help, word="NAMES", several=True, to="projects", old=("projects",)),
    python=Option(help="of the machine that installs them: 3.12", word="PYTHON", setting="python"),
    index_url=Option(
        help="the shelf's address as that machine sees it: https://…/stable/simple/",
        word="URL",
        to="address",
        old=("index",),
    ),
    revision=Option(
        help="an earlier one that is still on the shelf (default: the newest)",
        word="N",
        counts="revisions",
    ),
    out=Option(help="the file (default: requirements-STACK-pyXY.txt)", word="FILE"),
)
def lock_consumer(site: Site, ask: Ask) -> None:
    """Write hashed requirements for another machine, e.g. invoke lock-consumer --stack stable."""
    from blackwheel.shelf import consumer_lock

    consumer_lock.lock_consumer(site, **ask.given)


@verb("Build", stack=STACK, only=ONLY)
def apply_patches(site: Site, ask: Ask) -> None:
    """Fetch and patch, all or nothing, e.g. invoke apply-patches --stack stable."""
    from blackwheel.commands import stages

    stages.apply_patches(site, ask.stack, ask.only)


@verb("Build", project=_place("PROJECT", "whose series"), stack=STACK)
def refresh_patches(site: Site, ask: Ask) -> None:
    """Put patches whose context moved where they belong, e.g. invoke refresh-patches flash-attn."""
    from blackwheel.commands import stages

    stages.refresh_patches(site, ask.stack, ask.project)


@verb("Build", stack=STACK, only=ONLY, python=PYTHONS, without=WITHOUT, json=JSON)
def check_patches(site: Site, ask: Ask) -> int:
    """Tell what each patch changes, and which are stale, e.g. invoke check-patches -s stable."""
    from blackwheel.commands import plan_objects

    return plan_objects.check_patches(site, **ask.given)


@verb(
    "Maintain",
    what=_place("WHAT", "torch, or a project of the stack: flash-attn"),
    version=_place(
        "VERSION", "2.16.0.dev20261006+cu134, 2.15.0, or latest; installed: what --python has"
    ),
    stack=STACK,
    channel=Option(
        help="cu128: of which CUDA, where VERSION does not say (default: the stack's)", word="NAME"
    ),
    archive=Option(
        help="a folder that gets the wheels too: shared, or for a closed network",
        word="FOLDER",
        to="archive_in",
    ),
    python=Option(help="with installed: the interpreter that has torch", word="PYTHON"),
    commit=Option(
        help="of a project, where its git host cannot be asked; third_party/NAME=COMMIT",
        word="COMMITS",
        several=True,
        to="commits",
    ),
    as_version=Option(
        help="of a project: the version of --commit, where no tag names that commit",
        word="VERSION",
        old=("as",),
    ),
    dry_run=_flag("of a project, or torch of the registry: show what would be written"),
    objects=_flag("of a project: plan every object before and after; needs torch and the compiler"),
)
def pin(site: Site, ask: Ask) -> None:
    """Move the pin of a stack's torch or project, e.g. invoke pin flash-attn 2.8.3 -s stable."""
    from blackwheel.pins import pin as pins

    pins.pin(site, **ask.given)


@verb(
    "Maintain",
    stack=Option(help="only this one (default: all)", word="NAME"),
    gone=_flag("ask for each pin whether it can still be had, and how old it is"),
    every=_flag("with --gone: for every package of the locks, too; hundreds of requests"),
    json=JSON,
)
def outdated(site: Site, ask: Ask) -> Any:
    """List newer upstreams and patches they have taken, e.g. invoke outdated --stack stable."""
    from blackwheel.pins import availability
    from blackwheel.pins import outdated as newer

    if ask.gone or ask.every:
        words = {"every": ask.every, "as_json": ask.as_json}
        return availability.show_availability(site, ask.stack, **words)
    return newer.show_outdated(site, ask.stack, as_json=ask.as_json)


@verb(
    "Build",
    stack=Option(help=STACK.help, word="NAME"),
    only=ONLY,
    arch=ARCH,
    jobs=JOBS,
    python=PYTHONS,
    without=WITHOUT,
    objects=_flag("the archs of every object too: configures once in an environment"),
    matrix=_flag("one row per stack, Python and project for a CI engine; --stack: of one"),
    json=JSON,
)
def plan(site: Site, ask: Ask) -> Any:
    """Tell what would be built and why; compiles nothing, e.g. invoke plan --stack stable."""
    objects, of_matrix = ask.objects, ask.matrix
    if of_matrix:
        from blackwheel.commands import matrix

        return matrix.show_matrix(site, ask.stack, as_json=ask.as_json)
    given = {**ask.given, "stack": ask.stack or ask.default_stack(site)}
    del given["objects"], given["matrix"]
    if objects:
        from blackwheel.commands import plan_objects

        del given["jobs"]
        return plan_objects.show_objects(site, **given)
    from blackwheel.commands import views

    return views.show_plan(site, **given)


@verb(
    "Look",
    what=Option(
        help="wheels, a folder of them, an environment's folder, a stack, or NAME==VERSION of"
        " the package registry",
        word="WHAT",
        place=True,
        required=True,
        several=True,
    ),
    gpu=Option(
        help="the card that you have: 'RTX 5090' (default: the stack's, this machine's, else"
        " RTX 50)",
        word="NAME",
    ),
    arch=Option(help="or count kernels against these: '9.0;12.0a'"),
    torch=Option(
        help="would it link with these: versions, environments' folders, or `all` of the stacks",
        word="TORCH,...",
    ),
    load=_flag("load its libraries beside each --torch, too: this runs their code"),
    html=Option(help="write one page with the kernels drawn to this file", word="FILE"),
    json=JSON,
    strict=_flag("hold what no stack of yours built to what a stack's own must be, too"),
)
def audit(site: Site, ask: Ask) -> Any:
    """Tell what wheels or an environment hold for your card, e.g. invoke audit vllm==0.33.0."""
    from blackwheel.commands import audit as auditing

    return auditing.show_audit(site, **ask.given)


@verb(
    "Start",
    stack=Option(help="what this stack needs (default: what all need)", word="NAME"),
    env=Option(
        help="look into an installed environment instead: its Python, or its folder", word="ENV"
    ),
    serve=_flag("can this machine run the stack's wheels, rather than build them"),
    json=JSON,
)
def doctor(site: Site, ask: Ask) -> int:
    """Tell what this machine lacks, with cures, e.g. invoke doctor --stack stable."""
    if ask.env:
        from blackwheel.shelf import verify as verifying

        return verifying.show_environment(site, ask.env, as_json=ask.as_json)
    from blackwheel.commands import views

    if ask.serve:
        return views.show_servable(site, ask.stack or ask.default_stack(site), as_json=ask.as_json)
    return views.show_doctor(site, ask.stack, as_json=ask.as_json)


@verb(
    "Share",
    stack=STACK,
    python=Option(
        help="of the image: 3.12 (default: the stack's first)", word="PYTHON", setting="python"
    ),
    out=Option(help="the folder (default: docker/)", word="FOLDER"),
)
def dockerfiles(site: Site, ask: Ask) -> int:
    """Write a stack's container files, e.g. invoke dockerfiles --stack stable --out image."""
    from blackwheel.commands import dockerfiles as containers

    return containers.write(site, **ask.given)


@verb(
    "Share",
    stack=Option(help="show this stack's page and index first (default: all)", word="NAME"),
    port=Option(help="on 127.0.0.1 (default: 8642; 0: any)", default="8642", word="PORT"),
)
def serve_index(site: Site, ask: Ask) -> None:
    """Serve the shelves on this machine, e.g. invoke serve-index --stack stable."""
    from blackwheel.shelf import server

    server.serve_index(site, ask.stack, server.port_number(ask.port))


@verb("Look", line=_place("LINE", "a log file, an error message, or a line of dmesg"), json=JSON)
def explain(site: Site, ask: Ask) -> None:
    """Tell what a crash means, e.g. invoke explain server.log."""
    from blackwheel.commands import explain as explains

    explains.explain(site, **ask.given)


@verb("Start", json=JSON)
def stacks(site: Site, ask: Ask) -> None:
    """List the stacks and whether this machine can build them."""
    from blackwheel.commands import stack_list

    stack_list.show_stacks(site, default=ask.settings.stack, **ask.given)


@verb("Look", stack=Option(help="only this one (default: all)", word="NAME"), json=JSON)
def status(site: Site, ask: Ask) -> None:
    """List what is on the shelf and what of it is stale, e.g. invoke status --stack stable."""
    from blackwheel.commands import views

    views.show_status(site, ask.stack, as_json=ask.as_json)


@verb("Maintain", yes=YES)
def clean(site: Site, ask: Ask) -> None:
    """Tell what disk the store uses; free it with --yes."""
    from blackwheel.commands import views

    views.clean(site, yes=ask.yes)


@verb(
    "Look",
    what=_place("WHAT", "a wheel, a folder or a stack (default: every shelf)", required=False),
    key=Option(
        help="public keys, of which one must have signed: needs no more than wheel and signature",
        word="FILES",
        several=True,
    ),
    json=JSON,
)
def verify(site: Site, ask: Ask) -> int:
    """Compute again what receipts and pages say, e.g. invoke verify quickstart."""
    from blackwheel.shelf import verify as verifying

    return verifying.show_verify(site, **ask.given)


@verb("Share", file=_place("FILE", "gets the private key; FILE.pub the public one"))
def new_key(site: Site, ask: Ask) -> None:
    """Make a pair of keys that sign wheels, e.g. invoke new-key ~/.config/blackwheel.key."""
    from blackwheel.commands import sign as signing

    signing.new_key(site, ask.file)


@verb(
    "Share",
    what=_place("WHAT", "a wheel, a folder or a stack (default: every shelf)", required=False),
    key=KEY,
)
def sign(site: Site, ask: Ask) -> None:
    """Sign the receipts of proved wheels, offline, e.g. invoke sign stable --key wheels.key."""
    from blackwheel.commands import sign as signing

    signing.sign(site, ask.what, ask.key)


@verb(
    "Share",
    to=Option(
        help="a folder (one directory index a stack in it), or the address of an upload server",
        word="WHERE",
        setting="to",
    ),
    stack=STACK,
    only=ONLY,
    index_url=Option(
        help="the simple/ that installers read, when it is neither in --to FOLDER nor +simple/"
        " or simple/ below the upload address: https://wheels.example/stable/simple/",
        word="URL",
        setting="simple",
        to="simple",
        old=("simple",),
    ),
    yes=YES,
    allow_unrun_arch=_flag(
        "although no kernel ever ran on an arch they were built for", to="allow_unrun"
    ),
    signed_by=Option(
        help="public keys, of which one must have signed each wheel (default: as the index asks)",
        word="FILES",
        several=True,
        setting="signed_by",
    ),
    minutes=Option(
        help="how long uploads may take, all together (default: 60)",
        default="60",
        word="N",
        counts="minutes",
        fix="--minutes 90",
    ),
    json=JSON,
)
def publish(site: Site, ask: Ask) -> int:
    """Publish proved wheels and read them back, e.g. invoke publish --to /srv/wheels --yes."""
    from blackwheel.shelf import publish as publishing
    from blackwheel.shelf import remote_index

    given = dict(ask.given)
    limits = remote_index.Limits(seconds=60.0 * given.pop("minutes"))
    return publishing.publish(site, **given, limits=limits)


@verb(
    "Maintain",
    stack=STACK,
    keep=Option(
        help="how many of each project and Python stay (default: 3)",
        default="3",
        word="N",
        counts="wheels",
        fix="--keep 2",
    ),
    wheel=Option(help="take this one off, pinned or not, and no other", word="FILENAME"),
    folder=Option(
        help="a published folder instead of this checkout's wheels/", word="FOLDER", old=("index",)
    ),
    yes=YES,
)
def prune(site: Site, ask: Ask) -> int:
    """Take old wheels off a shelf; pinned and newest stay, e.g. invoke prune --keep 2 --yes."""
    from blackwheel.shelf import prune as pruning

    return pruning.prune(site, **ask.given)


@verb(
    "Look",
    stack=STACK,
    only=Option(help="only this project", word="NAME", old=("project",), to="project"),
    python=Option(help="a version or a path", word="PYTHON", setting="python"),
    html=Option(help="draw it on one page in this file", word="FILE", to="out"),
    bundle=_flag("write one file to send with a question: receipts, logs, doctor; no secrets"),
)
def report(site: Site, ask: Ask) -> Any:
    """Tell what the last build did with cores and memory, e.g. invoke report --html build.html."""
    from blackwheel.commands import bundle
    from blackwheel.commands import report as reports

    given = dict(ask.given)
    if given.pop("bundle"):
        return bundle.show_bundle(site, ask.stack, Path.cwd())
    return reports.show_report(site, **given)


namespace = Collection(*(one for one in list(globals().values()) if isinstance(one, Task)))
namespace.configure({"blackwheel": DEFAULTS})
program.adopt()
