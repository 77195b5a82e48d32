"""The compile cache: same bytes with it and without, hits after a rebuild, refusals."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from checkout import Checkout, persons_environment, within
from launching import LAUNCHER

from blackwheel.builder import compile_cache, workspace
from blackwheel.core import isolation
from blackwheel.core.errors import BlackwheelError, Exit

pytestmark = [pytest.mark.toolchain, pytest.mark.network]
in_namespaces = pytest.mark.skipif(
    isolation.available_isolation().mode != isolation.NAMESPACES, reason="no namespaces here"
)
FLAGS = ("-gencode=arch=compute_120a,code=sm_120a", "-Xcompiler", "-fPIC", "-objtemp")


@pytest.mark.torch
@pytest.mark.slow
def test_build_with_a_cold_and_a_warm_cache_has_the_bytes_of_one_without(built: Checkout) -> None:
    before = [path.read_bytes() for path in built.wheels]
    built.variables |= {"BLACKWHEEL_CACHE": "sccache", "SCCACHE_REDIS_PASSWORD": "hush"}
    cold = built.build("--again")
    assert cold.code == 0, cold.said
    assert "toy-cuda: cache: 0 hits, 9 misses (3 C/C++, 2 CUBIN, 2 PTX, 2 cudafe++)\n" in cold.err
    if isolation.available_isolation().mode == isolation.NAMESPACES:
        assert [path.read_bytes() for path in built.wheels] == before
    warm = built.build("--again")
    assert warm.code == 0, warm.said
    assert "toy-cuda: cache: 9 hits, 0 misses\n" in warm.err
    if isolation.available_isolation().mode == isolation.NAMESPACES:
        assert [path.read_bytes() for path in built.wheels] == before
    lines = (built.workshop / "work" / "objects.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["cached"] for line in lines] == [True, True, True]
    built.variables["BLACKWHEEL_CACHE"] = "off"
    built.edit(built.toml, "revision = 1", "revision = 2")
    assert built.build().code == 0
    assert len((built.workshop / "work" / "objects.jsonl").read_text().splitlines()) == 3, (
        "as it was"
    )
    files = [*built.shelf.glob("*.json"), *built.workshop.glob("*.*")]
    assert [path for path in files if "hush" in path.read_text(errors="replace")] == []


HEADER = """
inline const char *here() { return __FILE__; }
__device__ inline float twice(float x) { return 2 * x; }
__device__ inline const char *where() { return __FILE__; }
"""

INTERNAL = """
namespace { struct Mine {}; }
template <class T> __global__ void kernel(float *p) { *p = sizeof(T); }
template <int N> int add();
template <> int add<1>() { kernel<Mine><<<1, 1>>>(nullptr); return 0; }
"""
"""No ordinary function: nvcc makes names of the folder, as in flash-attention's kernels."""


class Bench:
    """A cache around the toolkit, outside of any build, with one source file."""

    def __init__(self, home: Path, cuda_home: Path, **settings: str) -> None:
        self.home, self.folder = home, home / "work" / "cached"
        self.launched: dict[str, str] = {}
        """Set: through the launcher, told these."""
        self.called = self.folder
        """Where the nvcc is that the build names."""
        found = compile_cache.found({**persons_environment(), **settings}, home)
        assert found
        self.cache = found
        compile_cache.lay_out(
            found,
            self.folder,
            inside=self.folder,
            cuda=cuda_home,
            real=cuda_home,
            cxx=Path("/usr/bin/g++"),
        )
        workspace.lay_out_launcher(self.folder.parent / "bin")
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "BLACKWHEEL_PYTHON": sys.executable,
            "TMPDIR": str(home),
            **compile_cache.client_variables(self.folder),
        }

    def compile(self, *texts: str, pythons: tuple[str, ...] = ("11",)) -> list[bytes]:
        """Compile each text in turn for each Python with one server; keep its figures."""
        server = {**self.environment, **compile_cache.server_variables(self.cache, self.folder)}
        (self.home / "cache").mkdir(exist_ok=True)
        running = subprocess.Popen([self.folder / "sccache"], env=server)
        objects = []
        try:
            assert within(10, lambda: compile_cache.socket(self.folder).exists())
            for text in texts:
                for python in pythons:
                    objects.append(self.object(self.called, text, python))
            asked = [self.folder / "sccache", "--show-stats", "--stats-format", "json"]
            told = subprocess.check_output(asked, env=self.environment)
            (self.folder / "stats.json").write_bytes(told)
        finally:
            running.kill()
            running.wait()
            compile_cache.socket(self.folder).unlink(missing_ok=True)
        return objects

    def object(self, compilers: Path, text: str, python: str) -> bytes:
        """Compile as setuptools has it done: folders and headers are named after the Python."""
        headers = self.home / f"env/lib/python3.{python}/site-packages/torch/include"
        target = self.home / f"build/temp.linux-x86_64-cpython-3{python}/one.o"
        for folder in (headers, target.parent):
            folder.mkdir(parents=True, exist_ok=True)
        (headers / "torch.h").write_text(HEADER, encoding="utf-8")
        (self.home / "one.cu").write_text(text or "__global__ void nothing() {}\n")
        cxx = compilers / "g++" if compilers == self.folder else "/usr/bin/g++"
        words = ["-ccbin", cxx, "-I", headers, "-c", self.home / "one.cu", "-o", target]
        starter = LAUNCHER if self.launched else []
        argv = [*starter, compilers / "nvcc", *FLAGS, *words]
        environment = {**self.environment, **self.launched}
        subprocess.run(argv, cwd=target.parent, env=environment, check=True)
        return target.read_bytes()

    @property
    def figures(self) -> dict[str, Any]:
        return compile_cache.figures(self.folder)


def test_second_python_finds_the_device_steps_of_the_first(tmp_path: Path, cuda_home: Path) -> None:
    bench = Bench(tmp_path, cuda_home)
    text = '#include "torch.h"\n__global__ void used(float *p) {{ *p = {}; }}\n'
    path_in_host_code, path_in_device_code = (
        text.format("twice(*p)"),
        text.format("where()[threadIdx.x]"),
    )
    objects = bench.compile(path_in_host_code, pythons=("11", "12"))
    assert bench.figures["hits"] == {"PTX": 1, "CUBIN": 1}
    assert bench.figures["misses"] == {"PTX": 1, "CUBIN": 1, "C/C++": 2}
    assert objects[1] == bench.object(cuda_home / "bin", path_in_host_code, "12")
    objects = bench.compile(path_in_device_code, pythons=("11", "12"))
    assert bench.figures["hits"].get("CUBIN", 0) == 0, "the first Python's path in the second's"
    assert objects[0] != objects[1]


@in_namespaces
def test_second_python_finds_internal_names_too_where_the_stack_has_one_folder(
    tmp_path: Path, cuda_home: Path
) -> None:
    bench = Bench(tmp_path, cuda_home)
    bench.launched = {"BLACKWHEEL_SOURCE_TIME": "1577836800"}
    objects = bench.compile(INTERNAL, pythons=("11", "12"))
    assert objects[0] != objects[1], "nvcc names nothing after its folder any more: see 0029"
    bench.launched["BLACKWHEEL_FOLDER"] = str(tmp_path)
    objects = bench.compile(INTERNAL, pythons=("11", "12"))
    assert bench.figures["hits"] == {"PTX": 1, "CUBIN": 1, "C/C++": 1}
    assert objects[0] == objects[1]


@in_namespaces
def test_build_that_names_the_real_compilers_asks_the_cache_too(
    tmp_path: Path, cuda_home: Path
) -> None:
    """CMake names nvcc by its path, torch the host compiler behind -ccbin."""
    bench = Bench(tmp_path, cuda_home)
    bench.called = cuda_home / "bin"
    bench.launched = {"BLACKWHEEL_SOURCE_TIME": "1577836800"}
    plain = bench.object(bench.called, INTERNAL, "11")
    bench.launched |= {
        "BLACKWHEEL_NVCC": str(bench.folder / "nvcc"),
        "NVCC_CCBIN": str(bench.folder / "g++"),
    }
    assert bench.compile(INTERNAL, INTERNAL) == [plain, plain]
    assert bench.figures["hits"] == {"PTX": 1, "CUBIN": 1, "C/C++": 1, "cudafe++": 1}
    assert bench.figures["misses"] == bench.figures["hits"]


def test_folders_that_sccache_would_overlook_are_looked_at(tmp_path: Path) -> None:
    """With them a hit holds the paths of another folder."""
    found = compile_cache.found({**persons_environment(), "SCCACHE_BASEDIRS": "/a"}, tmp_path)
    assert found
    assert (
        compile_cache.server_variables(found, tmp_path / "w" / "cached")["SCCACHE_BASEDIRS"] == ""
    )


def test_changed_host_code_of_a_kernel_file_is_no_hit(tmp_path: Path, cuda_home: Path) -> None:
    bench = Bench(tmp_path, cuda_home)
    guarded = '#ifndef __CUDA_ARCH__\nextern "C" int host() {{ return {}; }}\n#endif\n'
    objects = bench.compile(*(guarded.format(number) for number in (1, 2, 2)))
    assert objects[0] != objects[1], "the object of the old host code"
    assert bench.figures["hits"]["PTX"] >= 1
    assert bench.figures["misses"]["C/C++"] == 2


@pytest.mark.needs("redis-server")
def test_redis_gives_hits_to_an_empty_machine(tmp_path: Path, cuda_home: Path) -> None:
    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    argv = ["redis-server", *words]
    store = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        setting = {"SCCACHE_REDIS_ENDPOINT": f"tcp://127.0.0.1:{port}"}
        seen = []
        for machine in ("first", "empty"):
            home = tmp_path / "machine"  # paths are fixed, as in a build
            home.mkdir()
            bench = Bench(home, cuda_home, **setting)
            bench.compile("")
            seen.append(bench.figures)
            home.rename(tmp_path / machine)
        assert [sum(one["hits"].values()) for one in seen] == [0, 3]
        assert [sum(one["misses"].values()) for one in seen] == [3, 0]
        assert not list((tmp_path / "empty" / "cache").rglob("*")), "the local store was used"
    finally:
        store.kill()
        store.wait()


class Cluster:
    """A scheduler and one worker of sccache's distributed mode on loopback, as docs/cluster.md."""

    def __init__(self, here: Path) -> None:
        self.here, self.running = here, list[subprocess.Popen[bytes]]()
        self.program = Path(sys.executable).with_name("sccache-dist")
        scheduler, worker = free_port(), free_port()
        address, named = f"http://127.0.0.1:{scheduler}", f"127.0.0.1:{worker}"
        key = self.told("auth", "generate-jwt-hs256-key")
        words = ("generate-jwt-hs256-server-token", f"--secret-key={key}", "--server", named)
        token = self.told("auth", *words)
        self.write(
            "scheduler",
            f'public_addr = "127.0.0.1:{scheduler}"\n'
            '[client_auth]\ntype = "token"\ntoken = "SHARED"\n'
            f'[server_auth]\ntype = "jwt_hs256"\nsecret_key = "{key}"\n',
        )
        self.write(
            "server",
            f'cache_dir = "{here}/toolchains"\npublic_addr = "{named}"\n'
            f'scheduler_url = "{address}"\n'
            f'[builder]\ntype = "overlay"\nbuild_dir = "{here}/builds"\n'
            f'bwrap_path = "{shutil.which("bwrap")}"\n'
            f'[scheduler_auth]\ntype = "jwt_token"\ntoken = "{token}"\n',
        )
        self.client = self.write(
            "client",
            f'[dist]\nscheduler_url = "{address}"\ncache_dir = "{here}/sent"\n'
            '[dist.auth]\ntype = "token"\ntoken = "SHARED"\n',
        )

    def told(self, *words: str) -> str:
        return subprocess.check_output([self.program, *words], text=True).strip()

    def write(self, name: str, text: str) -> Path:
        path = self.here / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        return path

    def start(self) -> None:
        for name in ("scheduler", "server"):
            log = self.here / f"{name}.log"
            with log.open("wb") as sink:
                argv = [self.program, name, "--config", self.here / f"{name}.toml"]
                environment = {
                    "PATH": "/usr/bin:/bin",
                    "SCCACHE_NO_DAEMON": "1",
                    "SCCACHE_LOG": "info",
                }
                process = subprocess.Popen(argv, env=environment, stdout=sink, stderr=sink)
            self.running.append(process)
            assert within(20, partial(listens, log)), log.read_text(encoding="utf-8")

    def stop(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()


def listens(log: Path) -> bool:
    return "listening" in log.read_text(encoding="utf-8", errors="replace")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.needs("bwrap")
@pytest.mark.skipif(os.geteuid() != 0, reason="a worker of sccache mounts folders: root only")
def test_other_machines_compile_the_steps_of_nvcc(tmp_path: Path, cuda_home: Path) -> None:
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        home = tmp_path / "machine"
        home.mkdir()
        bench = Bench(home, cuda_home, SCCACHE_CONF=str(cluster.client))
        (there,) = bench.compile("")
        assert bench.figures["distributed"] == 3
        assert bench.figures["distributed_errors"] == 0
        assert compile_cache.told(bench.figures) == (
            "cache: 0 hits, 3 misses (1 C/C++, 1 CUBIN, 1 PTX); compiled elsewhere: 3"
        )
    finally:
        cluster.stop()
    assert there


def test_ccache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BlackwheelError) as caught:
        compile_cache.found({"BLACKWHEEL_CACHE": "ccache"}, tmp_path)
    assert caught.value.code == Exit.USAGE
    assert str(caught.value) == (
        "error: bad-cache\n"
        "  BLACKWHEEL_CACHE=ccache is neither off nor sccache;"
        " ccache returns stale objects of CUDA sources\n"
        "  where: BLACKWHEEL_CACHE\n"
        "  fix:   unset it: sccache is used where it is installed"
    )


def test_switched_off_there_is_no_cache(tmp_path: Path) -> None:
    assert (
        compile_cache.found({**persons_environment(), "BLACKWHEEL_CACHE": "off"}, tmp_path) is None
    )
