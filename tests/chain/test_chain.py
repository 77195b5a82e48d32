"""The whole chain, as a person runs it: invoke, nox, isolation, setup.py, ninja, launcher, nvcc.

A toy stands for the upstream: its one real kernel is compiled for sm_120a with the registry's nvcc,
against the torch of stack `torch211`.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import uv
from checkout import Checkout, Done, decoy, descendants, ended, within
from elftools.elf.elffile import ELFFile

from blackwheel.core import isolation
from blackwheel.core.errors import Exit
from blackwheel.receipts import document as receipts

pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]

VERSION = f"3.{sys.version_info.minor}"
CP = f"cp3{sys.version_info.minor}"
LABEL = "cu130torch2.11.0.sm120a"
LIBRARY = f"toy_cuda/_kernels.cpython-3{sys.version_info.minor}-x86_64-linux-gnu.so"
MODE = isolation.available_isolation().mode
FORBIDDEN = isolation.available_isolation().reason

AUDIT_HOOK = """
import sys

def note(event, arguments):
    if event in ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.system"):
        with open(LOG, "a") as log:
            log.write(f"{arguments[1]}\\n")

sys.addaudithook(note)
"""


def wheel_name(revision: int = 1) -> str:
    return f"toy_cuda-1.0+{LABEL}.{revision}-{CP}-{CP}-linux_x86_64.whl"


def compiled(checkout: Checkout) -> list[str]:
    """The sources of the objects that were compiled, in order, over all runs."""
    path = checkout.workshop / "work" / "objects.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line)["source"] for line in lines if json.loads(line)["exit"] == 0]


def sections(checkout: Checkout, revision: int = 1) -> dict[str, Any]:
    path = checkout.shelf / f"{wheel_name(revision)}.receipt.json"
    return dict(receipts.sections(receipts.load(path)))


def change_kernel(checkout: Checkout, factor: str) -> None:
    """Edit the patch of one kernel, as a person does who works on it."""
    checkout.edit(checkout.series / "0002-scale-by-three.patch", "+#define FACTOR 3.0f", factor)


def sources(checkout: Checkout) -> Path:
    """Return where a build of this checkout finds its sources."""
    return isolation.fixed_paths(MODE, checkout.store).src


def raise_revision(checkout: Checkout) -> None:
    checkout.edit(checkout.toml, "revision = 1", "revision = 2")


def make_slow(checkout: Checkout) -> None:
    """Give cicc seconds of work with one object, which ninja compiles last."""
    checkout.edit(checkout.toml, 'NVCC_FLAGS = ""', 'NVCC_FLAGS = "-DSTEPS=200"')


def compiles_last_object(top: int) -> bool:
    return any("/cicc" in p.line and "scale" in p.line for p in descendants(top))


def test_first_run_ends_with_wheel_sha256_archs_log_and_install_line(
    first_run: tuple[Checkout, Done],
) -> None:
    checkout, done = first_run
    wheel = checkout.shelf / wheel_name()
    assert checkout.wheels == [wheel]
    document = receipts.load(checkout.shelf / f"{wheel.name}.receipt.json")
    assert receipts.verify(document, wheel) == ()
    sha256 = receipts.subject(document)[1]
    assert re.sub(r"(?m)^size     .*$", "size     SIZE", done.out) == (
        f"wheel    wheels/toy/{wheel.name}\n"
        "size     SIZE\n"
        f"sha256   {sha256}\n"
        f"kernels  {LIBRARY}: 2 sm_120a\n"
        "smoke    import only, because no GPU was found\n"
        f"receipt  wheels/toy/{wheel.name}.receipt.json\n"
        f"log      {checkout.workshop}/build.log\n"
        "\n"
        "install, in your own environment:\n"
        f"  pip: python3 -m pip install '{wheel}'\n"
        f"  uv:  uv pip install '{wheel}'\n"
        f"or in a new one: invoke install --stack toy --python {VERSION} --into FOLDER\n"
    )
    assert "nvcc" in (checkout.workshop / "build.log").read_text(encoding="utf-8")
    assert sorted(compiled(checkout)) == ["bindings.c", "offset.cu", "scale.cu"]


def test_receipt_tells_source_patches_torch_and_how_it_was_isolated(
    first_run: tuple[Checkout, Done],
) -> None:
    held = sections(first_run[0])
    assert held["sources"]["origin"] == "git"
    assert held["sources"]["project"]["uri"] == "https://upstream.invalid/toy/toy_cuda"
    assert [nested["name"] for nested in held["sources"]["nested"]] == ["third_party/toy_headers"]
    assert [patch["name"] for patch in held["patches"]["series"]] == [
        "0001-setup-take-12.0a.patch",
        "0002-scale-by-three.patch",
    ]
    assert held["torch"]["runtime"] == "2.11.0+cu130"
    assert held["isolation"]["mode"] == MODE
    assert held["objects"]["count"] == 3
    assert held["smoke"]["together"] == [wheel_name()]


def test_the_printed_install_line_installs_a_wheel_that_imports(
    first_run: tuple[Checkout, Done], tmp_path: Path
) -> None:
    checkout, done = first_run
    found = re.search(r"^  pip: python3 -m pip install '(/.+)'$", done.out, re.MULTILINE)
    assert found
    tool = uv.find_uv_bin()  # pip takes the same words, and 40 s of CPU for torch
    subprocess.run([tool, "venv", "--quiet", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    argv = [tool, "pip", "install", "--quiet", "--python", python, found[1]]
    subprocess.run(argv, cwd=checkout.root, check=True)
    told = "import toy_cuda; from importlib.metadata import version; print(version('torch'))"
    seen = subprocess.run([python, "-c", told], capture_output=True, text=True, check=True)
    assert seen.stdout == "2.11.0\n"


def test_second_run_says_that_nothing_changed_and_starts_no_program(
    built: Checkout, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    hook = AUDIT_HOOK.replace("LOG", repr(str(started)))
    (tmp_path / "sitecustomize.py").write_text(hook, encoding="utf-8")
    built.variables["PYTHONPATH"] = str(tmp_path)
    done = built.build()
    assert (done.code, done.err) == (0, "toy: nothing changed since these wheels were built\n")
    assert f"wheel    wheels/toy/{wheel_name()}\n" in done.out
    assert f"  pip: python3 -m pip install '{built.shelf / wheel_name()}'\n" in done.out
    # isolation.py is asked what the kernel allows: that is part of the key.
    lines = started.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.endswith("isolation.py', '-']")] == []


def test_hook_of_the_test_above_sees_a_build(fresh: Checkout, tmp_path: Path) -> None:
    started = tmp_path / "started"
    hook = AUDIT_HOOK.replace("LOG", repr(str(started)))
    (tmp_path / "sitecustomize.py").write_text(hook, encoding="utf-8")
    fresh.variables["PYTHONPATH"] = str(tmp_path)
    assert fresh.invoke("clone", "--stack", "toy").code == 0
    assert "git" in started.read_text(encoding="utf-8")


def planned(checkout: Checkout) -> str:
    """Return what `invoke plan` says, less what the machine and git decide."""
    done = checkout.invoke("plan", "--stack", "toy")
    assert (done.code, done.err) == (0, "")
    return re.sub(r"(?m)^  (cost|memory|key): .*\n", "", done.out)


def test_plan_of_what_is_built_says_that_nothing_changed(built: Checkout) -> None:
    assert planned(built) == (
        f"toy-cuda 1.0+{LABEL}.1 for Python {VERSION}\n  build:  no: nothing changed\n"
    )


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('NVCC_FLAGS = ""', 'NVCC_FLAGS = "-lineinfo"', "{v}: none → -lineinfo"),
        ("MAX_JOBS =", 'MORE = "1"\nMAX_JOBS =', "variables.MORE is new"),
        ('MAX_JOBS = "{jobs}"\n', "", "no: nothing changed"),
        ("[projects.toy-cuda]", '[torch]\ncuda = "13.1"\n[projects.toy-cuda]', "cuda: 13.0 → 13.1"),
        ('locks = "toy"', 'locks = "toy"\narchs = ["9.0", "12.0a"]', "archs: 12.0a → 9.0;12.0a"),
    ],
)
def test_plan_says_which_flag_of_the_stack_changed(
    built: Checkout, old: str, new: str, why: str
) -> None:
    built.edit(built.toml, old, new)
    assert why.replace("{v}", "variables.TOY_CUDA_NVCC_FLAGS") in planned(built)


def test_plan_names_a_changed_patch_a_new_one_and_a_moved_pin(built: Checkout) -> None:
    change_kernel(built, "+#define FACTOR 5.0f")
    raise_revision(built)
    commit = re.search(r'^commit = "(\w+)"', built.toml.read_text(encoding="utf-8"), re.M)
    assert commit
    built.edit(built.toml, commit[1], "0" * 40)
    assert planned(built) == (
        f"toy-cuda 1.0+{LABEL}.2 for Python {VERSION}\n"
        f"  build:  yes: label: {LABEL}.1 → {LABEL}.2; patches.0002-scale-by-three.patch changed;"
        f" source.commit: {commit[1]} → {'0' * 40}\n"
    )


def test_receipt_tells_what_each_library_is_bound_to_in_the_build_environment(
    built: Checkout,
) -> None:
    audited = sections(built)["audit"]
    bound = {one["library"]: one["missing"] for one in audited["links"]}
    assert bound == {library["path"]: [] for library in audited["libraries"]}
    assert bound


def test_objects_of_another_environment_are_never_continued_with(built: Checkout) -> None:
    """Headers at the same path and older than the objects: ninja finds nothing to do."""
    lock = built.toml.with_suffix("") / f"build-{built.project}-py{VERSION.replace('.', '')}.txt"
    text = re.sub(r"(?m)^einops==.*\n(?: .*\n)+", "", lock.read_text(encoding="utf-8"))
    lock.write_text(text, encoding="utf-8")
    raise_revision(built)
    done = built.build()
    assert done.code == 0, done.said
    said = "toy-cuda: its build tree was made with other packages: everything is compiled again\n"
    assert said in done.err
    assert sorted(compiled(built)) == ["bindings.c", "offset.cu", "scale.cu"], "of this build alone"
    history = built.store / "history" / "toy-cuda"
    assert len([*history.glob("*.jsonl")]) == 1, "what they took is still known"


def test_changed_audit_and_smoke_code_builds_nothing_again(built: Checkout) -> None:
    for name in ("audit/kernels.py", "smoke/smoke.py", "core/console.py"):
        path = built.root / "blackwheel" / name
        path.write_text(f"{path.read_text(encoding='utf-8')}\n# changed\n", encoding="utf-8")
    assert built.build().err == "toy: nothing changed since these wheels were built\n"


def test_changed_patch_compiles_only_the_object_that_it_touches(built: Checkout) -> None:
    temporary = built.workshop / "src" / "build"
    before = {path.name: path.stat().st_mtime_ns for path in temporary.rglob("*.o")}
    assert set(before) == {"bindings.o", "offset.o", "scale.o"}
    change_kernel(built, "+#define FACTOR 5.0f")
    raise_revision(built)
    done = built.build()
    assert done.code == 0, done.said
    after = {path.name: path.stat().st_mtime_ns for path in temporary.rglob("*.o")}
    assert {name for name in after if after[name] != before[name]} == {"scale.o"}
    assert compiled(built)[3:] == ["scale.cu"]
    assert [path.name for path in built.wheels] == [wheel_name(1), wheel_name(2)]
    assert planned(built).endswith("build:  no: nothing changed\n")


def test_changed_patch_under_the_old_revision_is_refused_before_anything_is_compiled(
    built: Checkout,
) -> None:
    change_kernel(built, "+#define FACTOR 5.0f")
    done = built.build()
    assert (done.code, done.out, done.err) == (
        Exit.INDEX,
        "",
        "error: label-taken\n"
        f"  toy-cuda 1.0+{LABEL}.1 is on the shelf, built from something else\n"
        "  patches.0002-scale-by-three.patch changed\n"
        "  where: constraints/toy.toml\n"
        "  fix:   raise projects.toy-cuda.revision to 2\n"
        "         or, while you try things out: --replace takes the old wheel off the shelf\n",
    )


def test_changed_patch_under_the_old_revision_takes_the_place_of_the_old_wheel_when_asked_to(
    built: Checkout,
) -> None:
    before = built.wheels[0].read_bytes()
    change_kernel(built, "+#define FACTOR 5.0f")
    done = built.build("--replace")
    assert done.code == 0, done.said
    assert [path.name for path in built.wheels] == [wheel_name(1)]
    assert built.wheels[0].read_bytes() != before
    assert planned(built).endswith("build:  no: nothing changed\n")


def test_build_in_another_checkout_with_another_nvcc_first_on_path_gives_the_same_bytes(
    first_run: tuple[Checkout, Done], fresh: Checkout, tmp_path: Path
) -> None:
    wrong = decoy(tmp_path / "wrong" / "bin", "nvcc", "cicc", "ptxas", "fatbinary", "cudafe++")
    path = fresh.environment["PATH"]
    fresh.variables |= {
        "PATH": f"{wrong}:{path}",
        "CUDA_HOME": str(wrong.parent),
        "CUDA_PATH": str(wrong.parent),
        "PYTORCH_NVCC": str(wrong / "nvcc"),
        "NVCC_PREPEND_FLAGS": "--oops",
        "LANG": "de_DE.UTF-8",
        "TOY_CUDA_ARCHS": "9.0",
    }
    fresh.umask = 0o077
    done = fresh.build("--jobs", "1")
    assert done.code == 0, done.said
    assert not (wrong / "called").exists()
    if MODE == isolation.NAMESPACES:  # else the fixed path, which is in the bytes, is a user's own
        assert fresh.wheels[0].read_bytes() == first_run[0].wheels[0].read_bytes()


def test_no_file_of_the_wheel_names_a_place_of_the_builder(built: Checkout) -> None:
    places = {sys.base_prefix, sys.prefix, str(built.home), str(Path.home()), "/tmp/blackwheel"}  # noqa: S108
    with zipfile.ZipFile(built.wheels[0]) as archive:
        held = {
            f"{name}: {place}"
            for name in archive.namelist()
            for place in places
            if place.encode() in archive.read(name)
        }
        (library,) = (name for name in archive.namelist() if name.endswith(".so"))
        sections = [one.name for one in ELFFile(io.BytesIO(archive.read(library))).iter_sections()]
    assert not held
    assert not [name for name in sections if name.startswith(".debug")]
    assert ".symtab" in sections  # a native backtrace still names functions


def test_objects_from_before_the_clock_was_set_back_are_never_packed(built: Checkout) -> None:
    tomorrow = time.time() + 86400
    for path in (built.workshop / "src").rglob("*"):
        if not path.is_symlink():
            os.utime(path, (tomorrow, tomorrow))
    change_kernel(built, "+#define FACTOR 5.0f")
    raise_revision(built)
    done = built.build()
    assert done.code == 0, done.said
    said = [line for line in done.err.splitlines() if "build tree" in line]
    assert said == [
        "toy-cuda: its build tree holds files of a later time than now (the clock was set back):"
        " everything is compiled again"
    ]
    assert sorted(compiled(built)) == ["bindings.c", "offset.cu", "scale.cu"]


def test_again_compiles_everything_to_the_same_bytes(built: Checkout) -> None:
    before = built.wheels[0].read_bytes()
    done = built.build("--again")
    assert done.code == 0, done.said
    assert sorted(compiled(built)) == ["bindings.c", "offset.cu", "scale.cu"]
    assert [path.read_bytes() for path in built.wheels] == [before]


def test_without_namespaces_the_chain_works_and_says_what_it_cannot_promise(
    fresh: Checkout,
) -> None:
    fresh.variables["BLACKWHEEL_ISOLATION"] = "processes"
    done = fresh.build()
    assert done.code == 0, done.said
    assert (
        "toy-cuda: no namespaces here (BLACKWHEEL_ISOLATION=processes): the build has no network"
        " only as far as proxies go, and is not reproducible\n"
    ) in done.err
    assert sections(fresh)["isolation"] == {
        "mode": "processes",
        "network": "dead proxies only",
    }
    assert list((fresh.store / "fixed").iterdir()), "the fixed path was used"


def error_of(done: Done) -> str:
    """The error of a build that failed: what stands between its name and the end of the build."""
    text = done.err[done.err.index("error: ") :]
    return text[: text.index("toy-cuda: build for Python")]


def test_compile_error_shows_the_objects_own_words_and_the_next_run_continues(
    fresh: Checkout,
) -> None:
    change_kernel(fresh, "+#define FACTOR three")
    done = fresh.build("--jobs", "1")
    assert done.code == Exit.BUILD
    assert "Traceback" not in done.said
    error = error_of(done)
    source = sources(fresh)
    command = re.search(rf"\n  ({source.parent}/env/bin/python .*)\n", error)
    words = error.replace(command[1], "COMMAND") if command else error
    temporary = f"{source}/build/temp.linux-x86_64-cpython-3{sys.version_info.minor}"
    assert words == (
        "error: build-failed\n"
        "  toy-cuda 1.0 ended with exit code 1\n"
        f"  FAILED: [code=2] {temporary}/scale.o \n"
        "  COMMAND\n"
        f"  {source}/csrc/scale.cu(14):"
        ' error: identifier "three" is undefined\n'
        "      values[threadIdx.x] = value * three;\n"
        "                                    ^\n"
        "  \n"
        f'  1 error detected in the compilation of "{source}/csrc/scale.cu".\n'
        f"  where: {fresh.workshop}/build.log\n"
        "  fix:   correct the patch or the flags named above, then the same command: nothing that"
        " compiled is lost\n"
    )
    assert not fresh.shelf.exists()
    fresh.edit(fresh.series / "0002-scale-by-three.patch", "FACTOR three", "FACTOR 3.0f")
    assert fresh.build().code == 0
    assert sorted(compiled(fresh)) == ["bindings.c", "offset.cu", "scale.cu"]


FETCHING = """\
From: somebody <somebody@upstream.invalid>
Subject: setup.py: fetch while building

As upstreams do whose nested sources nobody pinned.

Origin: vendor, toy
Forwarded: not-needed (a toy)
Last-Update: 2026-11-25
---

diff --git a/setup.py b/setup.py
--- a/setup.py
+++ b/setup.py
@@ -12,3 +12,5 @@
 HERE = Path(__file__).parent
+lost = "https://upstream.invalid/lost"
+subprocess.run(["git", "ls-remote", lost], check=@check@)
 GENCODE = {
     "9.0": "-gencode=arch=compute_90,code=sm_90",
"""


@pytest.mark.skipif(bool(FORBIDDEN), reason=f"namespaces: {FORBIDDEN}")
def test_network_that_a_build_asks_for_is_named_and_ends_it_where_it_cannot_do_without(
    fresh: Checkout,
) -> None:
    patch = fresh.series / "0003-fetch-while-building.patch"
    patch.write_text(FETCHING.replace("@check@", "True"), encoding="utf-8")
    series = fresh.series / "series"
    series.write_text(f"{series.read_text(encoding='utf-8')}{patch.name}\n", encoding="utf-8")
    done = fresh.build()
    assert done.code == Exit.BUILD
    error = error_of(done)
    assert error.startswith(
        "error: network-attempted\n"
        "  toy-cuda 1.0 asked for upstream.invalid, and a build has no network\n"
        "  $ "
    )
    assert "fatal: unable to access 'https://upstream.invalid/lost/': " in error
    assert error.endswith(
        f"  where: {fresh.workshop}/build.log\n"
        "  fix:   pin what it fetches as a nested source, and name its folder in the project's"
        " variables\n"
    )
    assert compiled(fresh) == []
    assert not fresh.shelf.exists()

    patch.write_text(FETCHING.replace("@check@", "False"), encoding="utf-8")
    done = fresh.nox("--session", "build(toy-cuda)", "--", "--stack", "toy", "--python", VERSION)
    assert done.code == 0, done.said
    assert "toy-cuda: the build asked for upstream.invalid, and did without\n" in done.err


def test_object_without_the_arch_of_the_contract_is_refused_before_it_compiles(
    fresh: Checkout,
) -> None:
    (fresh.series / "0001-setup-take-12.0a.patch").unlink()
    fresh.edit(fresh.series / "series", "0001-setup-take-12.0a.patch\n", "")
    done = fresh.build("--jobs", "1")
    assert done.code == Exit.BUILD
    error = error_of(done)
    assert error == (
        "error: wrong-arch\n"
        f"  toy-cuda 1.0 refused {sources(fresh)}/csrc/offset.cu: asks for no arch,"
        " the contract needs sm_120a\n"
        f"  where: {fresh.workshop}/build.log\n"
        "  fix:   correct the patch or the variable that hands the archs to nvcc:"
        " patches/toy-cuda/1.0/\n"
    )
    assert compiled(fresh) == ["bindings.c"]
    assert not fresh.shelf.exists()


def test_stopped_twice_leaves_no_process_and_continues_where_it_was(fresh: Checkout) -> None:
    make_slow(fresh)
    for signum, send in ((signal.SIGTERM, os.kill), (signal.SIGINT, os.killpg)):
        run = fresh.start("build-wheels", "--stack", "toy", "--jobs", "1")
        assert within(120, lambda top=run.pid: compiles_last_object(top)), ended(run).said
        family = descendants(run.pid)
        send(run.pid, signum)  # a terminal sends Ctrl-C to the whole group, a supervisor to one
        done = ended(run)
        assert done.code == 128 + signum
        assert within(2, lambda family=family: not any(process.alive for process in family))
        assert "Traceback" not in done.said
        # Where the build's own end is seen before the signal, it is called stopped, too.
        assert not re.search("error: (?!build-stopped)", done.said), done.said
        last = "stopped; what was compiled is kept: the same command continues\n"
        assert done.said.count(last) == 1
        assert not fresh.shelf.exists()
    done = fresh.build("--jobs", "1")
    assert done.code == 0, done.said
    assert "toy-cuda: 3 objects, 2 of them compiled before, 1 at once" in done.err
    assert compiled(fresh) == ["bindings.c", "offset.cu", "scale.cu"]


def test_second_of_two_runs_waits_says_for_whom_and_builds_nothing_twice(fresh: Checkout) -> None:
    make_slow(fresh)
    first = fresh.start("build-wheels", "--stack", "toy")
    assert within(120, lambda: compiles_last_object(first.pid)), ended(first).said
    second = fresh.build()
    done = ended(first)
    assert (done.code, second.code) == (0, 0), done.said + second.said
    assert second.out == done.out
    assert second.err == (
        f"toy-cuda: waiting for toy-cuda in process {first.pid} (run-toy-py{VERSION})\n"
    )
    assert sorted(compiled(fresh)) == ["bindings.c", "offset.cu", "scale.cu"]


def test_nox_lists_a_session_for_each_project(fresh: Checkout) -> None:
    done = fresh.nox("-l")
    assert done.code == 0
    stacks = [tomllib.loads(one.read_text("utf-8")) for one in fresh.toml.parent.glob("*.toml")]
    projects = sorted({name for stack in stacks for name in stack.get("build", [])})
    assert {"flash-attn", "toy-cuda", "vllm"} <= set(projects)
    listed = re.findall(r"(?m)^[-*] build\((\S+)\)", done.out)
    assert listed == projects


def test_smoke_of_an_empty_shelf_is_an_error(fresh: Checkout) -> None:
    done = fresh.nox("-s", "smoke", "--", "--stack", "toy")
    assert done.code != 0
    assert (
        "error: nothing-to-smoke\n"
        "  no wheel is on the shelf of toy\n"
        "  where: wheels/\n"
        "  fix:   invoke build-wheels --stack toy\n"
    ) in done.err


def test_smoke_of_the_shelf_passes(built: Checkout) -> None:
    done = built.nox("-s", "smoke", "--", "--stack", "toy")
    assert done.code == 0, done.said
    assert f"toy-cuda: smoke {wheel_name()}: done in " in done.err
