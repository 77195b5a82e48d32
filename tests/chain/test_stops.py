"""No way of stopping a build leaves a process behind: every link of the chain, killed alone.

The chain is real (invoke, nox, blackwheel.process, isolation.py, ninja, launcher.py) but for the
package's own command, pip with setup.py, and a compiler that only takes time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import ninja
import pytest

from blackwheel.builder import workspace
from blackwheel.core import isolation
from blackwheel.core.isolation import NAMESPACES, PROCESSES

FORBIDDEN = isolation.available_isolation().reason
MODES = [
    pytest.param(
        NAMESPACES, marks=pytest.mark.skipif(bool(FORBIDDEN), reason=f"namespaces: {FORBIDDEN}")
    ),
    PROCESSES,
]
GONE_WITHIN = 5.0

TASKS = """
import os, sys
from pathlib import Path
from invoke import task
from blackwheel.core import process

@task
def build_wheels(_context):
    nox = [sys.executable, "-m", "nox", "-f", "noxfile.py", "-s", "build"]
    with process.Together() as group:
        group.start("nox", nox, environment=os.environ, cwd=Path.cwd())
        for _, event in group.events():
            print(event) if isinstance(event, str) else sys.exit(event)
"""

NOXFILE = """
import sys
import nox

@nox.session(venv_backend="none")
def build(session):
    session.run(sys.executable, "package.py")
"""

PACKAGE = """
import os, sys
from pathlib import Path
from blackwheel.core import isolation, process

isolation.die_with_parent()
here = Path.cwd()
mode = Path("mode").read_text()
store = here / "store"
paths = isolation.fixed_paths(mode, store)
spec = isolation.Spec(
    mode=mode,
    argv=(sys.executable, "-I", "-S", str(here / "pip.py")),
    root=paths.root,
    binds={"src": here / "src", "tmp": here},
    cwd=paths.src,
    keep=(here, Path(sys.prefix), Path(sys.base_prefix)),
    lock=isolation.fixed_lock(store),
)
command = isolation.isolated_command(spec, here / "spec.json")
done = process.run(command, environment=os.environ, cwd=here, log=here / "build.log")
sys.exit(done.code)
"""

PIP = """
import subprocess, sys
sys.exit(subprocess.call([sys.executable, "-I", "-S", __file__.replace("pip.py", "setup.py")]))
"""

SETUP = """
import subprocess, sys
sys.exit(subprocess.call([NINJA, "-j2"]))
"""

BUILD_NINJA = """
rule compile
  command = {python} -I -S {launcher} {here}/nvcc -c $in -o $out
build a.o: compile a.cu
build b.o: compile b.cu
"""

NVCC = """#!/bin/sh
"${0%/*}/cicc"
exit $?
"""

CICC = """#!/bin/sh
: >> "${0%/*}/started"
sleep $(cat "${0%/*}/seconds")
exit 0
"""

TOPS = {"invoke": ("-m", "invoke", "build-wheels"), "package": ("package.py",)}

LINKS = ("invoke", "nox", "package", "outer", "inner", "pip", "setup", "ninja")
"""Above the launcher: the stop of any of them ends the build."""


class Chain:
    """One build under way, and what is alive of it."""

    def __init__(self, here: Path, mode: str, top: str, *, seconds: float = 60) -> None:
        self.mark = f"mark-{uuid.uuid4().hex}"
        self.here = here / self.mark
        (self.here / "src").mkdir(parents=True)
        fill = {"NINJA": repr(str(Path(ninja.BIN_DIR) / "ninja"))}
        files = {
            "tasks.py": TASKS,
            "noxfile.py": NOXFILE,
            "package.py": PACKAGE,
            "pip.py": PIP,
            "setup.py": SETUP.replace("NINJA", fill["NINJA"]),
            "nvcc": NVCC,
            "cicc": CICC,
            "mode": mode,
            "seconds": str(seconds),
            "src/a.cu": "",
            "src/b.cu": "",
            "src/build.ninja": BUILD_NINJA.format(
                python=sys.executable,
                launcher=workspace.lay_out_launcher(self.here / "bin"),
                here=self.here,
            ),
        }
        for name, text in files.items():
            (self.here / name).write_text(textwrap.dedent(text), encoding="utf-8")
        for name in ("nvcc", "cicc"):
            (self.here / name).chmod(0o755)
        self.top = subprocess.Popen(
            [sys.executable, *TOPS[top]],
            cwd=self.here,
            env={**os.environ, "BLACKWHEEL_TEST": self.mark},
            stdin=subprocess.DEVNULL,
            stdout=(self.here / "output").open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,  # as each link is stopped alone, no terminal stops them all
        )
        started = self.here / "started"
        assert self.within(20, lambda: len(self.find("cicc")) == 2 and started.exists()), (
            self.here / "output"
        ).read_text() + self.log()

    def log(self) -> str:
        log = self.here / "build.log"
        return log.read_text() if log.exists() else ""

    def alive(self) -> dict[int, str]:
        """Process numbers and command lines, of processes that hold the mark and have not ended."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes()
                try:
                    marked = self.mark.encode() in words + (entry / "environ").read_bytes()
                except PermissionError:  # a process that changed its credentials
                    marked = self.mark.encode() in words
            except OSError:
                continue
            if marked and words:
                found[int(entry.name)] = words.replace(b"\0", b" ").decode()
        return found

    def find(self, link: str) -> list[int]:
        """Process numbers of a link, the outermost first."""
        word = {
            "invoke": "-m invoke",
            "nox": "-m nox",
            "package": " package.py",
            "outer": "isolation.py",
            "inner": "isolation.py",
            "pip": "/pip.py",
            "setup": "/setup.py",
            "ninja": "/ninja -j2",
            "launcher": "launcher.py",
            "nvcc": "/nvcc ",
            "cicc": "/cicc",
        }[link]
        # ninja starts a command through `sh -c`, which may stay: that is not the launcher.
        found = sorted(
            pid
            for pid, line in self.alive().items()
            if word in line and not (link != "cicc" and "sh -c" in line)
        )
        if link == "nvcc":
            found = [p for p in found if "launcher.py" not in self.alive().get(p, "")]
        return found[1:2] if link == "inner" else found

    def within(self, seconds: float, seen: Callable[[], object]) -> bool:
        deadline = time.monotonic() + seconds
        while not seen():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def stop(self, link: str, signum: int) -> None:
        os.kill(self.find(link)[0], signum)

    def gone_within(self, seconds: float) -> bool:
        def gone() -> bool:
            self.top.poll()
            return not self.alive()

        return self.within(seconds, gone)

    def end(self) -> None:
        while alive := self.alive():
            for pid in alive:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.02)
        self.top.wait()


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Callable[..., Chain]]:
    made: list[Chain] = []

    def make(mode: str, top: str, **options: float) -> Chain:
        made.append(Chain(tmp_path, mode, top, **options))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("mode", MODES)
def test_a_signal_to_one_link_alone_leaves_no_process(
    chain: Callable[..., Chain], mode: str, link: str, signum: int
) -> None:
    # invoke and nox take most of the time to start: they are there where they matter.
    build = chain(mode, "invoke" if link in ("invoke", "nox", "package") else "package")
    build.stop(link, signum)
    assert build.gone_within(GONE_WITHIN), build.alive()


@pytest.mark.parametrize(
    ("link", "signum"),
    [
        ("launcher", signal.SIGTERM),
        ("launcher", signal.SIGKILL),
        ("nvcc", signal.SIGTERM),
        ("cicc", signal.SIGTERM),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_killed_compiler_fails_the_build_and_nothing_outlives_it(
    chain: Callable[..., Chain], mode: str, link: str, signum: int
) -> None:
    build = chain(mode, "package", seconds=1)
    build.stop(link, signum)
    assert build.top.wait(timeout=10) != 0
    assert build.gone_within(GONE_WITHIN), build.alive()


@pytest.mark.parametrize("link", ["nvcc", "cicc"])
@pytest.mark.parametrize("mode", MODES)
def test_what_the_oom_killer_takes_is_compiled_again_and_the_build_ends_well(
    chain: Callable[..., Chain], mode: str, link: str
) -> None:
    build = chain(mode, "package", seconds=1)
    build.stop(link, signal.SIGKILL)
    assert build.top.wait(timeout=10) == 0, build.log()
    assert "was killed: compiled again, alone\n" in build.log()
    assert build.gone_within(GONE_WITHIN), build.alive()
