from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from blackwheel.core.machine import Interpreter, Machine
from blackwheel.doctor import for_building
from blackwheel.doctor import machine_checks as around
from blackwheel.doctor.check import Check
from blackwheel.doctor.for_building import Place
from blackwheel.stacks import loader, records

GIB = 1 << 30
CONSTRAINTS = Path(__file__).parents[2] / "constraints"
STABLE = replace(loader.load("torch211", CONSTRAINTS), build=("flash-attn",))
QUICK = loader.load("torch211-quick", CONSTRAINTS)
NIGHTLY = loader.load("report-2025-10", CONSTRAINTS)
FLASH = STABLE.projects["flash-attn"]
PATCHES = CONSTRAINTS.parent / "patches"
LARGEST = for_building.largest_object(STABLE, PATCHES)
MACHINE = Machine(
    system="Linux x86_64",
    cores=4,
    quota=None,
    memory_total=32 * GIB,
    memory_available=24 * GIB,
    memory_limit=None,
    swap=0,
    wsl=False,
    driver="",
)
APT_PYTHON = (
    "apt-get install python3.{0}-dev python3.{0}-venv (Debian, Ubuntu) or "
    "dnf install python3.{0}-devel (Fedora, RHEL)"
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """This machine's real tools; no toolkit, and memory enough."""
    return Place(
        environment={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        store=tmp_path / "store",
        constraints=CONSTRAINTS,
        machine=MACHINE,
        system=tmp_path / "usr-local",
    )


def named(name: str, stack: records.Stack, place: Place) -> Check:
    (check,) = [check for check in for_building.required(stack, place) if check.name == name]
    return check


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


# What a build cannot do without


def test_this_machine_can_build_the_registrys_stacks(place: Place) -> None:
    for stack in (STABLE, QUICK):
        lacks = [
            c for c in for_building.required(stack, place) if c.ok is False and c.name != "disk"
        ]
        assert lacks == []


def test_nightly_lacks_toolkit_and_torch_and_says_both_at_once(place: Place) -> None:
    unlocked = replace(NIGHTLY, torch=replace(NIGHTLY.torch, wheels={}))
    lacks = for_building.buildable(unlocked, replace(place, machine=MACHINE))
    assert "the stack wants nvcc 12.8 of this machine, and there is none" in lacks
    assert (
        "torch 2.10.0.dev20251016+cu128 of stack 'report-2025-10' is not locked: its wheel's bytes"
        " were never seen" in lacks
    )


def test_an_arm_machine_is_refused(place: Place) -> None:
    arm = replace(place, machine=replace(MACHINE, system="Linux aarch64"))
    assert named("system", STABLE, arm) == Check(
        name="system",
        ok=False,
        fact="Linux aarch64",
        cure="use a Linux x86_64 machine; on Windows, WSL2 is one",
    )


def test_a_path_without_compiler_and_git_lacks_both(place: Place, tmp_path: Path) -> None:
    empty = replace(place, environment={"PATH": str(tmp_path), "HOME": str(tmp_path)})
    assert named("compiler", STABLE, empty) == Check(
        name="compiler",
        ok=False,
        fact="there is no C++ compiler 'g++' on PATH",
        cure="apt-get install g++ (Debian, Ubuntu) or dnf install gcc-c++ (Fedora, RHEL)",
    )
    assert named("git", STABLE, empty) == Check(
        name="git",
        ok=False,
        fact="there is no git on PATH",
        cure="apt-get install git (Debian, Ubuntu) or dnf install git (Fedora, RHEL)",
    )


def test_no_served_python_is_a_lack() -> None:
    assert for_building.python_check(STABLE, ()) == Check(
        name="python",
        ok=False,
        fact="stack 'torch211' serves Python 3.11, 3.12, 3.13, and none of them is here",
        cure=APT_PYTHON.format("13"),
    )


def test_a_python_without_its_header_is_a_lack() -> None:
    bare = Interpreter(version="3.12", path=Path("/p"), header=False, by_version=True)
    assert for_building.python_check(STABLE, (bare,)) == Check(
        name="python",
        ok=False,
        fact="Python 3.12 (/p) lacks its Python.h",
        cure=APT_PYTHON.format("12"),
    )


def test_a_python_that_only_its_path_finds_is_named_with_the_option() -> None:
    hidden = Interpreter(version="3.12", path=Path("/p"), header=True, by_version=False)
    assert for_building.python_check(STABLE, (hidden,)) == Check(
        name="python", ok=None, fact="3.12 (/p)", cure="--python /p"
    )


def test_one_whole_python_is_enough() -> None:
    bare = Interpreter(version="3.11", path=Path("/a"), header=False, by_version=True)
    whole = Interpreter(version="3.12", path=Path("/b"), header=True, by_version=True)
    assert for_building.python_check(STABLE, (bare, whole)) == Check(
        name="python", ok=True, fact="3.12 (/b)"
    )


def test_a_host_stack_without_its_toolkit_says_which(place: Place) -> None:
    assert named("toolkit", NIGHTLY, place) == Check(
        name="toolkit",
        ok=False,
        fact="the stack wants nvcc 12.8 of this machine, and there is none",
        cure="install CUDA toolkit 12.8, and name it: "
        "export BLACKWHEEL_CUDA_HOME=/usr/local/cuda-12.8",
    )


def test_a_toolkit_of_the_host_is_found_where_it_lies(place: Place, tmp_path: Path) -> None:
    home = tmp_path / "usr-local" / "cuda-12.8"
    executable(home / "bin" / "nvcc", "echo 'Cuda compilation tools, release 12.8, V12.8.93'")
    check = named("toolkit", NIGHTLY, place)
    assert check == Check(name="toolkit", ok=True, fact=f"nvcc 12.8.93 ({home})")


def test_a_registry_stack_does_not_look_at_the_hosts_toolkit(place: Place) -> None:
    check = named("toolkit", STABLE, place)
    assert check.ok
    assert check.fact == "CUDA 13.0.2 comes from the package registry; the host needs none"


def test_missing_locks_are_named(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "constraints" / "torch211"
    folder.mkdir(parents=True)
    for tag in ("311", "312"):
        (folder / f"build-flash-attn-py{tag}.txt").touch()
    assert named("locks", STABLE, replace(place, constraints=folder.parent)) == Check(
        name="locks",
        ok=False,
        fact="constraints/torch211/ lacks build-flash-attn-py313.txt, toolchain.txt",
        cure="nox -s lock",
    )


def test_an_unlocked_torch_is_the_only_reason_named_for_missing_locks(
    place: Place, tmp_path: Path
) -> None:
    unlocked = replace(NIGHTLY, torch=replace(NIGHTLY.torch, wheels={}))
    names = [c.name for c in for_building.required(unlocked, replace(place, constraints=tmp_path))]
    assert "torch" in names
    assert "locks" not in names


# Disk and memory


def test_a_fresh_stable_takes_12_gib_and_what_is_there_counts() -> None:
    assert for_building.disk_needed(1, toolchain=False, torch=False) == 12 * GIB
    assert for_building.disk_needed(1, toolchain=True, torch=False) == 10 * GIB
    assert for_building.disk_needed(1, toolchain=True, torch=True) == GIB


def test_too_little_disk_is_a_lack_with_its_cure() -> None:
    assert for_building.disk_check(free=5 * GIB, needed=12 * GIB, store=Path("/s")) == Check(
        name="disk",
        ok=False,
        fact="5.0 GiB free at /s, about 12 GiB wanted",
        cure="invoke clean, or put the store on another disk: export BLACKWHEEL_HOME=/path",
    )
    assert for_building.disk_check(free=12 * GIB, needed=12 * GIB, store=Path("/s")).ok


def test_the_disk_is_measured_where_the_store_will_be(place: Place) -> None:
    assert "about 12 GiB wanted" in named("disk", STABLE, place).fact


def test_a_toolchain_of_this_lock_in_the_store_is_not_counted_again(place: Place) -> None:
    digest = for_building.lock_digest(CONSTRAINTS / STABLE.locks / "toolchain.txt")
    home = place.store / "toolchains" / digest[:16]
    home.mkdir(parents=True)
    (home / "toolchain.json").touch()
    assert "about 10 GiB wanted" in named("disk", STABLE, place).fact
    other = place.store / "nox" / "torch211-3.12" / "build" / "lib" / "python3.12" / "site-packages"
    (other / "torch").mkdir(parents=True)
    assert "about 1.0 GiB wanted" in named("disk", STABLE, place).fact


def test_memory_names_the_largest_object_and_the_jobs() -> None:
    assert for_building.memory_check(LARGEST, MACHINE) == Check(
        name="memory",
        ok=True,
        fact="24 GiB available of 32 GiB; the largest object needs 7.0 GiB: 3 to 4 at once,"
        " each as soon as its own memory is free",
    )
    assert (
        "5.0 GiB: 4 at once, each"
        in for_building.memory_check(for_building.largest_object(QUICK, PATCHES), MACHINE).fact
    )
    without = for_building.memory_check(LARGEST, MACHINE, pooled=False).fact
    assert without.endswith(": 3 at once, nothing shared out")


def memory(available: int, **more: object) -> Check:
    machine = replace(MACHINE, memory_available=available * GIB, **more)  # type: ignore[arg-type]
    return for_building.memory_check(LARGEST, machine)


def test_memory_below_the_largest_object_is_a_lack() -> None:
    assert memory(6, memory_total=6 * GIB) == Check(
        name="memory",
        ok=False,
        fact="6.0 GiB available of 6.0 GiB; the largest object needs 7.0 GiB",
        cure="take stack 'quickstart', whose objects are smaller, or a machine with more memory",
    )


def test_memory_that_other_programs_hold_is_to_be_freed() -> None:
    assert memory(6).cure == "close other programs"


def test_memory_with_swap_is_slow_but_no_lack() -> None:
    check = memory(6, swap=2 * GIB)
    assert check.ok is None
    assert check.cure == "close other programs: the build will swap and be slow"


def test_memory_of_a_container_is_its_limit() -> None:
    check = memory(4, memory_limit=6 * GIB)
    assert check.ok is False
    assert check.fact == (
        "4.0 GiB available of 6.0 GiB, the limit of this cgroup (the machine has 32 GiB); "
        "the largest object needs 7.0 GiB"
    )
    assert check.cure == "raise the container's or slice's limit to 8GB (docker run --memory 8GB)"


def test_memory_of_wsl2_is_raised_in_windows() -> None:
    assert memory(4, memory_total=6 * GIB, wsl=True).cure == (
        "in %UserProfile%\\.wslconfig: [wsl2] memory=8GB; then: wsl --shutdown"
    )


# What surrounds a build


def test_examine_names_everything_it_looked_at(place: Place) -> None:
    checks = for_building.examine(STABLE, place, network=False)
    names = "system,python,compiler,git,toolkit,torch,disk,memory,cores,store,temporary files"
    names += ",link,isolation,driver,gpu"
    assert [check.name for check in checks] == names.split(",")
    bare = for_building.examine(None, place, network=False)
    assert [check.name for check in bare] == [
        "system",
        "git",
        "store",
        "temporary files",
        "isolation",
        "driver",
        "gpu",
    ]


def test_cores_say_the_time_that_was_measured(place: Place) -> None:
    quota = replace(place, machine=replace(MACHINE, cores=2, quota=1.5))
    stack = replace(STABLE, projects={"flash-attn": replace(FLASH, cpu_seconds=10190)})
    (cores,) = [c for c in for_building.examine(stack, quota, network=False) if c.name == "cores"]
    assert cores.fact == "2 cores (the cgroup grants 1.5): about 1 h 24 min of compiling"
    stack = replace(STABLE, projects={"flash-attn": replace(FLASH, cpu_seconds=0)})
    (cores,) = [c for c in for_building.examine(stack, place, network=False) if c.name == "cores"]
    assert cores.fact == "4 cores; nobody measured this stack's time yet"


def test_isolation_is_tried_for_real() -> None:
    assert around.isolation_check({}).ok in (True, None)
    forced = around.isolation_check({"BLACKWHEEL_ISOLATION": "processes"})
    assert forced == Check(
        name="isolation",
        ok=None,
        fact="no namespaces: BLACKWHEEL_ISOLATION=processes; "
        "the build is not reproducible byte for byte",
        cure="unset BLACKWHEEL_ISOLATION",
    )
    wrong = around.isolation_check({"BLACKWHEEL_ISOLATION": "yes"})
    assert (wrong.ok, wrong.cure) == (False, "unset BLACKWHEEL_ISOLATION")


@pytest.mark.parametrize(
    ("why", "cure"),
    [
        (
            "no (kernel.apparmor_restrict_unprivileged_userns=1)",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "no (kernel.unprivileged_userns_clone=0)",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        ("no (user.max_user_namespaces=0)", "sudo sysctl -w user.max_user_namespaces=15000"),
        ("no", "docker run --security-opt seccomp=unconfined, if this is a container"),
    ],
)
def test_forbidden_namespaces_name_the_setting(why: str, cure: str) -> None:
    assert around.without_namespaces(why).cure == cure


def test_wsl2_warns_of_windows_folders_only() -> None:
    assert list(around.wsl_checks(MACHINE, (Path("/mnt/c/x"),))) == []
    wsl = replace(MACHINE, wsl=True, memory_total=16 * GIB)
    first, *rest = around.wsl_checks(wsl, (Path("/mnt/c/x"), Path("/home/me"), Path("/mnt/data")))
    assert first == Check(name="wsl", ok=True, fact="WSL2, which Windows gives 16 GiB of memory")
    assert rest == [
        Check(
            name="wsl",
            ok=None,
            fact="/mnt/c/x is a Windows folder: many times slower than WSL2's own disk",
            cure="clone below ~, and: export BLACKWHEEL_HOME=~/.cache/blackwheel",
        )
    ]


class Index(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/good/torch/" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def index() -> Iterator[str]:
    """Address of a real server; `/good` has torch, everything else answers 503."""
    server = HTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_index_that_answers_is_named_without_its_password(index: str) -> None:
    environment = {"UV_DEFAULT_INDEX": f"http://me:secret@{index}/good"}
    assert around.registry_check(environment, needed=True) == Check(
        name="registry", ok=True, fact=f"http://{index}/good answers"
    )


def test_an_index_that_refuses_is_a_lack_where_it_is_needed(index: str) -> None:
    environment = {"PIP_INDEX_URL": f"http://{index}/bad"}
    assert around.registry_check(environment, needed=True) == Check(
        name="registry",
        ok=False,
        fact=f"http://{index}/bad: answers 503 Service Unavailable",
        cure="the same command again, later: the server is there, and busy or broken",
    )
    assert around.registry_check(environment, needed=False).ok is None


def test_an_index_that_is_not_there_says_why() -> None:
    check = around.index_check("torch index", "http://127.0.0.1:9/whl", needed=True)
    assert check.ok is False
    assert check.fact.startswith("http://127.0.0.1:9/whl: Failed to establish a new connection")
    assert check.cure == "export HTTPS_PROXY=ADDRESS"


def test_an_index_in_a_folder_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    assert around.index_check("registry", f"file://{tmp_path}", needed=True).ok
    missing = around.index_check("registry", f"file://{tmp_path}/no", needed=True)
    assert missing.fact == f"file://{tmp_path}/no: no such folder"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        **{
            f"GIT_{who}_{what}": "x"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }
    for words in (
        ["init", "-q", str(path)],
        ["-C", str(path), "commit", "-q", "--allow-empty", "-mx"],
    ):
        subprocess.run(["git", *words], env=variables, check=True)
    return path


def git_host(environment: dict[str, str], *, url: str = "", sdist: bool = True) -> Check:
    pin = replace(FLASH, source=replace(FLASH.source, url=url or FLASH.source.url))
    pin = pin if sdist else replace(pin, sdist=None)
    return around.git_host_check("flash-attn", pin, environment)


def test_a_git_host_is_reached_by_gits_own_mirrors(repository: Path, place: Place) -> None:
    mirror = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": FLASH.source.url,
    }
    way = f"{FLASH.source.url} answers by the folder {repository}, as url.*.insteadOf says;"
    lacks = " itself it was not asked; it lists no tag 2.8.3 or v2.8.3"
    assert git_host({**place.environment, **mirror}) == Check(
        name="git host of flash-attn",
        ok=None,
        fact=f"{way}{lacks}",
        cure="a build asks for the commit alone; invoke pin needs a mirror that is as new,"
        " with tags",
    )
    subprocess.run(["git", "-C", str(repository), "tag", "v2.8.3"], check=True)
    assert git_host({**place.environment, **mirror}) == Check(
        name="git host of flash-attn", ok=True, fact=f"{way} itself it was not asked"
    )


def test_a_git_host_that_is_asked_itself_is_not_called_a_mirror(
    repository: Path, place: Place
) -> None:
    subprocess.run(["git", "-C", str(repository), "tag", "v2.8.3"], check=True)
    check = git_host(dict(place.environment), url=str(repository))
    assert (check.ok, check.fact) == (True, f"{repository} answers")


def test_a_git_host_that_is_down_is_no_lack_where_an_sdist_stands_in(place: Place) -> None:
    check = git_host(dict(place.environment), url="http://127.0.0.1:9/x")
    assert check.ok is None
    assert "127.0.0.1" in check.fact
    assert check.cure == "nothing: flash_attn-2.8.3.tar.gz of the package registry stands in for it"


def test_a_git_host_that_is_down_is_a_lack_without_sdist(place: Place) -> None:
    check = git_host(dict(place.environment), url="http://127.0.0.1:9/x", sdist=False)
    assert check.ok is False
    assert check.cure == "name a mirror: git config --global url.<mirror>.insteadOf <address>"


def test_a_git_host_that_answers_no_is_a_lack_even_with_an_sdist(
    place: Place, tmp_path: Path
) -> None:
    check = git_host(dict(place.environment), url=str(tmp_path / "none"))
    assert check.ok is False
    assert (
        check.cure == "correct the address, or give git access to it (credentials, url.*.insteadOf)"
    )


def smi(tmp_path: Path, script: str) -> dict[str, str]:
    """An environment whose nvidia-smi is this script."""
    return {"PATH": f"{executable(tmp_path / 'nvidia-smi', script).parent}:/usr/bin:/bin"}


def test_a_5090_with_the_reports_driver_runs_nightly_and_not_stable(tmp_path: Path) -> None:
    environment = smi(tmp_path, "echo 'NVIDIA GeForce RTX 5090, 575.64.05, 12.0'")
    card = Check(name="gpu", ok=True, fact="NVIDIA GeForce RTX 5090 is 12.0: the wheels run there")
    assert list(around.gpu_checks(NIGHTLY, MACHINE, environment)) == [
        Check(name="driver", ok=True, fact="driver 575.64.05"),
        card,
    ]
    assert list(around.gpu_checks(STABLE, MACHINE, environment)) == [
        Check(
            name="driver",
            ok=None,
            fact="driver 575.64.05 does not run what stack 'torch211' builds",
            cure="install driver 580 or newer, or take a stack of an older CUDA",
        ),
        card,
    ]


def test_a_gpu_of_another_arch_is_told_what_the_wheels_are_for(tmp_path: Path) -> None:
    environment = smi(tmp_path, "echo 'NVIDIA H200, 580.95.05, 9.0'")
    (_, card) = around.gpu_checks(STABLE, MACHINE, environment)
    assert card == Check(
        name="gpu",
        ok=None,
        fact="NVIDIA H200 is 9.0, the wheels are for 12.0a",
        cure="to build for this GPU as well: --arch '12.0a;9.0'",
    )


def test_an_nvidia_smi_without_driver_is_no_gpu(tmp_path: Path) -> None:
    environment = smi(tmp_path, "echo 'NVIDIA-SMI has failed, reboot, now'; exit 9")
    loaded = replace(MACHINE, driver="580.95")
    assert list(around.gpu_checks(STABLE, loaded, environment)) == [
        Check(name="driver", ok=True, fact="driver 580.95"),
        Check(name="gpu", ok=None, fact="none is seen; building needs none, kernels are not run"),
    ]


def test_no_driver_says_which_one_runs_the_wheels() -> None:
    assert around.driver_check(STABLE, "") == Check(
        name="driver",
        ok=None,
        fact="no NVIDIA driver; building needs none",
        cure="to run the wheels: driver 580 or newer",
    )
