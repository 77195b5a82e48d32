"""The compile cache: same bytes with it and without, hits after a rebuild, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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


def test_changed_host_code_of_a_kernel_file_is_no_hit(tmp_path: Path, cuda_home: Path) -> None:
    found = cache.found(persons_environment(), tmp_path)
    assert found
    folder = tmp_path / "cached"
    cache.lay_out(
        found, folder, inside=folder, cuda=cuda_home, real=cuda_home, cxx=Path("/usr/bin/g++")
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "BLACKWHEEL_PYTHON": sys.executable,
        **cache.client_variables(folder),
    }
    server = {**environment, **cache.server_variables(found, folder)}
    server["SCCACHE_DIR"] = str(tmp_path / "store")
    running = subprocess.Popen([folder / "sccache"], env=server, stderr=subprocess.DEVNULL)
    try:
        assert within(10, lambda: cache.socket(folder).exists())
        objects = []
        for number in (1, 2, 2):
            text = f"#ifndef __CUDA_ARCH__\nextern int host = {number};\n#endif\n"
            (tmp_path / "one.cu").write_text(f"{text}__global__ void nothing() {{}}\n")
            out = tmp_path / "one.o"
            argv = [folder / "nvcc", *FLAGS, "-ccbin", folder / "g++", "-c", "one.cu", "-o", out]
            subprocess.run(argv, cwd=tmp_path, env=environment, check=True)
            objects.append(out.read_bytes())
        asked = [folder / "sccache", "--show-stats", "--stats-format", "json"]
        (folder / "stats.json").write_bytes(subprocess.check_output(asked, env=environment))
    finally:
        running.kill()
        running.wait()
    assert objects[0] != objects[1], "the object of the old host code"
    seen = cache.figures(folder)
    assert seen["hits"]["PTX"] >= 1
    assert seen["misses"]["C/C++"] >= 2


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
