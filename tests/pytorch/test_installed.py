"""The torch of another interpreter: real virtual environments around a toy torch."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from uv import find_uv_bin

from blackwheel.commands import session
from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pins import stack_file
from blackwheel.pipeline import session_file
from blackwheel.pipeline.session_file import SmokeGroup, SmokeOrder
from blackwheel.pytorch import identity, installed
from blackwheel.shelf import verify_receipt
from blackwheel.sources.series import Series, patch_digests
from blackwheel.stacks import key as keys
from blackwheel.stacks import loader
from blackwheel.stacks.records import Stack
from blackwheel.stacks.request import Request, label

CONSTRAINTS = Path(__file__).parents[2] / "constraints"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
PYTHON = f"3.{sys.version_info.minor}"
TELL = """
import json, sys
import torch, needed, nvidia.mine
from importlib.metadata import version
try:
    import other
except ImportError:
    other = None
try:
    import nvidia.others
except ImportError:
    pass
print(json.dumps([version("torch"), needed.WHERE, other is None, "nvidia.others" in sys.modules]))
"""


def environment_at(place: Path) -> Path:
    argv = [find_uv_bin(), "venv", "--quiet", "--offline", "--python", sys.executable, str(place)]
    subprocess.run(argv, check=True)
    return next(place.glob("lib/python3*/site-packages"))


def distribution(packages: Path, name: str, files: dict[str, str], *requires: str) -> None:
    """Lay files as an installer does, with a RECORD."""
    info = f"{name}-2.11.0.dist-info"
    head = "".join(f"Requires-Dist: {one}\n" for one in requires)
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: 2.11.0\n{head}\n"
    rows = []
    for path, text in {**files, f"{info}/METADATA": metadata}.items():
        (packages / path).parent.mkdir(parents=True, exist_ok=True)
        (packages / path).write_text(text, encoding="utf-8")
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        rows.append(f"{path},sha256={digest.rstrip('=')},{len(text)}\n")
    record = packages / info / "RECORD"
    record.write_text("".join([*rows, f"{info}/RECORD,,\n"]), encoding="utf-8")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with a torch, two packages that it requires, and two that it does not."""
    place = tmp_path_factory.mktemp("vendor") / "venv"
    packages = environment_at(place)
    version = f"__version__ = '2.11.0+cu130'\ncuda: str = '13.0'\ngit_version = '{'7' * 40}'\n"
    torch = {
        "torch/__init__.py": "",
        "torch/version.py": version,
        "torch/lib/libc10.so": "c10",
        "torch/lib/libtorch_cpu.so": "cpu",
    }
    wants = ("needed; python_version >= '3'", "mine[more]", "absent; python_version < '3'")
    distribution(packages, "torch", torch, *wants)
    distribution(packages, "needed", {"needed.py": "WHERE = 'vendor'"}, "torch")
    distribution(packages, "mine", {"nvidia/readme": ""}, "deep; extra == 'more'")
    distribution(packages, "deep", {"nvidia/mine/__init__.py": ""})
    distribution(packages, "other", {"other.py": "", "nvidia/others/__init__.py": ""})
    (packages / "left-1.0.dist-info").mkdir()
    (packages / "left-1.0.dist-info" / "METADATA").write_text("", encoding="utf-8")
    return place / "bin" / "python"


@pytest.fixture
def stack(python: Path, tmp_path: Path) -> Stack:
    """A stack that is locked at this torch."""
    seen = installed.identity(installed.find(python, ENVIRONMENT), store=tmp_path / "store")
    base = loader.load("torch211-quick", CONSTRAINTS)
    torch = replace(
        base.torch,
        source="installed",
        git_version=seen.git_version,
        libraries={one.name: one.sha256 for one in seen.libraries},
    )
    return replace(base, name="mine", torch=torch)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "mine" / "build-flash-attn-py312.txt"
    path.parent.mkdir()
    path.write_text("einops==0.8.2 \\\n    --hash=sha256:" + "a" * 64 + "\n", encoding="utf-8")
    return path


BENCH = """
import json
import torch.version as torch
launch = {"import": 1.0, "first": 0.1, "jit_cache_bytes": 0}
head = {"device": "GPU", "capability": "9.0", "matrix_tflops": 700.0, "wheel": "2.8.3"}
print(json.dumps({**head, "torch": torch.__version__, "launch": launch, "cases": []}))
"""


def bench(site: Site, order: Path, environment: Path) -> None:
    words = ["bench", "attention", "--environment", str(environment), "--order", str(order)]
    session._act(site, session._parser().parse_args(words))


def test_bench_measures_beside_the_torch_of_the_interpreter(
    python: Path, stack: Stack, tmp_path: Path
) -> None:
    packages = environment_at(tmp_path / "env")
    distribution(packages, "toy_attn", {"toy_attn.py": ""})
    (tmp_path / "patches" / "toy-attn").mkdir(parents=True)
    (tmp_path / "patches" / "toy-attn" / "bench.py").write_text(BENCH, encoding="utf-8")
    console = Quiet()
    site = Site(
        checkout=tmp_path, store=tmp_path / "store", environment=ENVIRONMENT, console=console
    )
    group = SmokeGroup(
        stack="mine", python=PYTHON, where=str(python), here=True, wheels=(), locks=()
    )
    order = tmp_path / "order.json"
    asked = SmokeOrder(stack="mine", python=str(python), groups=(group,), stacks={"mine": stack})
    session_file.write(order, asked)
    bench(site, order, tmp_path / "env")
    assert "GPU (9.0), torch 2.11.0+cu130, 700.0 TFLOP/s" in console.results
    # The same environment under a stack whose torch is a wheel: no link of before is left.
    registry = replace(stack, torch=replace(stack.torch, source="registry", libraries={}))
    session_file.write(order, replace(asked, stacks={"mine": registry}))
    with pytest.raises(BlackwheelError, match="No module named 'torch'"):
        bench(site, order, tmp_path / "env")


def refusal(python: Path, stack: Stack, lock: Path) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        installed.require(
            python, stack, lock, store=lock.parents[1] / "store", environment=ENVIRONMENT
        )
    return caught.value


def test_environment_sees_that_torch_what_it_requires_and_nothing_else(
    python: Path, tmp_path: Path
) -> None:
    packages = environment_at(tmp_path / "env")
    found = installed.find(python, ENVIRONMENT)
    assert [one["name"] for one in found.section()] == [
        *("torch==2.11.0", "needed==2.11.0", "mine==2.11.0", "deep==2.11.0"),
    ]
    installed.lay(found, tmp_path / "env")
    argv = [str(tmp_path / "env" / "bin" / "python"), "-I", "-c", TELL]
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert told.strip() == '["2.11.0", "vendor", true, false]'
    seen = identity.seen(identity.site_packages(tmp_path / "env"))
    assert seen == installed.identity(found, store=tmp_path / "store")
    distribution(packages, "needed", {"needed.py": "WHERE = 'own'"})
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert '"own"' in told, "what the environment's own lock holds comes first"


def test_package_that_would_hide_what_torch_requires_is_refused(tmp_path: Path) -> None:
    vendor = environment_at(tmp_path / "vendor")
    markers = ("needed<2", "old<2; python_version < '3'", "elsewhere<2")
    distribution(vendor, "torch", {"torch/__init__.py": ""}, *markers)
    found = installed.find(tmp_path / "vendor" / "bin" / "python", ENVIRONMENT)
    own = environment_at(tmp_path / "env")
    distribution(own, "old", {"old.py": ""})
    installed.require_fit(found, tmp_path / "env")
    distribution(own, "needed", {"needed.py": ""})
    with pytest.raises(BlackwheelError) as caught:
        installed.require_fit(found, tmp_path / "env")
    assert str(caught.value) == (
        "error: not-for-this-torch\n"
        "  the hashed pins bring packages that hide those of torch\n"
        "  needed 2.11.0 is there, torch 2.11.0 requires needed<2\n"
        f"  where: {tmp_path}/env\n"
        "  fix:   name that version in the project's `runtime` or `requirements`, then: nox -s lock"
    )


def test_installer_that_tidies_up_the_environment_leaves_the_interpreter_alone(
    python: Path, tmp_path: Path
) -> None:
    environment_at(tmp_path / "env")
    installed.lay(installed.find(python, ENVIRONMENT), tmp_path / "env")
    (tmp_path / "none.txt").write_text("", encoding="utf-8")
    own = str(tmp_path / "env" / "bin" / "python")
    sync = ["pip", "sync", "--allow-empty-requirements", "--offline", "--python", own]
    subprocess.run([find_uv_bin(), *sync, str(tmp_path / "none.txt")], check=True)
    subprocess.run([find_uv_bin(), "pip", "uninstall", "--python", own, "torch"], check=False)
    installed.clear(tmp_path / "env")
    assert subprocess.run([str(python), "-c", "import torch"], check=False).returncode == 0
    assert subprocess.run([own, "-c", "import torch"], check=False).returncode == 1


def test_locked_torch_passes(python: Path, stack: Stack, lock: Path) -> None:
    store = lock.parents[1] / "store"
    installed.require(python, stack, lock, store=store, environment=ENVIRONMENT)


def test_other_bytes_of_a_library_are_another_torch(python: Path, stack: Stack, lock: Path) -> None:
    wanted = {**stack.torch.libraries, "torch/lib/libc10.so": "f" * 64}
    other = replace(stack, torch=replace(stack.torch, libraries=wanted))
    folder = python.parents[1] / "lib" / f"python{PYTHON}" / "site-packages"
    assert str(refusal(python, other, lock)) == (
        "error: other-torch\n"
        "  the torch found is not the pinned one\n"
        f"  torch/lib/libc10.so: sha256 {hashlib.sha256(b'c10').hexdigest()} instead of"
        f" {'f' * 64}\n"
        f"  where: {folder}\n"
        "  fix:   --python PATH of an interpreter that has it, or move the pin:\n"
        f"         invoke pin torch installed --python '{python}' --stack mine"
    )


def test_lock_that_installs_a_torch_is_refused(python: Path, stack: Stack, lock: Path) -> None:
    lock.write_text("torch==2.11.0 --hash=sha256:" + "b" * 64 + "\n", encoding="utf-8")
    error = refusal(python, stack, lock)
    assert error.code == Exit.CONFIG
    assert str(error) == (
        "error: lock-brings-torch\n"
        "  stack 'mine' takes the torch that is installed, and these hashed pins install one\n"
        "  where: constraints/mine/build-flash-attn-py312.txt\n"
        '  fix:   locks = "mine" in the stack file, then: nox -s lock -- mine'
    )


def test_interpreter_without_torch_is_named(stack: Stack, lock: Path, tmp_path: Path) -> None:
    environment_at(tmp_path / "bare")
    bare = tmp_path / "bare" / "bin" / "python"
    assert str(refusal(bare, stack, lock)) == (
        "error: torch-not-installed\n"
        "  this interpreter has no torch, and the stack takes the one that is installed\n"
        f"  where: {bare}\n"
        "  fix:   name the interpreter that has it: --python PATH"
    )


def test_unlocked_stack_says_what_locks_it(stack: Stack) -> None:
    with pytest.raises(BlackwheelError) as caught:
        identity.require_locked(replace(stack, torch=replace(stack.torch, libraries={})))
    assert str(caught.value) == (
        "error: torch-not-locked\n"
        "  stack 'mine' takes the torch that is installed, and its bytes were never looked at\n"
        "  where: constraints/mine.toml, torch.libraries\n"
        "  fix:   invoke pin torch installed --python PATH --stack mine"
    )


def test_label_says_installed_and_the_requirement_is_exact(stack: Stack) -> None:
    pin = replace(stack.projects["flash-attn"], revision=7)
    assert label(stack, pin, stack.archs) == "cu130torch2.11.0.sm120a.quick.installed.7"
    assert stack.torch.requirement == "torch===2.11.0"
    vendor = replace(stack.torch, version="2.9.0a0+1f.nv25.10", runtime="2.9.0a0+1f.nv25.10")
    assert (vendor.label, vendor.requirement) == ("cu130torch2.9.0a0", f"torch=={vendor.version}")


def test_label_of_a_wheel_that_links_no_torch_names_the_cuda_alone(stack: Stack) -> None:
    pin = replace(stack.projects["flash-attn"], links_torch=False)
    assert label(stack, pin, stack.archs) == "cu130.sm120a.quick.3"
    host = replace(stack, toolchain=replace(stack.toolchain, source="host", cuda="12.8"))
    assert label(host, pin, stack.archs) == "cu128.sm120a.quick.3"


def test_receipt_with_other_libraries_than_the_keys_is_found() -> None:
    parts = {f"torch.{name}": "null" for name in verify_receipt._TORCH}
    parts |= {"torch.wheel": "null", "torch.libraries": '{"torch/lib/libc10.so": "aa"}'}
    torch = dict.fromkeys(verify_receipt._TORCH, "")
    seen = {"name": "torch/lib/libc10.so", "digest": {"sha256": "bb"}}
    (check,) = verify_receipt.torch_checks({**torch, "libraries": [seen]}, parts)
    assert (check.ok, check.found, check.expected) == (False, "bb", "aa")


def test_pin_of_what_is_installed_is_written_with_its_comments(stack: Stack) -> None:
    text = (
        'extends = "torch211-quick"\n\n[torch] # theirs\nsource = "installed" # why\n\n'
        '[toolchain]\nsource = "host"\n'
    )
    after = stack_file.edited(text, stack.torch)
    digest = hashlib.sha256(b"cpu").hexdigest()
    assert "[torch] # theirs\n" in after
    assert 'source = "installed" # why\nversion = "2.11.0"\n' in after
    assert f'"torch/lib/libtorch_cpu.so" = "{digest}"\n\n[toolchain]\n' in after
    assert stack_file.edited(after, stack.torch) == after


def test_key_holds_the_libraries_of_a_torch_that_is_installed_and_of_no_other(
    stack: Stack, tmp_path: Path
) -> None:
    """Else every wheel that was built before would be stale."""
    none = Series(folder=tmp_path, patches=())
    for one in (stack, loader.load("torch211-quick", CONSTRAINTS)):
        request = Request(stack=one, project="flash-attn", python="3.12", archs=one.archs)
        key = keys.key(
            request, patches=patch_digests(none), constraints=CONSTRAINTS, isolation="namespaces"
        )
        assert ("torch.libraries" in dict(key.parts)) == (one is stack)
