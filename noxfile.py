"""The environments; imports no package code: `python -m blackwheel` does each session's work."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).parent
CONSTRAINTS = ROOT / "constraints"


def _option(name: str, default: str) -> str:
    """Read `--name VALUE` behind nox's own `--`, else BLACKWHEEL_NAME."""
    words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    if f"--{name}" in words[:-1]:
        return words[words.index(f"--{name}") + 1]
    return os.environ.get(f"BLACKWHEEL_{name.upper()}") or default


def _store() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("BLACKWHEEL_HOME") or f"{cache}/blackwheel").absolute()


def _projects() -> list[str]:
    tables = [tomllib.loads(path.read_text("utf-8")) for path in CONSTRAINTS.glob("*.toml")]
    return sorted({name for table in tables for name in table.get("build", [])})


_ASKED = _option("stack", "")
STACK = _ASKED or "nightly"
PYTHON = _option("python", sys.executable)
"""A version or a path; the same word that `--python` of the tasks takes."""

nox.needs_version = ">=2026.4"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.download_python = "never"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint", "types"]
nox.options.envdir = str(
    _store() / "nox" / f"{STACK}-{PYTHON.strip('/').replace('/', '-')}" if _ASKED else ROOT / ".nox"
)
"""What a stack needs is gigabytes and shared by checkouts; what develops this one stays in it."""


def _sync(session: nox.Session, *locks: str) -> None:
    """Make the environment hold exactly these hashed pins."""
    files = [word for lock in locks for word in ("--requirement", lock)]
    if session.venv_backend == "uv":
        session.run("uv", "pip", "sync", "--quiet", "--require-hashes", *locks)
    else:
        session.install("--require-hashes", *files)


def _blackwheel(session: nox.Session, *words: str, silent: bool = False) -> str:
    """Run the package outside of the session's environment, where its requirements are."""
    command = [sys.executable, "-m", "blackwheel", *words]
    # Progress stays on stderr: nox would mix it into the results.
    # nox would kill after 0.3 s; the package stops its compilers and takes its bar away first.
    patience = {"interrupt_timeout": 5.0, "terminate_timeout": 5.0}
    quiet = {"silent": silent, "log": not silent, "stderr": None}
    done = session.run(*command, external=True, **quiet, **patience)
    return str(done or "")


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
    lock = _blackwheel(session, "lock-file", project, *words, silent=True).strip()
    _sync(session, lock)
    environment = session.virtualenv.location
    _blackwheel(session, verb, project, *words, "--environment", environment)


@nox.session(python=PYTHON)
def smoke(session: nox.Session) -> None:
    """Import each wheel alone, then a stack's set, and check kernels; -- --require-gpu."""
    work = json.loads(_blackwheel(session, "smoke-list", *session.posargs, silent=True))
    for group in work:
        required = ["--require-gpu"] if "--require-gpu" in session.posargs else []
        words = ["--stack", group["stack"], "--python", PYTHON, *required]
        words += ["--wheels", *group["wheels"]]
        if not group["here"]:
            options = ["--", *words[:2], "--python", group["python"], *words[4:]]
            session.run(sys.executable, "-m", "nox", "-s", "smoke", *options, external=True)
            continue
        _sync(session, *group["locks"])
        session.install("--no-deps", *group["wheels"])
        _blackwheel(session, "smoke", *words, "--environment", session.virtualenv.location)


@nox.session(python=PYTHON)
def bench(session: nox.Session) -> None:
    """Measure: -- attention [--stack S] [--against WHEEL], or -- serving --url URL [--log FILE]."""
    words = session.posargs or ["attention"]
    if words[0] == "serving":
        _blackwheel(session, "bench", *words)
        return
    options = ["--stack", STACK, "--python", PYTHON]
    group = json.loads(_blackwheel(session, "smoke-list", *options, silent=True))[0]
    _sync(session, *group["locks"])
    session.install("--no-deps", *group["wheels"])
    known = {"--stack", "--python"}
    rest = [w for n, w in enumerate(words) if not known & {w, *words[max(0, n - 1) : n]}]
    _blackwheel(session, "bench", *rest, "--environment", session.virtualenv.location)


@nox.session(python=False)
def lock(session: nox.Session) -> None:
    """Resolve and hash every environment of every stack again."""
    _blackwheel(session, "lock", *session.posargs)


@nox.session(python=PYTHON)
def tests(session: nox.Session) -> None:
    """Run the tests; arguments behind -- go to pytest."""
    _developed(session)
    session.run("pytest", "--numprocesses", "auto", "--dist", "worksteal", *session.posargs)


@nox.session(python=PYTHON)
def lint(session: nox.Session) -> None:
    """Check style."""
    _developed(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=PYTHON)
def types(session: nox.Session) -> None:
    """Check types."""
    _developed(session)
    session.run("mypy")
