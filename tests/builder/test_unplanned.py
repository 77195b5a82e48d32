"""A build that compiles while it is planned is stopped at its first compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launching import LAUNCHER

from blackwheel.builder import unplanned
from blackwheel.core import process, processes
from blackwheel.core.errors import Exit

SLEEPS = "#include <unistd.h>\nint main(void) { sleep(60); return 0; }\n"
BUILD = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"


@pytest.fixture(scope="module")
def sleeper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compilers")
    (folder / "a.c").write_text(SLEEPS)
    subprocess.run(["gcc", "-o", "compiler", "a.c"], cwd=folder, check=True)
    return folder / "compiler"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("tmp", "src", "build/CMakeFiles/CMakeScratch/TryCompile-x"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def planned(
    folder: Path, sleeper: Path, argv: list[str], *, cwd: str = "src", seconds: float = 8.0
) -> tuple[unplanned.Watch, int]:
    """Run a build whose only step is this compiler, as a plan does; end it after `seconds`."""
    program = folder / argv[0]
    shutil.copy(sleeper, program)
    watch = unplanned.Watch(tmp=str(folder / "tmp"))
    bounded = ["timeout", str(seconds), sys.executable, "-c", BUILD]
    with processes.watching(watch.look, every=0.1):
        done = process.run(
            [*bounded, str(program), *argv[1:]],
            environment={"PATH": os.environ["PATH"], "TMPDIR": str(folder / "tmp")},
            cwd=folder / cwd,
            log=folder / "log",
        )
    return watch, done.code


@pytest.mark.parametrize(
    "argv",
    [
        ["nvcc", "-I.", "-c", "csrc/one.cu", "-o", "one.o", "-gencode=arch=compute_90"],
        ["x86_64-linux-gnu-g++-12", "-O3", "-c", "/src/main.cpp", "-o", "main.o"],
    ],
)
def test_first_compiler_ends_the_plan_with_a_name_and_a_cure(
    folder: Path, sleeper: Path, argv: list[str]
) -> None:
    watch, code = planned(folder, sleeper, argv, seconds=200)
    assert watch.source == argv[argv.index("-c") + 1]
    assert code not in (0, 124), "it was ended, and did not run until its time was over"
    with pytest.raises(unplanned.CompilesError) as caught:
        watch.require_none("toy", "plan.log")
    assert caught.value.code is Exit.BUILD
    assert str(caught.value) == (
        "error: plan-compiles\n"
        "  the build of toy starts its compilers itself, and not through ninja:"
        f" {watch.source} was being compiled in earnest, so the plan was stopped\n"
        "  where: plan.log\n"
        "  fix:   patch setup.py: no use_ninja=False in BuildExtension, and `ninja` in the stack's"
        " requirements\n"
        "         (docs/add-a-project.md, 2. The series)"
    )


@pytest.mark.parametrize(
    ("argv", "cwd"),
    [
        (["nvcc", "-c", "id.cu", "-o", "id.o"], "build/CMakeFiles/CMakeScratch/TryCompile-x"),
        (["g++", "-c", "TMP/flag.cpp", "-o", "flag.o"], "src"),
        (["gcc", "-c", "shim.c", "-o", "shim.o"], "src"),
        (["g++", "-shared", "-o", "one.so", "one.o"], "src"),
        (["ptxas", "-c", "one.cu", "-o", "one.o"], "src"),
    ],
)
def test_trials_links_and_tools_are_let_be(
    folder: Path, sleeper: Path, argv: list[str], cwd: str
) -> None:
    words = [word.replace("TMP", str(folder / "tmp")) for word in argv]
    watch, code = planned(folder, sleeper, words, cwd=cwd, seconds=2)
    assert (watch.source, code) == ("", 124), "it ran until its time was over"
    watch.require_none("toy", "plan.log")


def test_compiler_behind_the_launcher_is_let_be(folder: Path, sleeper: Path) -> None:
    """What the launcher lets through is a trial by its own rules."""
    program = folder / "g++"
    shutil.copy(sleeper, program)
    watch = unplanned.Watch(tmp="/nowhere")
    command = [*LAUNCHER, str(program), "-c", "a.cpp", "-o", "a.o"]
    with subprocess.Popen(command, cwd=folder / "src", env={"PATH": os.environ["PATH"]}) as child:
        deadline = time.monotonic() + 20
        while not any(
            one.words[0] == str(program) and one.parent == child.pid
            for one in processes.processes().values()
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        watch.look()
        assert (watch.source, child.poll()) == ("", None)
        child.kill()
    for one in processes.processes().values():
        if one.words[0] == str(program):
            os.kill(one.number, 9)
