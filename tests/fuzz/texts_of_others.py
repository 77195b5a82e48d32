"""Targets that people and other tools write: TOML, patches, locks, index pages, outputs."""

from __future__ import annotations

import functools
import tomllib
from unittest import mock

import proved
from mutators import json_files, texts, toml_files
from target import CHECKOUT, Target, folder, scratch, written

from blackwheel.core import caller, simple_index
from blackwheel.core.http import FailedError, Page
from blackwheel.doctor import machine_checks
from blackwheel.pins import cmake, requirements
from blackwheel.pipeline import probes
from blackwheel.pytorch import identity, libraries, nightly_index
from blackwheel.smoke import diagnosis
from blackwheel.smoke.bench import results, serving
from blackwheel.sources import git_host, package_index, series
from blackwheel.sources.series import Patch, Series
from blackwheel.stacks import faults, loader, locks, projects, records
from blackwheel.toolchain import toolkit

STACKS = [
    tomllib.loads(
        proved.STACK + proved.PROJECT.replace("NAME", "toy").replace("\nbuild", "\nbuild")
    )
]
STACKS[0]["build"] = ["toy"]
STABLE = loader._merged("stable", CHECKOUT / "constraints", ())
PAGE_URL = "https://index.example/simple/toy/"
JSON_PAGE = "application/vnd.pypi.simple.v1+json"


def stack_file(data: bytes) -> object:
    return loader.load("toy", written(folder("stack") / "toy.toml", data).parent)


def torch_file(data: bytes) -> object:
    place = folder("torch-file")
    own = {k: v for k, v in STABLE.items() if k not in ("torch", "locks", "extends")}
    if not (place / "toy.toml").exists():
        from mutators import as_toml

        written(place / "toy.toml", as_toml(own))
    written(place / "toy" / "torch.toml", data)
    return loader.load("toy", place)


def project_file(data: bytes) -> object:
    return projects.load(
        written(folder("project") / "toy" / "project.toml", data).parents[1], "toy"
    )


def probes_file(data: bytes) -> object:
    place = written(folder("probes") / "probes.toml", data).parent
    patches = tuple(Patch(name=n, line=1, content=b"") for n in tomllib.loads(PROBES[0].decode()))
    return probes.probes(Series(folder=place, patches=patches))


def series_file(data: bytes) -> object:
    place = folder("series/toy/1.0")
    for path in PATCHES:
        if not (place / path.name).exists():
            written(place / path.name, path.read_bytes())
    written(place / "series", data)
    return series.load_series(place)


def patch_header(data: bytes) -> object:
    place = folder("patch/toy/1.0")
    written(place / "0001-a.patch", data)
    written(place / "series", b"0001-a.patch\n")
    return series.load_series(place)


def page(kind: str):
    def parse(data: bytes) -> object:
        body = Page(url=PAGE_URL, headers={"Content-Type": kind}, body=data)
        found = simple_index.parsed(body, "toy")
        for one in found.packages:
            nightly_index.offered(one, "toy")
            package_index._tags(one)
            package_index._version(one)
            (one.size, one.digests.get("sha256"), one.is_yanked, one.has_metadata)
        return found

    return parse


def lock_file(data: bytes) -> object:
    path = written(folder("lock") / "lock.txt", data)
    identity.locked_digests(path)
    locks.pins(path.read_text(encoding="utf-8"))
    toolkit.lock_digest(path)
    return toolkit.locked_versions(path)


def uv_settings(data: bytes) -> object:
    place = written(folder("uv") / "uv" / "uv.toml", data).parents[1]
    return caller.chosen({"XDG_CONFIG_HOME": str(place), "HOME": str(place), "PATH": "/usr/bin"})


@functools.cache
def stable() -> records.Stack:
    return loader.load("stable", CHECKOUT / "constraints")


def nvidia_smi(data: bytes) -> object:
    program = scratch() / "nvidia-smi"
    text = data.decode("utf-8", "replace")
    done = mock.Mock(code=0, stdout=text, stderr="")
    if not program.exists():
        program.write_text("#!/bin/sh\n")
        program.chmod(0o700)
    stack = stable()
    with mock.patch.object(machine_checks, "capture", return_value=done):
        machine = mock.Mock(driver="")
        return list(machine_checks.gpu_checks(stack, machine, {"PATH": str(program.parent)}))


def driver_file(data: bytes) -> object:
    from blackwheel.core import machine

    place = folder("machine")
    written(place / "proc/driver/nvidia/version", data)
    written(place / "proc/meminfo", data)
    written(place / "proc/version", data)
    written(place / "proc/self/cgroup", data)
    written(place / "sys/fs/cgroup/memory.max", data)
    written(place / "sys/fs/cgroup/cpu.max", data)
    seen = machine.read_machine(place)
    stack = stable()
    list(machine_checks.ptx_checks(stack, seen.driver))
    return machine_checks.driver_check(stack, seen.driver)


def log_line(data: bytes) -> object:
    return diagnosis.of_log(data.decode("utf-8", "replace"))


def crash_report(data: bytes) -> object:
    return diagnosis.of_crash("SIGSEGV", data.decode("utf-8", "replace"))


def git_words(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    return git_host.reason(text), git_host.said(text), git_host.cure(text)


def cmake_file(data: bytes) -> object:
    return cmake.fetched({"CMakeLists.txt": data.decode("utf-8", "replace")})


def upstream_project(data: bytes) -> object:
    place = written(folder("upstream") / "pyproject.toml", data).parent
    lines = requirements.build_lines(place)
    return requirements.moved(["torch==2.11.0"], before=[], after=lines, own=())


def requirement_file(data: bytes) -> object:
    place = written(folder("upstream-lines") / "requirements.txt", data).parent
    lines = requirements.file_lines(place, ["requirements.txt"])
    return requirements.moved(["torch==2.11.0"], before=[], after=lines, own=())


def torch_version_file(data: bytes) -> object:
    place = folder("torch-version")
    written(place / "torch" / "version.py", data)
    written(place / "torch-2.11.0.dist-info" / "METADATA", b"Name: torch\nVersion: 2.11.0\n")
    return identity.seen(place)


def torch_record(data: bytes) -> object:
    place = folder("torch-record")
    written(place / "torch-2.11.0.dist-info" / "RECORD", data)
    return libraries.libraries(place)


def served_log(data: bytes) -> object:
    known = projects.load(CHECKOUT / "patches", "vllm").serve
    return serving.facts_of(data.decode("utf-8", "replace"), known.log if known else {})


def bench_result(data: bytes) -> object:
    return results.summary(results.read(data.decode("utf-8", "replace"), where="x"))


def _own(*names: str) -> list[bytes]:
    return [(CHECKOUT / name).read_bytes() for name in names]


PATCHES = sorted((CHECKOUT / "patches/flash-attn/2.8.3").glob("*.patch"))
SERIES = _own("patches/flash-attn/2.8.3/series")
PROBES = _own("patches/vllm/0.28.0/probes.toml")
PROJECT_FILES = _own("patches/vllm/project.toml", "patches/flash-attn/project.toml")
FILES = [
    {
        "filename": f"toy-{version}-cp312-cp312-linux_x86_64.whl",
        "url": f"../../toy-{version}-cp312-cp312-linux_x86_64.whl",
        "hashes": {"sha256": "a" * 64},
        "core-metadata": {"sha256": "b" * 64},
        "requires-python": ">=3.11",
        "size": 1234,
        "upload-time": "2026-11-30T00:00:00.000000Z",
        "yanked": False,
    }
    for version in ("1.0", "1.1.dev20261130+cu130")
]
JSON_PAGES = [{"meta": {"api-version": "1.4"}, "name": "toy", "versions": ["1.0"], "files": FILES}]
HTML_PAGES = [
    b'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
    b'<meta name="pypi:repository-version" content="1.4">\n<title>Links for toy</title></head>\n'
    b'<body><h1>Links for toy</h1>\n<a href="../../toy-1.0-cp312-cp312-linux_x86_64.whl#sha256='
    + b"a" * 64
    + b'" data-requires-python="&gt;=3.11" data-core-metadata="sha256='
    + b"b" * 64
    + b'">toy-1.0-cp312-cp312-linux_x86_64.whl</a><br>\n</body></html>\n'
]
UV = [
    {
        "index": [{"name": "a", "url": "https://a.example/simple", "default": True}],
        "index-url": "https://b.example/simple",
        "extra-index-url": ["https://c.example/simple"],
        "native-tls": True,
        "allow-insecure-host": ["d.example"],
        "pip": {"index-url": "https://e.example/simple"},
    }
]
SMI = [b"NVIDIA GeForce RTX 5090, 580.95.05, 12.0\nNVIDIA H200, 580.95.05, 9.0\n"]
DRIVER = [
    b"NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2025\n",
    b"MemTotal:       24000000 kB\nMemAvailable:   12000000 kB\nSwapTotal: 0 kB\n0::/a/b\n",
    b"max 100000\n",
    b"2147483648\n",
]
LINES = [
    b"python3[7]: segfault at 10 ip 00007f8b12385ad8 sp 00007ffc1 error 4"
    b" in libc.so.6[167ad8,7f8b12244000+195000]",
    b"python3.11[7]: segfault at 0 ip 000000000052d2a0 sp 00007ff error 6"
    b" in python3.11[41f000+2a0000]",
    b"traps: python3[77] trap invalid opcode ip:7f12 sp:7ff0 error:0 in x.so[7f00+1000]",
    b"NVRM: Xid (PCI:0000:01:00): 31, pid=1, name=python, Ch 8, MMU Fault",
    b"Memory cgroup out of memory: Killed process 812 (cicc) total-vm:61440kB",
    b"ImportError: libcudart.so.12: cannot open shared object file: No such file or directory",
    b"undefined symbol: _ZN3c104cuda9SetDeviceEab, version libnvJitLink.so.12",
    b"/lib/libc.so.6: version `GLIBC_2.32' not found (required by x.so)",
    b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB. this process has 3 GiB",
]
CRASH = [
    b"frame #0: c10::SignalHandler() + 0x10 (0x7f00 in /x/libc10.so)\n"
    b"frame #1: <unknown function> + 0x42520 (0x7f01 in /lib/x86_64-linux-gnu/libc.so.6)\n"
    b"frame #2: toy_launch(int) + 0x3c (0x7f02 in /x/toy/_C.so)\n"
    b"frame #3: python() [0x52d2a0] + 5 (0x52d2a0 in /usr/bin/python3.11)\n"
    b"<omitting python frames>\nPID: 7\n"
    b'Thread 0x1 (most recent call first):\n  File "/x/checks.py", line 8 in check\n'
]
GIT = [
    b"fatal: unable to access 'https://u:p@git.example/x/': The requested"
    b" URL returned error: 503\n",
    b"fatal: unable to access 'https://git.example/x/': Could not resolve host: git.example\n",
    b"git@git.example: Permission denied (publickey).\n"
    b"fatal: Could not read from remote repository.\n",
    b"fatal: detected dubious ownership in repository at '/m'\n"
    b"\tgit config --global --add safe.directory /m\n",
]
CMAKE = [
    b'set(TAG "v4.1.0")\nset(URL https://git.example/a/b.git)\nif(X)\n  set(TAG "'
    + b"c" * 40
    + b'")\nendif()\nFetchContent_Declare(\n  cutlass\n  GIT_REPOSITORY ${URL}\n'
    b"  GIT_TAG ${TAG} # a\n)\n"
    b"FetchContent_Declare(other GIT_REPOSITORY https://git.example/o.git GIT_TAG ${TAG}${TAG})\n"
]
UPSTREAM = [
    {
        "build-system": {
            "requires": ["setuptools>=77", "torch==2.11.0", "ninja; python_version<'3'"]
        }
    },
]
REQUIREMENTS = [b"-r common.txt\ntorch==2.11.0 # a\nnumba==0.61; python_version < '3.14'\n\n"]
TORCH_VERSION = [
    b"from typing import Optional\n__all__ = ['__version__']\n__version__ = '2.11.0+cu130'\n"
    b"debug = False\ncuda: Optional[str] = '13.0'\ngit_version = '" + b"7" * 40 + b"'\nhip = None\n"
]
TORCH_RECORD = [
    b"torch/__init__.py,sha256=abc,10\ntorch/lib/other.so,sha256=abc,10\n"
    b"torch-2.11.0.dist-info/RECORD,,\n",
]
SERVED = [
    b"INFO 11-30 Using FLASH_ATTN attention backend\n"
    b"INFO Model loading took 3.9 GiB and 7 seconds\n"
    b"GPU KV cache size: 1,234,567 tokens\nMaximum concurrency for 4,096 tokens: 30.1x\n"
    b"init engine took 31.2 seconds\n"
]
BENCH = [
    {
        "kind": "blackwheel-serving-1",
        "model": "m",
        "server": {"server": "http://x", "version": "1"},
        "first_request_seconds": 1.5,
        "runs": [{"tokens": 128, "seconds": 1.0, "first": 0.1}] * 5,
    }
]


def _toml(values):
    from mutators import as_toml

    return [as_toml(value) for value in values]


def _json(values):
    from mutators import as_json

    return [as_json(value) for value in values]


LOCKS = [b"".join(line for line in _own("constraints/torch211/toolchain.txt"))]
PROJECT_TABLES = [tomllib.loads(text.decode()) for text in PROJECT_FILES]

TARGETS = [
    Target(
        name="stack file",
        parse=stack_file,
        seeds=_toml([*STACKS, STABLE]),
        inputs=toml_files([*STACKS, *STACKS, *STACKS, STABLE]),
        covers=(loader, faults),
    ),
    Target(
        name="torch.toml",
        parse=torch_file,
        seeds=_toml([STABLE["torch"]]),
        inputs=toml_files([STABLE["torch"]]),
        covers=(loader,),
    ),
    Target(
        name="project.toml",
        parse=project_file,
        seeds=_toml(PROJECT_TABLES),
        inputs=toml_files(PROJECT_TABLES),
        covers=(
            projects.load,
            projects._inconsistencies,
            projects._pattern,
            projects._arch,
            faults,
        ),
    ),
    Target(
        name="probes.toml",
        parse=probes_file,
        seeds=PROBES,
        inputs=toml_files([tomllib.loads(PROBES[0].decode())]),
        covers=(probes.probes,),
    ),
    Target(
        name="series",
        parse=series_file,
        seeds=SERIES,
        inputs=texts(SERIES),
        covers=(series.load_series, series._entry_faults),
    ),
    Target(
        name="patch header",
        parse=patch_header,
        seeds=[p.read_bytes()[:4000] for p in PATCHES],
        inputs=texts([p.read_bytes()[:3000] for p in PATCHES]),
        covers=(series.header_faults, series._is_date),
    ),
    Target(
        name="index page, JSON",
        parse=page(JSON_PAGE),
        seeds=_json(JSON_PAGES),
        inputs=json_files(JSON_PAGES),
        covers=(
            simple_index.parsed,
            simple_index._document,
            nightly_index.offered,
            nightly_index._python,
        ),
        named=(FailedError,),
    ),
    Target(
        name="index page, HTML",
        parse=page("text/html"),
        seeds=HTML_PAGES,
        inputs=texts(HTML_PAGES),
        covers=(simple_index.parsed, nightly_index.offered),
        named=(FailedError,),
    ),
    Target(
        name="lock file",
        parse=lock_file,
        seeds=LOCKS,
        inputs=texts(LOCKS),
        covers=(
            identity.locked_digests,
            toolkit.locked_versions,
            toolkit._strays,
            toolkit.lock_digest,
        ),
    ),
    Target(
        name="uv.toml",
        parse=uv_settings,
        seeds=_toml(UV),
        inputs=toml_files(UV),
        covers=(caller._settings, caller._of_table, caller.chosen),
    ),
    Target(
        name="nvidia-smi",
        parse=nvidia_smi,
        seeds=SMI,
        inputs=texts(SMI),
        covers=(
            machine_checks._gpus,
            machine_checks.gpu_checks,
            machine_checks.gpu_check,
            machine_checks.driver_check,
            machine_checks.ptx_checks,
        ),
    ),
    Target(
        name="driver, memory, cgroup",
        parse=driver_file,
        seeds=DRIVER,
        inputs=texts(DRIVER),
        covers=(machine_checks.driver_check,),
    ),
    Target(
        name="log line (explain)",
        parse=log_line,
        seeds=LINES,
        inputs=texts(LINES),
        covers=(diagnosis.of_log, diagnosis._of_segfault, diagnosis.from_words),
    ),
    Target(
        name="crash report",
        parse=crash_report,
        seeds=CRASH,
        inputs=texts(CRASH),
        covers=(diagnosis.of_crash, diagnosis.frames, diagnosis.python_line),
    ),
    Target(
        name="git's words",
        parse=git_words,
        seeds=GIT,
        inputs=texts(GIT),
        covers=(git_host.reason, git_host.said, git_host.cure),
    ),
    Target(name="CMake file", parse=cmake_file, seeds=CMAKE, inputs=texts(CMAKE), covers=(cmake,)),
    Target(
        name="pyproject.toml of upstream",
        parse=upstream_project,
        seeds=_toml(UPSTREAM),
        inputs=toml_files(UPSTREAM),
        covers=(requirements.build_lines, requirements.moved),
    ),
    Target(
        name="requirements of upstream",
        parse=requirement_file,
        seeds=REQUIREMENTS,
        inputs=texts(REQUIREMENTS),
        covers=(requirements.file_lines, requirements.moved),
    ),
    Target(
        name="torch/version.py",
        parse=torch_version_file,
        seeds=TORCH_VERSION,
        inputs=texts(TORCH_VERSION),
        covers=(identity.seen, identity.identity, identity._assignments),
    ),
    Target(
        name="torch's RECORD",
        parse=torch_record,
        seeds=TORCH_RECORD,
        inputs=texts(TORCH_RECORD),
        covers=(libraries._recorded,),
    ),
    Target(
        name="log of a server",
        parse=served_log,
        seeds=SERVED,
        inputs=texts(SERVED),
        covers=(serving.facts_of,),
    ),
    Target(
        name="bench result",
        parse=bench_result,
        seeds=_json(BENCH),
        inputs=json_files(BENCH),
        covers=(results.read, results.summary),
    ),
]
