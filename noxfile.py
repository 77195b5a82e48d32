"""The environments; imports no package code: `python -m blackwheel` does each session's work."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nox

ROOT = Path(__file__).parent
_CODES: list[int] = []
"""The exit code of the first command that failed."""
CONSTRAINTS = ROOT / "constraints"


def _typed(name: str) -> str:
    """Read `--name VALUE` or `--name=VALUE` behind nox's own `--`."""
    words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    words = [part for word in words for part in word.split("=", word.startswith(f"--{name}="))]
    return words[words.index(f"--{name}") + 1] if f"--{name}" in words[:-1] else ""


def _option(name: str) -> str:
    """Return the word that was typed, else the session file's, else BLACKWHEEL_NAME's."""
    return (
        _typed(name)
        or str(_ORDER.get(name, ""))
        or os.environ.get(f"BLACKWHEEL_{name.upper()}", "")
    )


def _store() -> Path:
    named = os.environ.get("BLACKWHEEL_HOME")
    home = os.path.expanduser("~/.cache")  # noqa: PTH111  a user without a home is no traceback here
    cache = os.environ.get("XDG_CACHE_HOME") or home
    return Path(named or f"{cache}/blackwheel").absolute()


def _read(path: str) -> dict[str, Any]:
    """Read a session file, which a command of the package wrote."""
    try:
        return dict(json.loads(Path(path).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        sys.exit(f"error: bad-session-file\n  {error}\n  where: {path}")


def _projects() -> list[str]:
    if _ORDER:
        return [str(_ORDER.get("project", ""))]
    tables = [tomllib.loads(path.read_text("utf-8")) for path in CONSTRAINTS.glob("*.toml")]
    return sorted({name for table in tables for name in table.get("build", [])})


def _folder() -> str:
    """Name the environments of a stack and a Python: one component, whatever was typed."""
    name = f"{STACK}-{PYTHON.strip('/').replace('/', '-')}"
    if "/" in STACK or STACK.startswith("."):
        sys.stderr.write(f"error: unknown-stack\n  '{STACK}' is no name of a stack\n")
        sys.exit(2)
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return name if len(name) <= 120 else f"{name[:100]}-{digest}"


_FILE = _typed("session-file")
_ORDER = _read(_FILE) if _FILE else {}
_ASKED = _option("stack")
STACK = _ASKED or "nightly"
PYTHON = _option("python") or sys.executable
"""A version or a path; the same word that `--python` of the tasks takes."""

nox.needs_version = ">=2026.4"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.download_python = "never"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint", "types"]
nox.options.envdir = str(_store() / "nox" / _folder() if _ASKED else ROOT / ".nox")
"""What a stack needs is gigabytes and shared by checkouts; what develops this one stays in it."""


def _sync(session: nox.Session, *locks: str) -> None:
    """Make the environment of this checkout's own tools hold exactly these hashed pins."""
    files = [word for lock in locks for word in ("--requirement", lock)]
    if session.venv_backend == "uv":
        session.run("uv", "pip", "sync", "--quiet", "--require-hashes", *locks)
    else:
        session.install("--require-hashes", *files)


def _bound(*words: str) -> tuple[str, ...]:
    """Let a command end with this process: it asks the kernel for that before it is the command."""
    isolation = str(ROOT / "blackwheel" / "core" / "isolation.py")
    return (sys.executable, "-I", "-S", isolation, "--exec", str(os.getpid()), *words)


def _blackwheel(session: nox.Session, *words: str) -> None:
    """Run the package outside of the session's environment, where its requirements are."""
    # nox would kill after 0.3 s; the package stops its compilers and takes its bar away first.
    # Progress stays on stderr: nox would mix it into the results.
    with _kept_code():
        session.run(
            *_bound(sys.executable, "-m", "blackwheel", *words),
            external=True,
            stderr=None,
            interrupt_timeout=5.0,
            terminate_timeout=5.0,
        )


@contextmanager
def _kept_code() -> Iterator[None]:
    """Let nox end with the code of the first command that failed: its own is 1 for every one."""
    try:
        yield
    except nox.command.CommandFailed as error:
        code = error.return_code or 1
        if not _CODES:
            _CODES.append(code if code > 0 else 128 - code)
            atexit.register(_end)
        raise


def _end() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(_CODES[0])


@contextmanager
def _session_file(session: nox.Session, *words: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the file that a command wrote; write one for a session that a person typed."""
    if _FILE:
        yield _FILE, _ORDER
        return
    folder = _store() / "sessions"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="typed-", suffix=".json") as file:
        _blackwheel(session, "resolve", file.name, *words)
        if not Path(file.name).stat().st_size:
            session.skip("help was asked for")
        yield file.name, _read(file.name)


def _developed(session: nox.Session) -> None:
    """Make the environment hold the hashed pins of development, and this checkout."""
    tell = "import sys; print('%d%d' % sys.version_info[:2])"
    version = str(session.run("python", "-c", tell, silent=True, log=False)).strip()
    _sync(session, f"constraints/dev-py{version}.txt")
    session.install("--quiet", "--no-deps", "--no-build-isolation", "--editable", ".")


@nox.session(python=PYTHON)
@nox.parametrize("project", [nox.param(name, id=name) for name in _projects()])
def build(session: nox.Session, project: str) -> None:
    """Build one project's wheel in its own environment: torch and tools by hash, no network."""
    _in_environment(session, "build", project)


@nox.session(python=PYTHON)
@nox.parametrize("project", [nox.param(name, id=name) for name in _projects()])
def plan(session: nox.Session, project: str) -> None:
    """Plan one project's objects, compiling none; an environment of its own: builds take hours."""
    _in_environment(session, "plan", project)


def _in_environment(session: nox.Session, verb: str, project: str) -> None:
    words = session.posargs or ["--stack", STACK]
    with _session_file(session, verb, project, *words) as (file, order):
        there = ("--environment", session.virtualenv.location)
        _blackwheel(session, "sync", file, *there, "--locks", order["lock"])
        _blackwheel(session, verb, file, *there)


@nox.session(python=PYTHON)
def smoke(session: nox.Session) -> None:
    """Import each wheel alone, then a stack's set, and check kernels; -- --require-gpu."""
    with _session_file(session, "smoke", *session.posargs) as (file, order):
        nested = bool(_FILE and _typed("python"))  # started by the last lines below
        others = set()
        for number, group in enumerate(order["groups"]):
            place = (group["stack"], group["where"])
            if place == (STACK, PYTHON) if nested else group["here"]:
                _install(session, file, group)
                words = ["--group", str(number), "--environment", session.virtualenv.location]
                _blackwheel(session, "smoke", file, *words)
            elif not nested:
                others.add(place)
        for stack, python in sorted(others):  # each Python has an environment of its own
            words = ["--session-file", file, "--stack", stack, "--python", python]
            nox = _bound(sys.executable, "-m", "nox", "-s", "smoke", "--", *words)
            with _kept_code():
                session.run(*nox, external=True)


def _install(session: nox.Session, file: str, group: dict[str, Any]) -> None:
    """Make the environment hold a group's wheels, and what their locks name."""
    given = ("--locks", *group["locks"], "--wheels", *group["wheels"])
    _blackwheel(session, "sync", file, "--environment", session.virtualenv.location, *given)


@nox.session(python=PYTHON)
def bench(session: nox.Session) -> None:
    """Measure: -- attention [--stack S] [--against WHEEL], or -- serving --url URL [--log FILE]."""
    words = session.posargs or ["attention"]
    if words[0] == "serving":
        _blackwheel(session, "bench", *words)
        return
    with _session_file(session, "smoke", "--stack", STACK, "--python", PYTHON) as (file, order):
        _install(session, file, order["groups"][0])
        known = {"--stack", "--python"}
        rest = [
            w
            for n, w in enumerate(words)
            if not known & {w.partition("=")[0], *words[max(0, n - 1) : n]}
        ]
        there = ("--environment", session.virtualenv.location)
        _blackwheel(session, "bench", *rest, *there, "--order", file)


@nox.session(python=False)
def lock(session: nox.Session) -> None:
    """Resolve and hash every environment of every stack again."""
    _blackwheel(session, "lock", *session.posargs)


@nox.session(python=False)
def pins(session: nox.Session) -> None:
    """Ask for each pin of every stack whether it can still be had; -- --stack NAME, -- --every."""
    with _kept_code():
        session.run(sys.executable, "-m", "invoke", "outdated", "--gone", *session.posargs)


@nox.session(python=False)
def bump(session: nox.Session) -> None:
    """Move a nightly to its newest build, lock, build, audit and smoke; -- STACK --report FILE."""
    _blackwheel(session, "bump", *session.posargs)


@nox.session(python=PYTHON)
def tests(session: nox.Session) -> None:
    """Run the tests; arguments behind -- go to pytest."""
    _developed(session)
    session.run("pytest", "--numprocesses", "auto", "--dist", "worksteal", *session.posargs)


@nox.session(python=PYTHON)
def fuzz(session: nox.Session) -> None:
    """Judge every parser of others' files with 20,000 inputs; -- [NAME…] [--count N] [--seed N]."""
    _developed(session)
    session.run("python", "-W", "ignore", "tests/fuzz", *session.posargs)


@nox.session(python=PYTHON)
def faults(session: nox.Session) -> None:
    """Inject faults into real commands: hours; -- --short for a few, --only KIND:NUMBER."""
    _developed(session)
    folders = [str(ROOT / "tests" / name) for name in ("faults", "toys", "toys/cuda")]
    words = session.posargs or ["--report", str(ROOT / "benchmarks" / "faults.md")]
    session.run("python", "-m", "campaign", *words, env={"PYTHONPATH": os.pathsep.join(folders)})


@nox.session(python=PYTHON, name="audit-deps")
def audit_deps(session: nox.Session) -> None:
    """Ask for known vulnerabilities of the tool's pins; -- --kept all.zip without a network."""
    _sync(session, ".ci/audit.txt")
    with _kept_code():
        session.run("python", ".ci/audit_deps.py", *session.posargs)


@nox.session(python=PYTHON)
def lint(session: nox.Session) -> None:
    """Check style."""
    _developed(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=PYTHON)
def docs(session: nox.Session) -> None:
    """Render the documents into build/docs; a warning and a broken link are errors."""
    _sync(session, ".ci/docs.txt")
    site = ROOT / "build" / "docs"
    strict = ("--fail-on-warning", "--keep-going", "--nitpicky", "--fresh-env", "--quiet")
    where = ("--conf-dir", "docs/make/site", ".", str(site))
    session.run("sphinx-build", "--builder", "html", *strict, *where)
    session.log(f"{site / 'README.html'}")


@nox.session(python=PYTHON)
def types(session: nox.Session) -> None:
    """Check types."""
    _developed(session)
    session.run("mypy")
