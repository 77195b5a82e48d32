from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from blackwheel.core.machine import Interpreter, driver_version, interpreters, read_machine

GIB = 1 << 30
Fake = Callable[..., Path]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """A root folder with 32 GiB of memory, 24 of them available, and the files that are given."""

    def make(files: dict[str, str] | None = None) -> Path:
        memory = f"MemTotal: {32 << 20} kB\nMemAvailable: {24 << 20} kB\nSwapFree: {1 << 20} kB\n"
        for name, text in {"proc/meminfo": memory, **(files or {})}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return make


def test_a_machine_without_limits_is_what_the_kernel_says(fake: Fake) -> None:
    machine = read_machine(fake(), affinity=8)
    assert (machine.cores, machine.quota, machine.memory_limit) == (8, None, None)
    assert machine.memory_total == 32 * GIB
    assert machine.memory_available == 24 * GIB
    assert machine.swap == GIB
    assert (machine.wsl, machine.driver) == (False, "")


def test_this_machine_is_read_as_it_is() -> None:
    machine = read_machine()
    assert 1 <= machine.cores <= len(os.sched_getaffinity(0))
    assert 0 < machine.memory_available <= machine.memory_total
    assert machine.system == f"Linux {os.uname().machine}"


def test_a_quota_of_one_and_a_half_cores_makes_two(fake: Fake) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}
    machine = read_machine(fake(files), affinity=8)
    assert (machine.cores, machine.quota) == (2, 1.5)


def test_a_quota_above_the_cores_changes_nothing(fake: Fake) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "900000 100000\n"}
    assert read_machine(fake(files), affinity=8).cores == 8


def test_max_is_no_quota_and_no_limit(fake: Fake) -> None:
    top = "sys/fs/cgroup"
    files = {"proc/self/cgroup": "0::/\n", f"{top}/cpu.max": "max 100000\n"}
    files |= {f"{top}/memory.max": "max\n", f"{top}/memory.current": f"{30 * GIB}\n"}
    machine = read_machine(fake(files), affinity=8)
    assert (machine.quota, machine.memory_limit) == (None, None)
    assert machine.memory_available == 24 * GIB


def test_the_limit_of_a_slice_above_this_cgroup_counts(fake: Fake) -> None:
    top = "sys/fs/cgroup"
    files = {
        "proc/self/cgroup": "0::/user.slice/session\n",
        f"{top}/user.slice/session/memory.max": "max\n",
        f"{top}/user.slice/memory.max": f"{8 * GIB}\n",
        f"{top}/user.slice/memory.current": f"{3 * GIB}\n",
        f"{top}/user.slice/cpu.max": "200000 100000\n",
    }
    machine = read_machine(fake(files), affinity=8)
    assert machine.memory_limit == 8 * GIB
    assert machine.memory_available == 5 * GIB
    assert machine.cores == 2


def test_file_cache_counts_as_free(fake: Fake) -> None:
    top = "sys/fs/cgroup"
    files = {
        "proc/self/cgroup": "0::/\n",
        f"{top}/memory.max": f"{8 * GIB}\n",
        f"{top}/memory.current": f"{8 * GIB}\n",
        f"{top}/memory.stat": f"anon {GIB}\ninactive_file {6 * GIB}\nactive_file {GIB}\n",
    }
    assert read_machine(fake(files)).memory_available == 6 * GIB


def test_a_container_whose_cgroup_path_is_the_hosts_finds_its_own_limit(fake: Fake) -> None:
    top = "sys/fs/cgroup"
    files = {
        "proc/self/cgroup": "0::/system.slice/docker-0123.scope\n",
        f"{top}/memory.max": f"{4 * GIB}\n",
        f"{top}/memory.current": f"{GIB}\n",
    }
    machine = read_machine(fake(files))
    assert (machine.memory_limit, machine.memory_available) == (4 * GIB, 3 * GIB)


def test_limits_of_cgroup_version_1_count(fake: Fake) -> None:
    memory, cpu = "sys/fs/cgroup/memory/docker/01", "sys/fs/cgroup/cpu/docker/01"
    files = {
        "proc/self/cgroup": "4:memory:/docker/01\n3:cpu,cpuacct:/docker/01\n0::/\n",
        f"{memory}/memory.limit_in_bytes": f"{8 * GIB}\n",
        f"{memory}/memory.usage_in_bytes": f"{7 * GIB}\n",
        f"{memory}/memory.stat": f"total_inactive_file {5 * GIB}\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        f"{cpu}/cpu.cfs_quota_us": "300000\n",
        f"{cpu}/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    machine = read_machine(fake(files), affinity=8)
    assert (machine.memory_limit, machine.memory_available) == (8 * GIB, 6 * GIB)
    assert (machine.cores, machine.quota) == (3, 3.0)


def test_the_largest_number_is_no_limit_in_version_1(fake: Fake) -> None:
    name = "sys/fs/cgroup/memory/memory.limit_in_bytes"
    files = {"proc/self/cgroup": "4:memory:/\n", name: "9223372036854771712\n"}
    assert read_machine(fake(files)).memory_limit is None


def test_wsl2_is_known_by_its_kernel(fake: Fake) -> None:
    files = {"proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2\n"}
    assert read_machine(fake(files)).wsl


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  575.64.05  Tue Jul 22 18:11:41 2025\n",
            "575.64.05",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95  Release Build\n"
            "GCC version:  gcc version 13.3.0\n",
            "580.95",
        ),
        ("", ""),
    ],
)
def test_the_driver_is_read_from_the_open_and_the_closed_module(line: str, version: str) -> None:
    assert driver_version(line) == version


def python_at(prefix: Path, version: str, *, header: bool = True) -> Path:
    """Lay a Python's program and, if wanted, its Python.h under `prefix`."""
    path = prefix / "bin" / f"python{version}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    if header:
        include = prefix / "include" / f"python{version}"
        include.mkdir(parents=True, exist_ok=True)
        (include / "Python.h").touch()
    return path


def found(tmp_path: Path, *versions: str, path: str = "", **more: str) -> tuple[Interpreter, ...]:
    environment = {"HOME": str(tmp_path), "PATH": path, **more}
    return interpreters(versions, environment, running=tmp_path / "none")


def test_the_running_python_is_found_first(tmp_path: Path) -> None:
    running = python_at(tmp_path / "running", "3.12")
    other = python_at(tmp_path / "other", "3.12")
    seen = interpreters(["3.12"], {"PATH": str(other.parent)}, running=running)
    assert seen == (Interpreter(version="3.12", path=running, header=True, by_version=True),)


def test_the_python_that_runs_this_test_has_a_known_place() -> None:
    version = f"3.{sys.version_info.minor}"
    assert [python.version for python in interpreters([version], {"PATH": ""})] == [version]


def test_a_python_on_path_is_found_by_its_version(tmp_path: Path) -> None:
    path = python_at(tmp_path / "usr", "3.11", header=False)
    (seen,) = found(tmp_path, "3.11", "3.12", path=str(path.parent))
    assert seen == Interpreter(version="3.11", path=path, header=False, by_version=True)


def test_the_header_is_looked_for_behind_a_virtual_environment(tmp_path: Path) -> None:
    real = python_at(tmp_path / "usr", "3.11")
    link = tmp_path / "venv" / "bin" / "python3.11"
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    (seen,) = found(tmp_path, "3.11", path=str(link.parent))
    assert seen.path == link
    assert seen.header


def test_the_newest_python_of_pyenv_is_found_and_needs_its_path(tmp_path: Path) -> None:
    python_at(tmp_path / ".pyenv/versions/3.11.9", "3.11")
    newest = python_at(tmp_path / ".pyenv/versions/3.11.10", "3.11")
    (seen,) = found(tmp_path, "3.11")
    assert seen == Interpreter(version="3.11", path=newest, header=True, by_version=False)


@pytest.mark.parametrize(
    "other",
    [
        "u/cpython-3.13.9+freethreaded-linux-x86_64-gnu",
        "u/cpython-3.13.9-linux-x86_64-musl",
        "p/versions/3.13.9t",
    ],
)
def test_a_newer_python_of_another_abi_hides_no_right_one(tmp_path: Path, other: str) -> None:
    python_at(tmp_path / other, "3.13")
    variables = {
        "PYENV_ROOT": str(tmp_path / "p"),
        "UV_PYTHON_INSTALL_DIR": str(tmp_path / "u"),
    }
    assert found(tmp_path, "3.13", **variables) == ()
    right = python_at(tmp_path / "p/versions/3.13.1", "3.13")
    (seen,) = found(tmp_path, "3.13", **variables)
    assert seen.path == right


def test_a_free_threaded_python_under_the_plain_name_is_not_taken(tmp_path: Path) -> None:
    real = python_at(tmp_path / "usr", "3.13t")
    link = real.with_name("python3.13")
    link.symlink_to(real)
    assert found(tmp_path, "3.13", path=str(link.parent)) == ()


def test_a_shim_of_pyenv_is_no_python(tmp_path: Path) -> None:
    shim = tmp_path / ".pyenv" / "shims" / "python3.11"
    shim.parent.mkdir(parents=True)
    shim.write_text("#!/bin/sh\n", encoding="utf-8")
    shim.chmod(0o755)
    assert found(tmp_path, "3.11", path=str(shim.parent)) == ()


def test_pyenv_and_uv_are_found_where_their_variables_say(tmp_path: Path) -> None:
    python_at(tmp_path / "p/versions/3.11.2", "3.11")
    uvs = python_at(tmp_path / "u/cpython-3.12.4-linux-x86_64-gnu", "3.12")
    places = {"PYENV_ROOT": str(tmp_path / "p"), "UV_PYTHON_INSTALL_DIR": str(tmp_path / "u")}
    first, second = found(tmp_path, "3.11", "3.12", **places)
    assert (first.version, first.by_version) == ("3.11", False)
    assert (second.path, second.by_version) == (uvs, True)
