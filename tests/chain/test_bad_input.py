"""What a person gets wrong, through the real `invoke`: the whole message, nothing left behind."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from checkout import TOYS, Checkout, Done, ended, new_checkout

from blackwheel.core import files, isolation
from blackwheel.core.errors import Exit
from blackwheel.sources import sdist
from blackwheel.sources.tree import tree_id
from blackwheel.stacks import loader

VERSION = f"3.{sys.version_info.minor}"
BUILD = ("build-wheels", "--stack", "toy")
NOBODY = "0" * 40
FORBIDDEN = isolation.available_isolation().reason

HEADER = """\
From: somebody <somebody@upstream.invalid>
Subject: a patch that may not be

It is here to be refused.

Origin: vendor, toy
Forwarded: not-needed (a toy)
Last-Update: 2026-11-22
---

"""
OUTSIDE = """\
diff --git a/../outside b/../outside
new file mode 100644
index 0000000..7898192
--- /dev/null
+++ b/../outside
@@ -0,0 +1 @@
+a
"""
LINK = """\
diff --git a/csrc/link.cuh b/csrc/link.cuh
new file mode 120000
index 0000000..42f5bb2
--- /dev/null
+++ b/csrc/link.cuh
@@ -0,0 +1 @@
+/etc/passwd
\\ No newline at end of file
"""


@pytest.fixture
def toy(tmp_path: Path) -> Checkout:
    """A checkout with the stack `toy`; nothing in this file gets as far as a toolchain."""
    return new_checkout(tmp_path / "toy", tmp_path / "shared")


def refused(checkout: Checkout, *words: str) -> tuple[int, str]:
    """Run `invoke …`; return its code and error once it is sure that nothing was left."""
    return judged(checkout, checkout.invoke(*(words or BUILD)))


def judged(checkout: Checkout, done: Done) -> tuple[int, str]:
    assert "Traceback" not in done.said
    assert done.out == ""
    assert not checkout.shelf.exists()
    assert not (checkout.store / "builds").exists(), "nothing was compiled"
    assert not list(checkout.store.glob("toolchains/*")), "nothing was installed"
    assert not list(checkout.store.glob("nox/*"))
    assert not list(checkout.store.glob("*/*/.*part*"))
    return done.code, done.err[done.err.index("error: ") :]


def pinned(checkout: Checkout, key: str) -> str:
    """Return the first commit or tree of the stack file: the project's own."""
    found = re.search(rf'^{key} = "(\w+)"', checkout.toml.read_text(encoding="utf-8"), re.M)
    assert found
    return found[1]


def test_unknown_stack_names_the_nearest(toy: Checkout) -> None:
    assert refused(toy, "build-wheels", "--stack", "toi") == (
        Exit.USAGE,
        "error: unknown-stack\n"
        "  there is no stack 'toi'; did you mean 'toy'?\n"
        "  where: constraints/\n"
        f"  fix:   one of: {', '.join(loader.names(toy.root / 'constraints'))}\n",
    )


def test_unknown_project_names_the_nearest(toy: Checkout) -> None:
    assert refused(toy, *BUILD, "--only", "toycuda") == (
        Exit.USAGE,
        "error: unknown-project\n"
        "  stack 'toy' does not build 'toycuda'; did you mean 'toy-cuda'?\n"
        "  where: constraints/toy.toml\n"
        "  fix:   one of: toy-cuda\n",
    )


def test_unknown_arch(toy: Checkout) -> None:
    assert refused(toy, *BUILD, "--arch", "12.0x") == (
        Exit.USAGE,
        "error: unknown-arch\n"
        "  '12.0x' is no compute capability\n"
        "  where: --arch\n"
        "  fix:   write it as 12.0a (RTX 50 and RTX PRO Blackwell),"
        " 9.0 (H100)\n",
    )


def test_nested_source_that_is_handed_to_the_build_and_not_pinned(toy: Checkout) -> None:
    toy.edit(
        toy.toml,
        "[projects.toy-cuda.variables]\n",
        '[projects.toy-cuda.variables]\nTOY_FMT_SRC_DIR = "{source}/third_party/fmt"\n',
    )
    assert refused(toy) == (
        Exit.CONFIG,
        "error: nested-missing\n"
        "  TOY_FMT_SRC_DIR names third_party/fmt, and the sources of toy-cuda 1.0 hold nothing"
        " there\n"
        "  where: constraints/toy.toml, projects.toy-cuda.variables.TOY_FMT_SRC_DIR\n"
        "  fix:   pin it as [[projects.toy-cuda.nested]] with its path, or correct the variable\n",
    )


@pytest.mark.parametrize("jobs", ["x", "-3", "0", "1.5"])
def test_number_of_jobs_that_is_none(toy: Checkout, jobs: str) -> None:
    assert refused(toy, *BUILD, f"--jobs={jobs}") == (
        Exit.USAGE,
        "error: bad-number\n"
        f"  '{jobs}' is no number of compilers\n"
        "  where: --jobs\n"
        "  fix:   --jobs 2, or none: then as many as cores and memory allow\n",
    )


def test_python_that_the_stack_does_not_serve(toy: Checkout) -> None:
    assert refused(toy, *BUILD, "--python", "3.9") == (
        Exit.USAGE,
        "error: python-not-served\n"
        "  stack 'toy' serves Python 3.11, 3.12, 3.13, not 3.9\n"
        "  where: --python\n"
        "  fix:   --python 3.11\n",
    )


def test_python_that_is_not_installed(toy: Checkout) -> None:
    toy.edit(toy.toml, 'locks = "toy"', 'locks = "toy"\npython = ["3.11", "3.99"]')
    locks = toy.toml.with_suffix("")
    shutil.copy(locks / "build-toy-cuda-py311.txt", locks / "build-toy-cuda-py399.txt")
    code, error = refused(toy, *BUILD, "--python", "3.99")
    others = "invoke build-wheels --stack quickstart, invoke build-wheels --stack stable"
    assert (code, error.replace(f"{others}, invoke build-wheels --stack toy", others)) == (
        Exit.MACHINE,
        "error: python-missing\n"
        "  Python 3.99 is not installed\n"
        "  where: --python\n"
        "  fix:   apt-get install python3.99-dev python3.99-venv (Debian, Ubuntu), or name another:"
        " --python PATH\n"
        f"  note:  this machine can build: {others}\n",
    )


def test_path_without_an_interpreter(toy: Checkout) -> None:
    (toy.root / "python3").write_text("#!/bin/sh\necho 2.7\n", encoding="utf-8")
    (toy.root / "python3").chmod(0o755)
    code, error = refused(toy, *BUILD, "--python", "./python3")
    assert code == Exit.MACHINE
    assert error.startswith(
        f"error: python-missing\n  {toy.root}/python3 is no Python interpreter\n  where: --python\n"
    )


def test_every_misspelt_key_of_a_stack_is_named_with_the_nearest(toy: Checkout) -> None:
    toy.edit(toy.toml, "revision = 1", 'revison = 1\nobjekts = 3\nvariant = "Fwd!"')
    assert refused(toy) == (
        Exit.CONFIG,
        "error: bad-stack\n"
        "  3 faults:\n"
        "  projects.toy-cuda.variant: 'Fwd!' does not match ^([a-z][a-z0-9]*)?$\n"
        "  projects.toy-cuda.revison: unknown key; did you mean 'revision'?\n"
        "  projects.toy-cuda.objekts: unknown key; did you mean 'objects'?\n"
        "  where: constraints/toy.toml\n"
        "  fix:   correct the keys named above\n",
    )


def test_wrong_commit(toy: Checkout) -> None:
    toy.edit(toy.toml, pinned(toy, "commit"), NOBODY)
    assert refused(toy) == (
        Exit.SOURCE,
        "error: wrong-commit\n"
        f"  https://upstream.invalid/toy/toy_cuda has no commit {NOBODY}"
        f" (git reads it from {toy.upstream.as_uri()}/toy_cuda)\n"
        "  where: projects.toy-cuda.source.commit\n"
        "  fix:   correct commit and tree in the stack file\n",
    )


def test_wrong_tree(toy: Checkout) -> None:
    commit, tree = pinned(toy, "commit"), pinned(toy, "tree")
    toy.edit(toy.toml, tree, NOBODY)
    assert refused(toy) == (
        Exit.SOURCE,
        "error: wrong-tree\n"
        f"  commit {commit} of https://upstream.invalid/toy/toy_cuda holds another tree\n"
        f"  found:  {tree}\n"
        f"  pinned: {NOBODY}\n"
        "  where: projects.toy-cuda.source.tree\n"
        "  fix:   correct commit and tree in the stack file: they are not of one source\n",
    )


def without_git_host(checkout: Checkout) -> None:
    """Take the mirror away, and every proxy: the host's name then leads nowhere."""
    (checkout.home / "gitconfig").write_text("", encoding="utf-8")
    names = ("http_proxy", "https_proxy", "all_proxy")
    checkout.variables |= {n: "" for name in names for n in (name, name.upper())}


def test_git_host_down_and_no_sdist(toy: Checkout) -> None:
    without_git_host(toy)
    code, error = refused(toy)
    assert (code, error.replace("toy_headers", "toy_cuda").replace("nested.0", "source")) == (
        Exit.SOURCE,
        "error: git-host-unreachable\n"
        "  https://upstream.invalid/toy/toy_cuda cannot be reached:"
        " Could not resolve host: upstream.invalid\n"
        "  no sdist is pinned that could stand in\n"
        "  where: projects.toy-cuda.source.url\n"
        "  fix:   connect to the network, name a mirror with git's url.*.insteadOf,\n"
        "         or carry the sdist here: BLACKWHEEL_SDISTS=folder\n",
    )


def carried_sdist(checkout: Checkout) -> Path:
    """Make an sdist of the toy's release, pin it, and carry it to the checkout."""
    folder = checkout.home / "carried"
    tree = folder / "toy_cuda-1.0"
    shutil.copytree(TOYS / "toy_cuda" / "upstream", tree)
    shutil.copytree(TOYS / "toy_cuda" / "headers", tree / "third_party" / "toy_headers")
    path = folder / "toy_cuda-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tree, arcname=tree.name)
    pin = (
        f'[projects.toy-cuda.sdist]\nname = "{path.name}"\nsha256 = "{files.sha256(path)}"\n'
        f'size = {path.stat().st_size}\ntree = "{tree_id(tree)}"\n\n'
    )
    toml = checkout.toml.read_text(encoding="utf-8")
    checkout.toml.write_text(f"{toml}\n{pin}", encoding="utf-8")
    checkout.variables[sdist.CARRIED] = str(folder)
    return path


def test_git_host_down_and_the_sdist_stands_in(toy: Checkout) -> None:
    path = carried_sdist(toy)
    without_git_host(toy)
    done = toy.invoke("apply-patches", "--stack", "toy")
    assert done.code == 0, done.said
    assert f"toy-cuda: the sdist of the same release stands in: {path.name}\n" in done.err


def test_wrong_sha256_of_the_sdist(toy: Checkout) -> None:
    path = carried_sdist(toy)
    without_git_host(toy)
    right, wrong = files.sha256(path), "f" * 64
    toy.edit(toy.toml, right, wrong)
    assert refused(toy) == (
        Exit.SOURCE,
        "error: wrong-sha256\n"
        f"  {path.name} is not the pinned file; it was not kept\n"
        f"  found:  {right}\n"
        f"  pinned: {wrong}\n"
        f"  where: {path}, projects.toy-cuda.sdist.sha256\n"
        "  fix:   find out who changed the file before you change the pin\n",
    )


def test_sdist_of_another_size(toy: Checkout) -> None:
    path = carried_sdist(toy)
    without_git_host(toy)
    right = path.stat().st_size
    toy.edit(toy.toml, f"size = {right}", f"size = {right + 1}")
    assert refused(toy) == (
        Exit.SOURCE,
        "error: wrong-size\n"
        f"  {path.name} is not the pinned file; it was not kept\n"
        f"  found:  {right} bytes\n"
        f"  pinned: {right + 1} bytes\n"
        f"  where: {path}, projects.toy-cuda.sdist.size\n"
        "  fix:   find out who changed the file before you change the pin\n",
    )


def test_sdist_that_nobody_measured_is_no_pin(toy: Checkout) -> None:
    path = carried_sdist(toy)
    text = toy.toml.read_text(encoding="utf-8")
    head = text[: text.index(f'name = "{path.name}"\n')] + f'name = "{path.name}"\n'
    toy.toml.write_text(head, encoding="utf-8")
    assert refused(toy) == (
        Exit.SOURCE,
        "error: sdist-not-measured\n"
        f"  the stack names {path.name}, and not which bytes it has\n"
        "  where: projects.toy-cuda.sdist\n"
        "  fix:   invoke pin toy-cuda 1.0 --stack STACK\n",
    )


def test_stale_patch(toy: Checkout) -> None:
    patch = toy.series / "0002-scale-by-three.patch"
    toy.edit(patch, "-#define FACTOR 2.0f", "-#define FACTOR 4.0f")
    assert refused(toy) == (
        Exit.PATCH,
        "error: stale-patch\n"
        f"  0002-scale-by-three.patch does not apply to toy-cuda at {pinned(toy, 'commit')[:12]}\n"
        "  git: patch failed: csrc/scale.cu:5\n"
        "  git: csrc/scale.cu: patch does not apply\n"
        "  where: patches/toy-cuda/1.0/series, line 2\n"
        "  fix:   invoke refresh-patches toy-cuda --stack toy\n",
    )


def add_patch(checkout: Checkout, diff: str) -> None:
    (checkout.series / "0003-add-evil.patch").write_text(HEADER + diff, encoding="utf-8")
    with (checkout.series / "series").open("a", encoding="utf-8") as series:
        series.write("0003-add-evil.patch\n")


def test_patch_outside_the_tree(toy: Checkout) -> None:
    add_patch(toy, OUTSIDE)
    assert refused(toy) == (
        Exit.PATCH,
        "error: patch-outside-tree\n"
        "  0003-add-evil.patch is refused for toy-cuda\n"
        "  it touches '../outside'\n"
        "  where: patches/toy-cuda/1.0/series, line 3\n"
        "  fix:   correct the patch, or take it out of the series\n",
    )
    assert not list(toy.store.rglob("outside"))


def test_patch_that_makes_a_symlink(toy: Checkout) -> None:
    add_patch(toy, LINK)
    assert refused(toy) == (
        Exit.PATCH,
        "error: patch-makes-link\n"
        "  0003-add-evil.patch is refused for toy-cuda\n"
        "  it makes a symlink: create mode 120000 csrc/link.cuh\n"
        "  where: patches/toy-cuda/1.0/series, line 3\n"
        "  fix:   correct the patch, or take it out of the series\n",
    )


def test_no_compiler(toy: Checkout, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("git", "uv"):
        found = shutil.which(name, path=toy.environment["PATH"])
        assert found
        (tmp_path / "bin" / name).symlink_to(found)
    toy.variables["PATH"] = str(tmp_path / "bin")
    assert refused(toy) == (
        Exit.MACHINE,
        "error: no-compiler\n"
        "  there is no C++ compiler 'g++' on PATH\n"
        "  where: PATH\n"
        "  fix:   apt-get install g++ (Debian, Ubuntu) or dnf install gcc-c++ (Fedora, RHEL)\n",
    )


@pytest.mark.toolchain
def test_nvcc_of_another_version_in_a_host_stack(toy: Checkout, cuda_home: Path) -> None:
    host = '[toolchain]\nsource = "host"\ncuda = "12.8"\nnvcc = ""\nrequirements = []\n\n'
    toy.edit(toy.toml, "[projects.toy-cuda]", f"{host}[projects.toy-cuda]")
    toy.variables["BLACKWHEEL_CUDA_HOME"] = str(cuda_home)
    assert refused(toy) == (
        Exit.MACHINE,
        "error: wrong-nvcc\n"
        "  the stack wants nvcc 12.8\n"
        f"  {cuda_home} has nvcc 13.0.88\n"
        f"  where: {cuda_home}\n"
        "  fix:   install CUDA toolkit 12.8, and name it:"
        " export BLACKWHEEL_CUDA_HOME=/usr/local/cuda-12.8\n"
        "  note:  this machine can build: invoke build-wheels --stack quickstart,"
        " invoke build-wheels --stack stable\n",
    )


@pytest.mark.skipif(bool(FORBIDDEN), reason=f"a small disk needs namespaces: {FORBIDDEN}")
def test_disk_too_small_is_refused_before_anything_is_fetched(toy: Checkout) -> None:
    shutil.rmtree(toy.store)
    toy.store.mkdir()
    mount = f"mount -t tmpfs -o size=64m none {shlex.quote(str(toy.store))}"
    invoke = shlex.join([sys.executable, "-m", "invoke", *BUILD])
    kept = f"ls -A {shlex.quote(str(toy.store))}"
    script = f"{mount} && {{ {invoke}; code=$?; {kept}; exit $code; }}"
    run = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=toy.root,
        env=toy.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    done = ended(run)
    assert (done.code, done.out) == (Exit.MACHINE, "locks\n")
    error = done.err[done.err.index("error: ") :]
    assert re.sub(r"about \S+ GiB", "about MUCH", error) == (
        "error: disk-too-small\n"
        f"  64 MiB free at {toy.store}, about MUCH wanted\n"
        f"  where: {toy.store}\n"
        "  fix:   invoke clean, or put the store on another disk:"
        " export BLACKWHEEL_HOME=/path\n"
    )
    assert not toy.shelf.exists()


def test_unlocked_nightly_says_how_to_lock_its_torch_and_what_can_be_built_instead(
    toy: Checkout,
) -> None:
    assert refused(toy, "build-wheels", "--stack", "report-2025-10") == (
        Exit.TORCH,
        "error: torch-not-locked\n"
        "  torch 2.10.0.dev20251016+cu128 of stack 'report-2025-10' is not locked:"
        " its wheel's bytes were never seen\n"
        "  where: constraints/report-2025-10.toml, torch.wheels\n"
        "  fix:   invoke pin torch 2.10.0.dev20251016+cu128 --stack report-2025-10\n"
        "  note:  this machine can build: invoke build-wheels --stack quickstart,"
        " invoke build-wheels --stack stable\n",
    )


def test_store_without_an_absolute_path(toy: Checkout) -> None:
    toy.variables["BLACKWHEEL_HOME"] = "store"
    assert refused(toy) == (
        Exit.USAGE,
        "error: relative-home\n"
        "  'store' is no absolute path\n"
        "  where: BLACKWHEEL_HOME or XDG_CACHE_HOME\n"
        f"  fix:   export BLACKWHEEL_HOME={toy.root}/store\n",
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_store_that_cannot_be_written(toy: Checkout) -> None:
    (toy.home / "locked").mkdir(mode=0o500)
    toy.variables["BLACKWHEEL_HOME"] = str(toy.home / "locked" / "store")
    code, error = refused(toy)
    assert code == Exit.MACHINE
    assert error.startswith("error: machine-refused\n  Permission denied\n")


def test_missing_lock_file_names_the_command_that_makes_it(toy: Checkout) -> None:
    name = f"build-toy-cuda-py{VERSION.replace('.', '')}.txt"
    (toy.toml.with_suffix("") / name).unlink()
    assert refused(toy) == (
        Exit.CONFIG,
        "error: no-lock-file\n"
        "  there are no hashed pins of this environment\n"
        f"  where: constraints/toy/{name}\n"
        "  fix:   nox -s lock\n",
    )


def test_nox_fails_on_a_missing_interpreter_and_downloads_none(toy: Checkout) -> None:
    words = ("--stack", "toy", "--python", "3.99")
    done = toy.nox("--session", "build(toy-cuda)", "--", *words)
    assert done.code != 0
    assert "Session build(toy-cuda) failed: Python interpreter 3.99 not found" in done.said
    assert not list(toy.store.glob("nox/*/*/bin"))
