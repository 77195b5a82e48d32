"""The compile cache: same bytes with it and without, hits after a rebuild, refusals."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkout import Checkout, persons_environment, within

from blackwheel import cache, isolation
from blackwheel.errors import BlackwheelError, Exit

pytestmark = [pytest.mark.toolchain, pytest.mark.network]
FLAGS = ("-gencode=arch=compute_120a,code=sm_120a", "-Xcompiler", "-fPIC", "-objtemp")


@pytest.mark.torch
@pytest.mark.slow
def test_build_with_a_cold_and_a_warm_cache_has_the_bytes_of_one_without(built: Checkout) -> None:
    before = [path.read_bytes() for path in built.wheels]
    built.variables |= {"BLACKWHEEL_CACHE": "sccache", "SCCACHE_REDIS_PASSWORD": "hush"}
    cold = built.build("--again")
    assert cold.code == 0, cold.said
    assert "toy-cuda: cache: 0 hits, 7 misses (3 C/C++, 2 CUBIN, 2 PTX)\n" in cold.err
    if isolation.available_isolation().mode == isolation.NAMESPACES:
        assert [path.read_bytes() for path in built.wheels] == before
    warm = built.build("--again")
    assert warm.code == 0, warm.said
    assert "toy-cuda: cache: 7 hits, 0 misses\n" in warm.err
    if isolation.available_isolation().mode == isolation.NAMESPACES:
        assert [path.read_bytes() for path in built.wheels] == before
    lines = (built.workshop / "work" / "objects.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["cached"] for line in lines] == [True, True, True]
    files = [*built.shelf.glob("*.json"), *built.workshop.glob("*.*")]
    assert [path for path in files if "hush" in path.read_text(errors="replace")] == []


class Bench:
    """A cache around the toolkit, outside of any build, with one source file."""

    def __init__(self, home: Path, cuda_home: Path, **settings: str) -> None:
        self.home, self.folder = home, home / "work" / "cached"
        found = cache.found({**persons_environment(), **settings}, home)
        assert found
        self.cache = found
        cache.lay_out(
            found,
            self.folder,
            inside=self.folder,
            cuda=cuda_home,
            real=cuda_home,
            cxx=Path("/usr/bin/g++"),
        )
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "BLACKWHEEL_PYTHON": sys.executable,
            **cache.client_variables(self.folder),
        }

    def compile(self, *texts: str) -> list[bytes]:
        """Compile each text in turn with one server; keep its figures."""
        server = {**self.environment, **cache.server_variables(self.cache, self.folder)}
        (self.home / "cache").mkdir(exist_ok=True)
        running = subprocess.Popen([self.folder / "sccache"], env=server)
        objects = []
        try:
            assert within(10, lambda: cache.socket(self.folder).exists())
            for text in texts:
                (self.home / "one.cu").write_text(f"{text}__global__ void nothing() {{}}\n")
                words = ["-ccbin", self.folder / "g++", "-c", "one.cu", "-o", "one.o"]
                argv = [self.folder / "nvcc", *FLAGS, *words]
                subprocess.run(argv, cwd=self.home, env=self.environment, check=True)
                objects.append((self.home / "one.o").read_bytes())
            asked = [self.folder / "sccache", "--show-stats", "--stats-format", "json"]
            told = subprocess.check_output(asked, env=self.environment)
            (self.folder / "stats.json").write_bytes(told)
        finally:
            running.kill()
            running.wait()
            cache.socket(self.folder).unlink(missing_ok=True)
        return objects

    @property
    def figures(self) -> dict[str, Any]:
        return cache.figures(self.folder)


def test_changed_host_code_of_a_kernel_file_is_no_hit(tmp_path: Path, cuda_home: Path) -> None:
    bench = Bench(tmp_path, cuda_home)
    guarded = '#ifndef __CUDA_ARCH__\nextern "C" int host() {{ return {}; }}\n#endif\n'
    objects = bench.compile(*(guarded.format(number) for number in (1, 2, 2)))
    assert objects[0] != objects[1], "the object of the old host code"
    assert bench.figures["hits"]["PTX"] >= 1
    assert bench.figures["misses"]["C/C++"] == 2


@pytest.mark.skipif(not shutil.which("redis-server"), reason="apt-get install redis-server")
def test_redis_gives_hits_to_an_empty_machine(tmp_path: Path, cuda_home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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


def test_ccache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BlackwheelError) as caught:
        cache.found({"BLACKWHEEL_CACHE": "ccache"}, tmp_path)
    assert caught.value.code == Exit.USAGE
    assert str(caught.value) == (
        "error: bad-cache\n"
        "  BLACKWHEEL_CACHE=ccache is neither off nor sccache;"
        " ccache returns stale objects of CUDA sources\n"
        "  where: BLACKWHEEL_CACHE\n"
        "  fix:   unset it: sccache is used where it is installed"
    )


def test_switched_off_there_is_no_cache(tmp_path: Path) -> None:
    assert cache.found({**persons_environment(), "BLACKWHEEL_CACHE": "off"}, tmp_path) is None
