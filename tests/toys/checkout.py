"""A checkout of this repository with a stack of toys, and its commands as a person types them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blackwheel.core.console import Quiet
from blackwheel.core.site import Site

TOYS = Path(__file__).parent
REPOSITORY = TOYS.parents[1]
HOST = "https://upstream.invalid/"
"""RFC 2606: no resolver ever knows it. Git reaches the toys through `insteadOf`, as a mirror."""
TAG = f"py3{sys.version_info.minor}"
OURS = ("GIT_", "NOX_", "BLACKWHEEL_", "INVOKE_", "PYTEST_", "CUDA", "COVERAGE_")
"""What the environment of a test run holds and that of a person does not."""
SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Done:
    """An ended command and what it printed."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


def persons_environment() -> dict[str, str]:
    """The variables of this machine, less those that make it a test run."""
    dropped = ("VIRTUAL_ENV", "UV_PYTHON", "PYTHONPATH", "CXX", "CC", "CI", "XDG_CACHE_HOME")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(OURS) and name not in dropped
    }
    if "XDG_CACHE_HOME" in os.environ:  # uv's cache is there
        environment["XDG_CACHE_HOME"] = os.environ["XDG_CACHE_HOME"]
    return {
        **environment,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GIT_CONFIG_SYSTEM": os.devnull,
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }


def site_with(
    store: Path, environment: Mapping[str, str] | None = None, console: Quiet | None = None
) -> Site:
    """A store without a checkout; the environment is this process's unless given."""
    variables = os.environ if environment is None else environment
    return Site(checkout=store, store=store, environment=variables, console=console or Quiet())


def git(folder: Path, *words: str) -> str:
    """Run git as nobody in particular, and return what it printed."""
    who = ["-c", "user.name=toy", "-c", "user.email=toy@upstream.invalid"]
    environment = {**persons_environment(), "GIT_CONFIG_GLOBAL": os.devnull}
    argv = ["git", *who, *words]
    done = subprocess.run(
        argv, cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def repository(origin: Path, place: Path) -> tuple[str, str]:
    """Make a real git repository of a folder; return commit and tree."""
    shutil.copytree(origin, place)
    git(place, "init", "--quiet", "--initial-branch=main")
    git(place, "config", "uploadpack.allowAnySHA1InWant", "true")
    git(place, "config", "uploadpack.allowFilter", "true")
    git(place, "add", "--all", ".")
    git(place, "commit", "--quiet", "--message", "1.0")
    return git(place, "rev-parse", "HEAD"), git(place, "rev-parse", "HEAD^{tree}")


@dataclass
class Checkout:
    """One checkout with its own shelf and store."""

    home: Path
    toy: str = "toy_cuda"
    variables: dict[str, str] = field(default_factory=dict)
    """Set on top of the person's environment."""
    umask: int = -1
    """Of the person's shell; -1: this process's."""

    @property
    def project(self) -> str:
        return self.toy.replace("_", "-")

    @property
    def root(self) -> Path:
        return self.home / "blackwheel"

    @property
    def store(self) -> Path:
        return self.home / "store"

    @property
    def toml(self) -> Path:
        return self.root / "constraints" / "toy.toml"

    @property
    def upstream(self) -> Path:
        return self.home / "upstream"

    @property
    def series(self) -> Path:
        return self.root / "patches" / self.project / "1.0"

    @property
    def shelf(self) -> Path:
        return self.root / "wheels" / "toy"

    @property
    def workshop(self) -> Path:
        return self.store / "builds" / "toy" / self.project / f"cp3{sys.version_info.minor}"

    @property
    def wheels(self) -> list[Path]:
        return sorted(self.shelf.glob("*.whl"))

    @property
    def environment(self) -> dict[str, str]:
        return {
            **persons_environment(),
            "BLACKWHEEL_HOME": str(self.store),
            "BLACKWHEEL_POOL": str(self.home),  # no other test waits for this one
            "GIT_CONFIG_GLOBAL": str(self.home / "gitconfig"),
            "BLACKWHEEL_CACHE": "off",  # a test that compiles twice means to
            **self.variables,
        }

    def edit(self, path: Path, old: str, new: str) -> None:
        """Replace text that stands in a file exactly once."""
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin `invoke …` as the leader of its own group, as a shell does."""
        return subprocess.Popen(
            [sys.executable, "-m", "invoke", *words],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            umask=self.umask,
        )

    def invoke(self, *words: str) -> Done:
        return ended(self.start(*words))

    def build(self, *words: str) -> Done:
        return self.invoke("build-wheels", "--stack", "toy", *words)

    def nox(self, *words: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "nox", *words],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Done(code=done.returncode, out=done.stdout, err=done.stderr)

    def copy(self, home: Path) -> Checkout:
        """Another checkout in the same state; toolchain and environments are shared by links."""
        shutil.copytree(self.home, home, symlinks=True)
        other = Checkout(home=home, toy=self.toy)
        other.point_git()
        return other

    def point_git(self) -> None:
        """Make the toys' repositories the mirror of the host that does not exist."""
        text = f'[url "{self.upstream.as_uri()}/"]\n\tinsteadOf = {HOST}toy/\n'
        (self.home / "gitconfig").write_text(text, encoding="utf-8")


@dataclass(frozen=True, order=True)
class Process:
    """A process; its start tells it from a later one of the same number."""

    pid: int
    started: int
    line: str = field(compare=False, default="")

    @property
    def alive(self) -> bool:
        found = _stat(self.pid)
        return found is not None and found[2] == self.started and found[0] != "Z"


def descendants(pid: int) -> list[Process]:
    """Everything that a process has started and that still runs, whatever its namespaces."""
    children: dict[int, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        seen = _stat(int(entry.name)) if entry.name.isdigit() else None
        if seen:
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            child = Process(pid=int(entry.name), started=seen[2], line=line)
            children.setdefault(seen[1], []).append(child)
    found: list[Process] = []
    frontier = [pid]
    while frontier:
        born = children.get(frontier.pop(), [])
        found += born
        frontier += [child.pid for child in born]
    return found


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start of a process."""
    try:
        text = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[1]), int(fields[19])


def ended(process: subprocess.Popen[str]) -> Done:
    """Wait for a command; whatever hangs is ended with everything in its group."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Done(code=process.returncode, out=out, err=err)


def new_checkout(home: Path, shared: Path, toy: str = "toy_cuda") -> Checkout:
    """A copy of this repository's files with one toy stack added, and an empty store.

    `shared` holds what is slow to make and the same for every test: toolchain and environments.
    """
    checkout = Checkout(home=home, toy=toy)
    names = git(REPOSITORY, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, names.split("\0")):
        if not name.startswith(("tests/", "docs/")) and (REPOSITORY / name).is_file():
            (checkout.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, checkout.root / name)
    add_stack(checkout)
    checkout.store.mkdir(parents=True)
    for name in ("toolchains", "nox", "digests"):
        (shared / name).mkdir(parents=True, exist_ok=True)
        (checkout.store / name).symlink_to(shared / name)
    checkout.point_git()
    return checkout


def add_stack(checkout: Checkout) -> None:
    """Add what a person adds for a stack of their own: pins, patches, hashed requirements."""
    origin = TOYS / checkout.toy
    commit, tree = repository(origin / "upstream", checkout.upstream / checkout.toy)
    filled = {"commit": commit, "tree": tree}
    if (origin / "headers").is_dir():
        commit, tree = repository(origin / "headers", checkout.upstream / "toy_headers")
        filled |= {"headers_commit": commit, "headers_tree": tree}
    text = (origin / "toy.toml").read_text(encoding="utf-8")
    text = re.sub(r"@(\w+)@", lambda found: filled[found[1]], text)
    checkout.toml.write_text(text, encoding="utf-8")
    shutil.copytree(origin / "patches", checkout.series)
    torch211, locks = checkout.root / "constraints" / "torch211", checkout.toml.with_suffix("")
    locks.mkdir()
    for lock in torch211.glob("*.txt"):
        shutil.copy2(lock, locks / lock.name.replace("flash-attn", checkout.project))


def within(seconds: float, seen: Callable[[], object]) -> bool:
    """Tell whether something is seen in time."""
    deadline = time.monotonic() + seconds
    while not seen():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def decoy(folder: Path, *programs: str) -> Path:
    """Programs that must not be called: a call fails, and leaves the file `called`."""
    folder.mkdir(parents=True, exist_ok=True)
    for program in programs:
        path = folder / program
        path.write_text(f'#!/bin/sh\necho "{program} $*" >> {folder}/called\nexit 99\n')
        path.chmod(0o755)
    return folder
