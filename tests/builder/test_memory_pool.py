"""One pool for all builds: real launchers and locks, compilers that sleep or really take memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from checkout import within
from launching import LAUNCHER

from blackwheel.builder import build, memory_pool
from blackwheel.builder.inside import cache_step, launcher, memory
from blackwheel.builder.memory_pool import Expected
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.stacks import projects

if TYPE_CHECKING:
    from blackwheel.builder.plan import BuildPlan

GB = 1 << 30
COMPILER = """
import os, pathlib, sys, time
words = dict(word.partition("=")[::2] for word in sys.argv[1:] if "=" in word)
pathlib.Path(words.get("mark", "/dev/null")).touch()
taken = bytearray(int(words.get("take", 0)) << 20)
for page in range(0, len(taken), 4096):
    taken[page] = 1
time.sleep(float(words.get("sleep", 0)))
while not pathlib.Path(words.get("until", "/")).exists():
    time.sleep(0.02)
tries = pathlib.Path(words.get("tries", "/dev/null"))
if words.get("tries") and int(tries.read_text()):
    tries.write_text(str(int(tries.read_text()) - 1))
    os.kill(os.getpid(), 9)
sys.exit(int(words.get("exit", 0)))
"""


class Bench:
    """A pool of its own, of a size of our choice, and objects of a history of our choice."""

    def __init__(self, here: Path, *, size: int = 10 * GB, cores: int = 16) -> None:
        self.here, self.cores, self.settle = here, cores, 0.0
        self.known: dict[str, Expected] = {}
        self.pools: tuple[tuple[Path, str], ...] = ((memory_pool._file(here / "pool"), str(here)),)
        (here / "compiler.py").write_text(COMPILER, encoding="utf-8")
        # What the kernel shows of a cgroup with a limit.
        for name, text in (("max", size), ("current", 0), ("stat", "inactive_file 0")):
            (here / f"memory.{name}").write_text(f"{text}\n", encoding="utf-8")
        self.running: list[subprocess.Popen[str]] = []

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "BLACKWHEEL_EXPECTED": str(self.here / "pool.txt"),
            "BLACKWHEEL_RECORDS": str(self.here / "objects.jsonl"),
        }

    def expect(self, source: str, gigabytes: float, seconds: float = 1) -> str:
        peak = round(gigabytes * GB / memory_pool.MARGIN)
        self.known[source] = Expected(peak_bytes=peak, cpu_seconds=seconds)
        text = memory_pool.settings(self.pools, self.cores, self.known, settle=self.settle)
        (self.here / "pool.txt").write_text(text, encoding="utf-8")
        return source

    def start(self, source: str, *words: str) -> subprocess.Popen[str]:
        compiler = [sys.executable, "-I", "-S", str(self.here / "compiler.py"), *words]
        process = subprocess.Popen(
            [*LAUNCHER, *compiler, "-c", source, "-o", source + ".o"],
            env=self.environment,
            cwd=self.here,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def cached(self) -> None:
        """Every object asks a cache from here on."""
        path = self.here / "pool.txt"
        path.write_text("cached\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
        cached = self.here / "cached"
        cached.mkdir()
        shutil.copy2(str(cache_step.__file__), cached)
        (self.here / "bin").symlink_to(Path(LAUNCHER[-1]).parent)

    def start_cached(self, source: str, *words: str, misses: bool) -> subprocess.Popen[str]:
        """Start an object whose nvcc asks a cache: the step runs where that has no answer."""
        step = [str(self.here / "cached" / "cache_step.py"), sys.executable, "-I", "-S"]
        python = [sys.executable, "-I", "-S"]
        behind = ["-I", "-S", str(self.here / "compiler.py"), *words]
        argv = [*python, *step[:2], *behind] if misses else [sys.executable, *behind]
        process = subprocess.Popen(
            [*LAUNCHER, *argv, "-c", source, "-o", source + ".o"],
            env={**self.environment, "SCCACHE_SERVER_UDS": "none"},
            cwd=self.here,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def wait_until_queued(self, count: int) -> None:
        """Wait until so many launchers stand in the queue."""
        file = os.open(self.here / "pool", os.O_RDWR)
        held = partial(memory._held, file, memory.QUEUE, memory.GATE)
        assert within(20, lambda: len(held()) == count)
        os.close(file)

    def records(self) -> dict[str, dict[str, float]]:
        text = (self.here / "objects.jsonl").read_text(encoding="utf-8")
        return {line["source"]: line for line in map(json.loads, text.splitlines())}

    def order(self) -> list[str]:
        return sorted(self.records(), key=lambda source: self.records()[source]["began"])

    def most_at_once(self) -> int:
        spans = [
            (line["began"], line["began"] + line["seconds"]) for line in self.records().values()
        ]
        return max(sum(a <= began < b for a, b in spans) for began, _ in spans)

    def wait(self) -> list[int]:
        return [process.wait(timeout=60) for process in self.running]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**options: int) -> Bench:
        made.append(Bench(tmp_path, **options))
        return made[-1]

    yield make
    (tmp_path / "enough").touch()  # a compiler that outlives its launcher holds the pipe
    for process in (process for one in made for process in one.running):
        process.kill()
        process.communicate()


def test_objects_begin_together_only_as_far_as_their_memory_fits(
    bench: Callable[..., Bench],
) -> None:
    here = bench(size=10 * GB)
    for source in [here.expect(f"{n}.cu", 4.9) for n in "abcd"]:
        here.start(source, "sleep=0.4")
    assert here.wait() == [0] * 4
    assert here.most_at_once() == 2


def test_memory_that_others_took_is_not_given_out(bench: Callable[..., Bench]) -> None:
    here = bench(size=10 * GB)
    (here.here / "memory.current").write_text(f"{5 * GB}\n", encoding="utf-8")
    for source in [here.expect(f"{n}.cu", 4) for n in "ab"]:
        here.start(source, "sleep=0.4")
    assert here.wait() == [0, 0]
    assert here.most_at_once() == 1


def test_no_more_objects_than_cores_run_on_the_machine(bench: Callable[..., Bench]) -> None:
    here = bench(cores=2)
    for source in [here.expect(f"{n}.cu", 0.5) for n in "abcd"]:
        here.start(source, "sleep=0.3")
    assert here.wait() == [0] * 4
    assert here.most_at_once() == 2


def test_object_larger_than_the_pool_runs_alone(bench: Callable[..., Bench]) -> None:
    here = bench(size=10 * GB)
    for source in [here.expect("small.cu", 1), here.expect("giant.cu", 64, seconds=9)]:
        here.start(source, "sleep=0.3")
    assert here.wait() == [0, 0]
    assert here.most_at_once() == 1


def test_big_object_is_not_passed_for_ever_by_small_ones(bench: Callable[..., Bench]) -> None:
    here = bench(size=10 * GB)
    small = [here.expect(f"{n}.cu", 4, seconds=0) for n in "abcdef"]
    big = here.expect("big.cu", 9, seconds=0)
    for n in (0, 1):
        here.start(small[n], f"mark=begun{n}", "sleep=2")
        assert within(20, (here.here / f"begun{n}").exists)
    here.start(big, "sleep=0.1")
    here.wait_until_queued(1)
    for source in small[2:]:
        here.start(source, "sleep=0.1")
    assert here.wait() == [0] * 7
    assert here.order()[2] == big


def test_longest_objects_begin_first(bench: Callable[..., Bench]) -> None:
    here = bench(cores=1)
    first = here.expect("first.cu", 1)
    sources = [here.expect(f"{n}.cu", 1, seconds=n) for n in (10, 300, 40, 200)]
    here.start(first, "mark=begun", "until=enough")
    assert within(20, (here.here / "begun").exists)
    for source in sources:
        here.start(source)
    here.wait_until_queued(4)
    (here.here / "enough").touch()
    assert here.wait() == [0] * 5
    assert here.order() == ["first.cu", "300.cu", "200.cu", "40.cu", "10.cu"]


def test_of_those_that_come_at_the_same_time_the_longest_begins(
    bench: Callable[..., Bench],
) -> None:
    here, began = bench(cores=1), list[str]()
    here.settle = 0.5

    def compile_one(source: str) -> None:
        held = memory.shares(memory.Settings(str(here.here / "pool.txt"), source), alone=False)
        began.append(source)
        for file in held:
            os.close(file)

    names = [here.expect(f"{n}.cu", 1, seconds=n) for n in (10, 40, 300)]
    threads = [threading.Thread(target=compile_one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert began == ["300.cu", "40.cu", "10.cu"]


def test_object_that_the_cache_answers_does_not_wait_for_its_cold_memory(
    bench: Callable[..., Bench],
) -> None:
    """Another build holds nearly all memory for as long as the test likes."""
    pool = bench(size=10 * GB)
    big, hit, miss = (pool.expect(f"{name}.cu", 9, seconds=9) for name in ("big", "hit", "miss"))
    pool.start(big, f"until={pool.here / 'enough'}", f"mark={pool.here / 'began'}")
    assert within(20, (pool.here / "began").exists)
    pool.cached()
    assert pool.start_cached(hit, misses=False).wait(timeout=30) == 0
    waiting = pool.start_cached(miss, f"mark={pool.here / 'compiled'}", misses=True)
    pool.wait_until_queued(1)
    assert not (pool.here / "compiled").exists(), "what it has not, takes its 9 GB"
    (pool.here / "enough").touch()
    assert waiting.wait(timeout=30) == 0
    assert (pool.here / "compiled").exists()


def test_misses_compile_together_only_as_far_as_their_memory_fits(
    bench: Callable[..., Bench],
) -> None:
    pool = bench(size=10 * GB, cores=8)
    names = [pool.expect(f"{n}.cu", 4) for n in range(5)]
    pool.cached()
    for name in names:
        pool.start_cached(name, "sleep=0.4", f"mark={pool.here / name}.began", misses=True)
    assert pool.wait() == [0] * 5
    begun = sorted((pool.here / f"{name}.began").stat().st_mtime for name in names)
    together = max(sum(a <= b < a + 0.4 for b in begun) for a in begun)
    assert together == 2, "4 GB each, of 10"


def test_miss_larger_than_the_pool_runs_when_all_others_are_light(
    bench: Callable[..., Bench],
) -> None:
    pool = bench(size=4 * GB, cores=3)
    names = [pool.expect(f"{n}.cu", 9) for n in range(4)]
    pool.cached()
    for name in names:
        pool.start_cached(name, "sleep=0.1", misses=True)
    assert pool.wait() == [0] * 4


def test_misses_that_wait_do_not_begin_after_another_has_failed(
    bench: Callable[..., Bench],
) -> None:
    pool = bench(size=10 * GB)
    big, late = pool.expect("big.cu", 9), pool.expect("late.cu", 9)
    pool.start(big, f"until={pool.here / 'enough'}", f"mark={pool.here / 'began'}")
    assert within(20, (pool.here / "began").exists)
    pool.cached()
    waiting = pool.start_cached(late, misses=True)
    pool.wait_until_queued(1)
    (pool.here / "pool.txt.failed").touch()
    assert waiting.wait(timeout=30) == launcher.NOT_BEGUN
    (pool.here / "enough").touch()


@pytest.mark.parametrize("who", ["launcher", "compiler", "one that waits"])
def test_kill_of_anything_frees_its_share_at_once(bench: Callable[..., Bench], who: str) -> None:
    here = bench(size=10 * GB)
    one, two, three = (here.expect(f"{n}.cpp", 6) for n in "abc")
    mark = here.here / "tries"
    mark.write_text("0", encoding="utf-8")
    holder = here.start(one, "mark=begun", "sleep=8")
    assert within(20, (here.here / "begun").exists)
    waiting = here.start(two, "sleep=8" if who == "one that waits" else "sleep=0")
    here.wait_until_queued(1)
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
    if who == "one that waits":
        last = here.start(three)
        here.wait_until_queued(2)
        waiting.kill()
    began = time.monotonic()
    # The compiler holds the share as long as it has the memory; the launcher's end alone is not it.
    if who == "launcher":
        holder.kill()
        time.sleep(0.4)
        assert waiting.poll() is None
    os.kill(int(children[0]), signal.SIGKILL)
    process = last if who == "one that waits" else waiting
    if who == "compiler":
        holder.kill()  # it would compile again, alone
    assert process.wait(timeout=5) == 0
    assert time.monotonic() - began < 1.5


def test_killed_object_is_compiled_again_alone(bench: Callable[..., Bench]) -> None:
    here = bench()
    tries = here.here / "tries"
    tries.write_text("1", encoding="utf-8")
    beside = here.start(here.expect("beside.cu", 1), "mark=begun", "sleep=2")
    assert within(20, (here.here / "begun").exists)
    victim = here.start(here.expect("victim.cu", 1), f"tries={tries}")
    assert victim.communicate(timeout=20)[1] == (
        "blackwheel: victim.cu was killed: compiled again, alone\n"
    )
    assert (victim.returncode, beside.wait()) == (0, 0)
    records = here.records()
    assert records["victim.cu"]["began"] >= (
        records["beside.cu"]["began"] + records["beside.cu"]["seconds"]
    )


def test_record_is_written_as_json_writes_it() -> None:
    line = {
        "source": 'kr\u00e4fte "1"\\\n.cu',
        "archs": ["sm_90", "sm_120a"],
        "began": 1795630021.362,
        "peak_bytes": 3913371648,
        "cached": True,
        "exit": 0,
        "missing": [],
    }
    assert launcher.as_json(line) == json.dumps(line, sort_keys=True)


def test_nvcc_asks_the_cache_for_device_and_host_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLACKWHEEL_NVCC", "/w/cached/nvcc")
    monkeypatch.setenv("NVCC_CCBIN", "/w/cached/g++")
    words = ["-O3", "-ccbin", "/usr/bin/g++", "-c", "a.cu", "-o", "a.o"]
    asking = launcher.through_cache(["/cuda/bin/nvcc", *words])
    assert asking == ["/w/cached/nvcc", *" ".join(words).replace("/usr/bin", "/w/cached").split()]


def test_object_killed_twice_says_so_and_fails(bench: Callable[..., Bench]) -> None:
    here = bench()
    tries = here.here / "tries"
    tries.write_text("2", encoding="utf-8")
    victim = here.start(here.expect("victim.cu", 1), f"tries={tries}")
    assert victim.communicate(timeout=20)[1] == (
        "blackwheel: victim.cu was killed: compiled again, alone\n"
        "blackwheel: killed victim.cu: twice, the second time alone\n"
    )
    assert victim.returncode == launcher.KILLED


def test_objects_that_wait_do_not_begin_after_another_has_failed(
    bench: Callable[..., Bench],
) -> None:
    here = bench(cores=1)
    here.start(here.expect("bad.cu", 1), "mark=begun", "until=enough", "exit=3")
    assert within(20, (here.here / "begun").exists)
    waiting = here.start(here.expect("good.cu", 1))
    here.wait_until_queued(1)
    (here.here / "enough").touch()
    assert waiting.communicate(timeout=20)[1] == (
        "blackwheel: not begun: good.cu: another object failed\n"
    )
    assert here.wait() == [3, launcher.NOT_BEGUN]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: root only")
def test_another_user_takes_shares_of_the_same_pool(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        ((path, _),) = memory_pool.locks({"BLACKWHEEL_POOL": str(tmp_path)})[-1:]
    finally:
        os.umask(old)
    folder = os.open(tmp_path, os.O_RDONLY)
    tmp_path.chmod(0o1777)
    source = Path(memory.__file__).read_text(encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            source + PROBE.replace("FOLDER", str(folder)),
        ],
        pass_fds=(folder,),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert (path.stat().st_mode & 0o777, done.stdout) == (0o666, "[]\n")


PROBE = """
import fcntl, struct
os.fchdir(FOLDER)
os.setuid(65534)
file = os.open("blackwheel-pool", os.O_RDWR | os.O_NOFOLLOW)
_lock(file, 0, 1)
print(_held(file, 0, 9))
"""


def test_link_in_the_place_of_the_pool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blackwheel-pool").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BlackwheelError) as caught:
        memory_pool.locks({"BLACKWHEEL_POOL": str(tmp_path)})
    assert caught.value.code == Exit.MACHINE
    assert str(caught.value) == (
        "error: no-pool\n"
        "  the file that shares out memory among builds cannot be used:"
        " Too many levels of symbolic links\n"
        f"  where: {tmp_path}/blackwheel-pool\n"
        "  fix:   remove that file, or export BLACKWHEEL_POOL=/a/folder of all users who build here"
    )


def test_expectations_come_from_history_and_else_from_the_table(tmp_path: Path) -> None:
    records = tmp_path / "builds/stable/toy/cp311" / "work/objects.jsonl"
    records.parent.mkdir(parents=True)
    lines = [
        {"source": "flash_bwd_a.cu", "peak_bytes": 4 * GB, "cpu_seconds": 80, "exit": 0},
        {"source": "flash_bwd_a.cu", "peak_bytes": 1 * GB, "cpu_seconds": 90, "exit": 0},
        {"source": "flash_bwd_b.cu", "peak_bytes": 1 * GB, "cpu_seconds": 1, "exit": 137},
        {"source": "other.cu", "peak_bytes": 9, "cpu_seconds": 1, "exit": 0, "cached": True},
    ]
    lines = [{"began": 1.0, "seconds": 2.0, **line} for line in lines]
    text = "\n".join(map(json.dumps, lines)) + '\n{"half a li'
    records.write_text(text, encoding="utf-8")
    costs = projects.load(Path(__file__).parents[2] / "patches", "vllm").build.costs
    text = memory_pool.settings((), 2, memory_pool.history(tmp_path, "toy"), costs)
    (tmp_path / "pool.txt").write_text(text, encoding="utf-8")
    memory_pool.keep_history(tmp_path, "toy", "stable/toy/cp311", records)
    assert not records.exists()
    assert memory_pool.history(tmp_path, "toy")["flash_bwd_a.cu"].peak_bytes == 4 * GB

    def expected(source: str) -> tuple[float, float]:
        read = memory.Settings(str(tmp_path / "pool.txt"), source)
        return round(read.wanted / GB, 2), read.seconds

    assert expected("flash_bwd_a.cu") == (4.2, 90)
    assert [expected(name)[0] for name in ("flash_bwd_b.cu", "flash_fwd_split_x.cu")] == [7, 5]
    assert [expected(name)[0] for name in ("sm80_kernel_x.cu", "other.cu", "api.cpp")] == [1, 3, 2]
    assert [expected(name)[0] for name in ("gemm.cu", "q_gemm.cu")] == [10, 3], "a whole name"


GROUPS = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A real cgroup that kills what takes more than 400 MB."""
    for top, limit in zip(GROUPS, ("memory.limit_in_bytes", "memory.max"), strict=True):
        folder = top / f"blackwheel-test-{os.getpid()}"
        try:
            folder.mkdir()
            (folder / limit).write_text(str(400 << 20))
        except OSError:
            if folder.is_dir():
                folder.rmdir()
            continue
        yield folder
        for _ in range(50):
            try:
                return folder.rmdir()
            except OSError:
                time.sleep(0.1)
    pytest.skip("no cgroup of memory can be made here: needs root and the memory controller")


@pytest.mark.parametrize("pooled", [True, False])
def test_three_objects_of_200_mb_in_a_cgroup_of_400_need_the_pool(
    bench: Callable[..., Bench], small_group: Path, pooled: bool
) -> None:
    here = bench()
    here.pools = ((here.pools[0][0], str(small_group)),)
    sources = [here.expect(f"{n}.cu", 0.21) for n in "abc"]
    compiler = f"{sys.executable} -I -S {here.here}/compiler.py take=200 sleep=1"
    start = f"{' '.join(LAUNCHER)} " if pooled else ""
    line = " & ".join(f"{start}{compiler} -c {s} -o {s}.o || touch {s}.failed" for s in sources)
    script = f"echo $$ > {small_group}/cgroup.procs; {line} & wait"
    subprocess.run(
        ["sh", "-c", script], env=here.environment, cwd=here.here, capture_output=True, check=False
    )
    failed = [source for source in sources if (here.here / f"{source}.failed").exists()]
    assert bool(failed) != pooled
    if pooled:
        assert here.most_at_once() == 1


def test_object_that_was_killed_twice_is_out_of_memory_and_says_what_to_do(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    said = "blackwheel: killed /tmp/blackwheel/src/csrc/bwd.cu: twice, the second time alone"
    log.write_text(f"[1/2] nvcc bwd.cu\n{said}\nFAILED: bwd.o\n", encoding="utf-8")
    request = SimpleNamespace(project="flash-attn", pin=SimpleNamespace(version="2.8.3"))
    error = build.failure(
        cast("BuildPlan", SimpleNamespace(request=request)), log, 1, noted=tmp_path / "none"
    )
    assert str(error) == (
        "error: out-of-memory\n"
        "  flash-attn 2.8.3: bwd.cu was killed twice, the second time with no other object"
        " beside it\n"
        f"  where: {log}\n"
        "  fix:   close other programs or raise the memory limit, then run the same command again:"
        " it continues with the objects already compiled"
    )
    assert error.code == Exit.BUILD


@pytest.mark.parametrize("relative", ["-Iinclude", "-I include", "-MF x.d", "x.cu", "-o x.o"])
def test_only_a_command_of_absolute_paths_is_moved_to_another_folder(relative: str) -> None:
    words = ["nvcc", "-I/a", "-isystem", "/b", "-MF", "/c.d", "-c", "/x.cu", "-o", "/x.o"]
    assert launcher.all_absolute(words)
    assert not launcher.all_absolute([*words, *relative.split()])
