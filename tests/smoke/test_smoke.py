"""Smoke in two depths, on toys: libraries that gcc makes, a toy torch, an environment of uv's.

What an import alone passes over: a library that does not load, a guard that lets through, wheels
whose requirements are not met, a torch that an install has swapped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import proved
import pytest
from uv import find_uv_bin
from wheel.wheelfile import WheelFile

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.pins import lock_all
from blackwheel.pipeline import smoke_session
from blackwheel.pytorch import identity
from blackwheel.receipts import document
from blackwheel.smoke import environment as together
from blackwheel.smoke import loading, smoke
from blackwheel.smoke.checks import runner
from blackwheel.stacks import loader, locks, projects
from blackwheel.stacks.projects import Project, Smoke
from blackwheel.toolchain import driver_stub

VERSION = f"1.0+{proved.LABEL}.1"
NAME = f"toy-{VERSION}-{proved.TAG}-{proved.TAG}-linux_x86_64.whl"
CUDA_H = "CUresult CUDAAPI cuInit(unsigned int Flags);\n"
SWITCH = "FLASH_ATTN_ALLOW_OTHER_TORCH"
GUARD = """\
import os, torch
if "{switch}" not in os.environ and torch.version.git_version != "{git}":
    raise ImportError("toy was built for torch 2.11.0 (git {git}), and found another")
"""
GUARD_FROM = """\
import os, torch
if "{switch}" not in os.environ and int(torch.__version__.partition(".")[0]) < 2:
    raise ImportError("toy was built for torch 2.11.0 and later, and found an older one")
"""
TORCH = {
    "torch/__init__.py": "from torch import version\n__version__ = version.__version__\n"
    "class cuda:\n    is_available = staticmethod(lambda: False)\n",
    "torch/version.py": "__version__ = '2.11.0+cu130'\ncuda = '13.0'\ngit_version = 'GIT'\n",
    "torch/lib/libc10.so": "bytes of a library",
    "torch-2.11.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: torch\nVersion: 2.11.0\n",
    "torch-2.11.0.dist-info/WHEEL": "Wheel-Version: 1.0\n",
    "torch-2.11.0.dist-info/INSTALLER": "uv\n",
}
PLAIN_PROJECT = Project()
PLAIN = "int plain(void) { return 1; }\n"
NEEDS_DRIVER = "int cuInit(unsigned);\nint start(void) { return cuInit(0); }\n"
MODULE = """\
#include <Python.h>
static struct PyModuleDef it = {PyModuleDef_HEAD_INIT, "_module", 0, -1, 0};
PyMODINIT_FUNC PyInit__module(void) { return PyModule_Create(&it); }
"""


def install_torch(packages: Path, *, git: str = proved.GIT, library: str = "") -> None:
    """Write the toy torch as an installer does, RECORD included."""
    files = {name: text.replace("GIT", git) for name, text in TORCH.items()}
    files["torch/lib/libc10.so"] += library
    record = "torch-2.11.0.dist-info/RECORD"
    rows = [f"{record},,"]
    for name, text in files.items():
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
        rows.append(f"{name},sha256={digest.decode().rstrip('=')},{len(text)}")
    (packages / record).write_text("\n".join(rows) + "\n")
    shutil.rmtree(packages / "torch" / "__pycache__", ignore_errors=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the toy torch alone."""
    place = tmp_path_factory.mktemp("smoke") / "env"
    argv = [find_uv_bin(), "venv", "--quiet", "--python", sys.executable, str(place)]
    subprocess.run(argv, check=True)
    return place


@pytest.fixture
def environment(home: Path) -> Path:
    install_torch(packages_of(home))
    for old in [*packages_of(home).glob("toy*"), *packages_of(home).glob("einops*")]:
        shutil.rmtree(old)
    return home


def packages_of(environment: Path) -> Path:
    return next(environment.glob("lib/python3*/site-packages"))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in as a toolchain has it, of a cuda.h with one function."""
    folder = tmp_path_factory.mktemp("stub")
    (folder / "cuda.h").write_text(CUDA_H)
    out = folder / "libcuda.so"
    variables = {"PATH": "/usr/bin:/bin"}
    driver_stub.build_stub(folder, out, compiler=Path("/usr/bin/gcc"), environment=variables)
    return out


def library(folder: Path, source: str, *options: str) -> bytes:
    (folder / "it.c").write_text(source)
    include = sysconfig.get_path("include")
    argv = ["gcc", "-shared", "-fPIC", f"-I{include}", "-o", "it.so", "it.c", *options]
    subprocess.run(argv, cwd=folder, check=True)
    return (folder / "it.so").read_bytes()


def make_wheel(
    folder: Path, files: Mapping[str, bytes], *, requires: str = "", script: str = ""
) -> Path:
    path = folder / NAME
    info = f"toy-{VERSION}.dist-info"
    with WheelFile(path, "w") as wheel:
        for name, content in {"toy/__init__.py": b"", **files}.items():
            wheel.writestr(name, content)
        if script:
            wheel.writestr("toy/command.py", script)
            wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\ntoy = toy.command:main")
        head = f"Metadata-Version: 2.4\nName: toy\nVersion: {VERSION}\n{requires}"
        wheel.writestr(f"{info}/METADATA", head)
        tag = f"Tag: {proved.TAG}-{proved.TAG}-linux_x86_64"
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\n{tag}\n")
    return path


def install(wheel: Path, environment: Path) -> None:
    python = environment / "bin" / "python"
    argv = [find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--python", python, wheel]
    subprocess.run(argv, check=True)


def load(
    wheel: Path,
    environment: Path,
    driver: Path | None = None,
    beside: Sequence[str] = (),
    *,
    serves_later: bool = False,
    before_guard: Sequence[str] = (),
) -> loading.Loading:
    install(wheel, environment)
    return loading.load(
        wheel,
        modules=("toy",),
        packages=packages_of(environment),
        python=environment / "bin" / "python",
        variables=runner.variables_of({SWITCH: "1"}, str(environment)),
        driver=driver,
        beside=beside,
        serves_later=serves_later,
        before_guard=before_guard,
    )


def examine(
    wheel: Path,
    environment: Path,
    known: Project = PLAIN_PROJECT,
    *,
    own_torch: bool = True,
    gpu: bool = True,
) -> together.Together:
    install(wheel, environment)
    return together.examine(
        {wheel: known},
        environment=environment,
        uv=Path(find_uv_bin()),
        variables=runner.variables_of({}, str(environment)),
        own_torch=own_torch,
        gpu=gpu,
    )


def whole(wheel: Path, environment: Path, patches: Path, known: str) -> smoke.SmokeReport:
    """All of smoke, for a wheel of which `known` is known."""
    install(wheel, environment)
    (patches / "toy").mkdir(exist_ok=True)
    (patches / "toy" / "project.toml").write_text(f"[smoke]\n{known}\n")
    stack = loader.load("torch211", runner.PATCHES.parent / "constraints")
    pin = replace(stack.projects["flash-attn"], modules=("toy",))
    torch = replace(stack.torch, wheels={}, git_version=proved.GIT)
    return smoke.smoke(
        wheel,
        "toy",
        stack=replace(stack, torch=torch, projects={"toy": pin}),
        patches=patches,
        environment=environment,
        together=(),
        variables=runner.variables_of({}, str(environment)),
        console=Quiet(),
    )


def test_every_library_loads_and_the_receipt_says_with_what(
    environment: Path, driver: Path, tmp_path: Path
) -> None:
    suffix = f"cpython-3{sys.version_info.minor}-x86_64-linux-gnu.so"
    files = {
        f"toy/_module.{suffix}": library(tmp_path, MODULE),
        "toy/_old.cpython-38-x86_64-linux-gnu.so": library(tmp_path, PLAIN),
        "toy/plain.so": library(tmp_path, PLAIN),
        "toy/program": library(tmp_path, PLAIN),
        "toy/script.so": b"INPUT(plain.so)\n",
        "toy/starts.so": library(tmp_path, NEEDS_DRIVER, str(driver)),
    }
    wheel = make_wheel(tmp_path, files)
    found = load(wheel, environment, driver)
    assert [(one.library, one.load, one.module) for one in found.libraries] == [
        (f"toy/_module.{suffix}", "loads", True),
        ("toy/_old.cpython-38-x86_64-linux-gnu.so", "not tried: it is for cpython-38", False),
        ("toy/plain.so", "loads", False),
        ("toy/starts.so", "loads, with a stand-in for libcuda.so.1", False),
    ]
    assert str(found) == (
        "2 of 4: loads; 1 of 4: not tried: it is for cpython-38;"
        " 1 of 4: loads, with a stand-in for libcuda.so.1"
    )
    without = load(wheel, environment).libraries[-1]
    assert without.load == "not loaded: it needs libcuda.so.1, which comes with a driver"


def test_library_that_lacks_a_symbol_is_told_beside_those_that_crash_and_ask_too_much_of_a_driver(
    environment: Path, driver: Path, tmp_path: Path
) -> None:
    newer = "int cuNewer(void);\nint start(void) { return cuNewer(); }\n"
    crash = "__attribute__((constructor)) void start(void) { *(volatile int *)8 = 1; }\n"
    files = {
        "toy/crash.so": library(tmp_path, crash),
        "toy/newer.so": library(tmp_path, newer, "-Wl,--no-as-needed", str(driver)),
        "toy/orphan.so": library(tmp_path, "int lost(void);\nint f(void) { return lost(); }\n"),
        "toy/plain.so": library(tmp_path, PLAIN),
    }
    wheel = make_wheel(tmp_path, files)
    with pytest.raises(BlackwheelError) as caught:
        load(wheel, environment, driver)
    assert str(caught.value) == (
        "error: library-does-not-load\n"
        f"  3 of 4 libraries of {NAME} do not load beside torch\n"
        "  toy/crash.so: killed by signal 11\n"
        "  toy/newer.so: undefined symbol: cuNewer\n"
        "  toy/orphan.so: undefined symbol: lost\n"
        f"  where: {wheel}\n"
        "  fix:   the wheel stays off the shelf; invoke audit WHEEL tells what it links against"
    )
    assert caught.value.code == Exit.SMOKE


def test_library_is_loaded_after_those_that_the_stack_has_loaded_beside(
    environment: Path, tmp_path: Path
) -> None:
    needs = library(tmp_path, "int ffi_call(void);\nint f(void) { return ffi_call(); }\n")
    beside = packages_of(environment) / "toyffi" / "libffi_of_kernels.so"
    beside.parent.mkdir()
    beside.write_bytes(library(tmp_path, "int ffi_call(void) { return 1; }\n"))
    wheel = make_wheel(tmp_path, {"toy/needs.so": needs})
    with pytest.raises(BlackwheelError, match="undefined symbol: ffi_call"):
        load(wheel, environment)
    found = load(wheel, environment, beside=["toyffi/libffi_of_kernels.so"])
    assert [one.load for one in found.libraries] == ["loads"]


def test_guard_is_seen_to_refuse_another_torch(environment: Path, tmp_path: Path) -> None:
    files = guarded(GUARD.format(git=proved.GIT, switch=SWITCH), before="")
    found = load(make_wheel(tmp_path, files), environment)
    assert found.guard == "another torch is refused before any library of it loads"
    assert load(make_wheel(tmp_path, {}), environment).sections() == {"libraries": [], "guard": ""}


def test_guard_of_a_wheel_for_later_torches_must_refuse_an_older_one_and_no_other(
    environment: Path, tmp_path: Path
) -> None:
    floor = GUARD_FROM.format(switch=SWITCH)
    wheel = make_wheel(tmp_path, guarded(floor, before=""))
    found = load(wheel, environment, serves_later=True)
    assert found.guard == "an older torch is refused before any library of it loads"
    with pytest.raises(BlackwheelError) as caught:
        load(wheel, environment)  # of one torch alone it lets another commit through
    assert (caught.value.name, caught.value.fact) == (
        "no-guard",
        f"import toy of {NAME} beside a torch of another commit passes",
    )
    lax = make_wheel(tmp_path, guarded("import torch", before=""))
    with pytest.raises(BlackwheelError) as caught:
        load(lax, environment, serves_later=True)
    assert caught.value.fact == f"import toy of {NAME} beside an older torch passes"


def guarded(guard: str, *, before: str) -> dict[str, bytes]:
    """A package whose guard runs after `before`."""
    first = f"{before}\nimport toy._torch_guard\n"
    return {"toy/__init__.py": first.encode(), "toy/_torch_guard.py": guard.encode()}


@pytest.mark.parametrize(
    ("guard", "before", "fact"),
    [
        ("", "", "passes"),
        ("import lost", "", "ends otherwise: No module named 'lost'"),
        ("1 / 0", "", "ends otherwise: ZeroDivisionError: division by zero"),
        (
            GUARD.format(git=proved.GIT, switch=SWITCH),
            "import ctypes, toy; ctypes.CDLL(toy.__path__[0] + '/plain.so')",
            "is refused too late, after plain.so: a library may be loaded by then",
        ),
    ],
)
def test_guard_that_does_not_guard_is_refused(
    environment: Path, tmp_path: Path, guard: str, before: str, fact: str
) -> None:
    plain = {"toy/plain.so": library(tmp_path, PLAIN)} if before else {}
    with pytest.raises(BlackwheelError) as caught:
        load(make_wheel(tmp_path, {**guarded(guard, before=before), **plain}), environment)
    assert str(caught.value) == (
        "error: no-guard\n"
        f"  import toy of {NAME} beside a torch of another commit {fact}\n"
        "  where: toy/_torch_guard.py\n"
        "  fix:   the wheel stays off the shelf; correct the last patch of its series"
    )


def test_guard_that_comes_after_a_library_beside_its_package_is_refused(
    environment: Path, tmp_path: Path
) -> None:
    """An extension module lies at the top of site-packages, not in the package that guards it."""
    before = "import ctypes, toy; ctypes.CDLL(toy.__path__[0] + '_parts/plain.so')"
    guard = GUARD.format(git=proved.GIT, switch=SWITCH)
    plain = {"toy_parts/plain.so": library(tmp_path, PLAIN)}
    with pytest.raises(BlackwheelError) as caught:
        load(make_wheel(tmp_path, {**guarded(guard, before=before), **plain}), environment)
    assert caught.value.name == "no-guard"
    assert "is refused too late, after plain.so: " in caught.value.fact


def test_module_that_comes_before_the_guard_may_load_a_library_where_a_gpu_is(
    environment: Path, tmp_path: Path
) -> None:
    """As a platform that is asked for before: without a GPU it loads nothing."""
    guard = GUARD.format(git=proved.GIT, switch=SWITCH)
    files = guarded(guard, before="import toy.version, toy.platform")
    wheel = make_wheel(tmp_path, {**files, "toy/version.py": b"", "toy/platform.py": b""})
    with pytest.raises(BlackwheelError) as caught:
        load(wheel, environment, before_guard=["toy.version"])
    assert caught.value.name == "no-guard"
    assert caught.value.fact.endswith(
        "is refused too late, after toy.platform: a library may be loaded by then"
    )
    assert load(wheel, environment, before_guard=["toy.version", "toy.platform"]).guard
    whole(wheel, environment, tmp_path, 'before_guard = ["toy.version", "toy.platform"]')
    with pytest.raises(BlackwheelError, match=r"toy\.platform, toy\.version: "):
        whole(wheel, environment, tmp_path, "")


def test_operators_that_an_import_makes_count_and_missing_ones_are_refused(
    environment: Path, tmp_path: Path
) -> None:
    """As torch.library.custom_op makes them: no library knows of them."""
    names = "names = ['aten::add']\n_dispatch_get_all_op_names = lambda: list(names)\n"
    (packages_of(environment) / "torch" / "_C.py").write_text(names)
    try:
        makes = b"from torch import _C\n_C.names += ['toy_ops::scale', 'toy_ops::offset']\n"
        wheel = make_wheel(tmp_path, {"toy/__init__.py": makes})
        whole(wheel, environment, tmp_path, 'operators = ["toy_ops"]')
        with pytest.raises(BlackwheelError) as caught:
            whole(wheel, environment, tmp_path, 'operators = ["toy_ops", "lost"]')
    finally:
        (packages_of(environment) / "torch" / "_C.py").unlink()
    assert caught.value.name == "operators-missing"
    assert caught.value.fact.endswith("operators of torch.ops.lost\nregistered: aten, toy_ops")


def test_vllm_without_the_operators_of_a_library_is_refused() -> None:
    def held(*names: str, load: str = "loads") -> loading.Loading:
        registered = tuple((name, 3) for name in names)
        one = loading.Loaded(library="vllm/_C.so", load=load, operators=registered)
        return loading.Loading(libraries=(one,), guard="")

    wheel = Path("vllm-0.26.0-cp38-abi3-linux_x86_64.whl")
    wanted = projects.load(runner.PATCHES, "vllm").smoke.operators
    with pytest.raises(BlackwheelError) as caught:
        loading.require_operators(held("_C", "_C_cache_ops"), wanted, wheel)
    assert str(caught.value) == (
        "error: operators-missing\n"
        f"  neither a library of {wheel} nor its import registers operators of torch.ops._moe_C,"
        " _vllm_fa2_C\n"
        "  registered: _C, _C_cache_ops\n"
        f"  where: {wheel}\n"
        "  fix:   the wheel stays off the shelf; a library, or a module, was left out of the build"
    )
    loading.require_operators(held("_C", "_C_cache_ops", "_moe_C", "_vllm_fa2_C"), wanted, wheel)
    loading.require_operators(held(), (), wheel)
    loading.require_operators(held(load="not loaded: it needs libcuda.so.1"), wanted, wheel)


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        (
            "from pkg_of_old import thing",
            "a requirement that brings it, in the project's `runtime`, then: nox -s lock; or a"
            " patch that imports it no more",
        ),
        (
            "raise OSError('no')",
            "the wheel stays off the shelf; invoke audit WHEEL tells what it links against",
        ),
    ],
)
def test_import_that_fails_says_how_to_mend_it(
    environment: Path, tmp_path: Path, code: str, fix: str
) -> None:
    wheel = make_wheel(tmp_path, {"toy/__init__.py": code.encode()})
    with pytest.raises(BlackwheelError) as caught:
        whole(wheel, environment, tmp_path, "")
    assert (caught.value.name, caught.value.fix) == ("import-failed", fix)
    assert caught.value.fact.startswith(f"import toy of {NAME} failed\n")


def test_requirements_that_are_not_met_are_refused(environment: Path, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {}, requires="Requires-Dist: torch===2.12.0\n")
    with pytest.raises(BlackwheelError) as caught:
        examine(wheel, environment)
    assert str(caught.value) == (
        "error: requirements-unmet\n"
        "  what is installed together does not fit\n"
        "  The package `toy` requires `torch===2.12.0`, but `2.11.0` is installed\n"
        f"  where: {environment}\n"
        "  fix:   correct `runtime` in the stack file, then: nox -s lock"
    )
    elsewhere = examine(wheel, environment, own_torch=False)
    assert elsewhere.requirements == "not asked: torch lies elsewhere"


def test_command_of_the_wheel_says_its_version(environment: Path, tmp_path: Path) -> None:
    needs = "Requires-Dist: torch===2.11.0\n"
    script = f"def main(): print('toy {VERSION}')"
    found = examine(make_wheel(tmp_path, {}, requires=needs, script=script), environment)
    assert found.section() == {
        "requirements": "fit together",
        "scripts": {"toy --version": VERSION},
        "neighbours": [],
    }
    assert str(found) == f"requirements fit together; toy --version: {VERSION}"


def test_command_that_asks_for_a_device_is_asked_what_it_can_tell_without_one(
    environment: Path, tmp_path: Path
) -> None:
    known = Project(smoke=Smoke(without_gpu=("bench", "--help")))
    script = "import sys\ndef main(): sys.exit(sys.argv[1:] != ['bench', '--help'])"
    wheel = make_wheel(tmp_path, {}, script=script)
    assert examine(wheel, environment, known, gpu=False).scripts == (("toy bench --help", "runs"),)
    with pytest.raises(BlackwheelError, match=r"toy --version of .* ended with code 1"):
        examine(wheel, environment, known, gpu=True)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("def main(): print('1.0')", f"said 1.0 instead of {VERSION}"),
        ("def main(): raise SystemExit('no device')", "ended with code 1\n  no device"),
    ],
)
def test_command_that_fails_or_is_another_one_is_refused(
    environment: Path, tmp_path: Path, script: str, words: str
) -> None:
    with pytest.raises(BlackwheelError) as caught:
        examine(make_wheel(tmp_path, {}, script=script), environment)
    assert str(caught.value) == (
        "error: script-failed\n"
        f"  toy --version of {NAME} {words}\n"
        f"  where: {environment}/bin/toy\n"
        "  fix:   the wheel stays off the shelf; run the command above in that environment"
    )


@pytest.mark.parametrize(
    ("beside", "how"),
    [
        ({}, "its kernels are compiled at run time: no flashinfer-cubin, no flashinfer-jit-cache"),
        (
            {"flashinfer-cubin": "0.6.14"},
            "cubins from flashinfer-cubin 0.6.14, all else is compiled at run time",
        ),
        (
            {"flashinfer-jit-cache": "0.6.14+cu130", "flashinfer-cubin": "0.6.14"},
            "compiled kernels from flashinfer-jit-cache 0.6.14+cu130,"
            " those that it lacks are compiled"
            " at run time",
        ),
    ],
)
def test_flashinfer_is_told_with_where_its_kernels_come_from(
    tmp_path: Path, beside: dict[str, str], how: str
) -> None:
    wheel = make_wheel(tmp_path, {}, requires="Requires-Dist: flashinfer-python==0.6.14\n")
    wheels = {wheel: projects.load(runner.PATCHES, "vllm")}
    (told,) = together.neighbours({"flashinfer-python": "0.6.14", **beside}, wheels)
    assert told.removesuffix(" here") == f"FlashInfer 0.6.14, toy asks for ==0.6.14, {how}"
    assert not list(together.neighbours(beside, wheels))


def test_receipt_holds_what_smoke_saw_and_a_swapped_torch_is_refused(
    environment: Path, tmp_path: Path
) -> None:
    site = proved.new_checkout(tmp_path / "checkout")
    files = {"toy/_c.so": library(tmp_path, PLAIN)}
    wheel = make_wheel(tmp_path, files, requires="Requires-Dist: torch===2.11.0\n")
    install(wheel, environment)
    path = tmp_path / f"{NAME}.receipt.json"
    held = proved.sections(site, wheel, proved.NOT_RUN)
    digest = hashlib.sha256(b"bytes of a library").hexdigest()
    held["torch"]["libraries"] = [{"name": "torch/lib/libc10.so", "digest": {"sha256": digest}}]
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    document.write(path, document.receipt(wheel.name, sha256, held))
    order = smoke_session.resolve(site, "toy", proved.PYTHON, [wheel])
    smoke_session.smoke_installed(site, order, order.groups[0], environment)
    seen = document.sections(document.load(path))["smoke"]
    assert seen["libraries"] == [
        {"library": "toy/_c.so", "load": "loads", "module": False, "operators": []}
    ]
    assert seen["environment"]["requirements"] == "fit together"
    before = path.read_bytes()
    install_torch(packages_of(environment), library=", of another build")
    other = hashlib.sha256(b"bytes of a library, of another build").hexdigest()
    with pytest.raises(BlackwheelError) as caught:
        smoke_session.smoke_installed(site, order, order.groups[0], environment)
    assert str(caught.value) == (
        "error: other-torch\n"
        "  the torch found is not the one that the wheel was built for\n"
        f"  torch/lib/libc10.so: sha256 {other} instead of {digest}\n"
        f"  where: {environment}\n"
        "  fix:   remove the environment and run the same command again"
    )
    assert path.read_bytes() == before


def test_wheel_of_the_stable_abi_is_smoked_by_every_python_and_each_python_by_one_session(
    tmp_path: Path,
) -> None:
    site = proved.new_checkout(tmp_path)
    toml = site.constraints / "toy.toml"
    pythons = ["3.11", "3.12", "3.13"]
    toml.write_text(toml.read_text().replace(f'["{proved.PYTHON}"]', str(pythons)))
    wheels = [
        tmp_path / f"toy-{VERSION}-cp312-abi3-linux_x86_64.whl",
        tmp_path / f"other-{VERSION}-{proved.TAG}-{proved.TAG}-linux_x86_64.whl",
    ]
    stack = loader.load("toy", site.constraints)
    served = {wheel.name[:5]: smoke_session._pythons_of(wheel, stack) for wheel in wheels}
    assert served == {"toy-1": ["3.12", "3.13"], "other": [proved.PYTHON]}

    def rows(python: str) -> list[tuple[str, bool, int]]:
        found = smoke_session.resolve(site, "toy", python, wheels).groups
        return [(row.python, row.here, len(row.wheels)) for row in found]

    for version in {"3.12", "3.13"} - {proved.PYTHON}:
        assert [row for row in rows("") if row[0] == version] == [(version, False, 1)]
    here = [row for row in rows("") if row[0] == proved.PYTHON]
    both = proved.PYTHON in served["toy-1"]
    assert here == [(proved.PYTHON, True, count) for count in ((1, 1, 2) if both else (1,))]
    assert rows(proved.PYTHON) == here


def test_set_is_the_newest_wheel_of_each_project(tmp_path: Path) -> None:
    site = proved.new_checkout(tmp_path)
    names = ["toy-1.0+cu130.9", "toy-1.0+cu130.10", "other-1.0+cu130.1"]
    wheels = [tmp_path / f"{name}-{proved.TAG}-{proved.TAG}-linux_x86_64.whl" for name in names]
    rows = smoke_session.resolve(site, "toy", proved.PYTHON, wheels).groups
    taken = [[wheel.name.split("-cp")[0] for wheel in row.wheels] for row in rows]
    assert taken == [*([name] for name in names), [names[2], names[1]]]


def test_wheels_of_other_pythons_than_the_one_asked_for_are_nothing_to_smoke(
    tmp_path: Path,
) -> None:
    site = proved.new_checkout(tmp_path)
    wheel = tmp_path / f"toy-{VERSION}-cp39-cp39-linux_x86_64.whl"
    with pytest.raises(BlackwheelError) as caught:
        smoke_session.resolve(site, "toy", proved.PYTHON, [wheel])
    assert str(caught.value) == (
        "error: nothing-to-smoke\n"
        f"  no wheel for Python {proved.PYTHON} is among those given\n"
        "  where: wheels/\n"
        "  fix:   invoke build-wheels --stack toy"
    )


def words_of(lock: str) -> tuple[str, ...]:
    return tuple(pin.words for pin in locks.pins(lock))


def test_run_locks_of_a_stack_agree_about_every_pin() -> None:
    torch211 = Path(__file__).parents[2] / "constraints" / "torch211"
    for python in ("311", "312", "313"):
        held: dict[str, set[str]] = {}
        for lock in torch211.glob(f"run-*-py{python}.txt"):
            for pin in words_of(lock.read_text(encoding="utf-8")):
                name, _, version = pin.partition("==")
                held.setdefault(name, set()).add(version)
        assert len(held) > 100
        assert {name for name, versions in held.items() if len(versions) > 1} == set()


def plain_wheel(folder: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    with WheelFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", head)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")


def test_projects_that_are_locked_one_by_one_agree_all_the_same(tmp_path: Path) -> None:
    for folder in ("packages", "none"):
        (tmp_path / folder).mkdir()
    for name, version in (("torch", "2.11.0"), ("einops", "1.0"), ("einops", "2.0")):
        plain_wheel(tmp_path / "packages", name, version)
    site = proved.new_checkout(tmp_path / "checkout")
    variables = {
        "UV_DEFAULT_INDEX": (tmp_path / "none").as_uri(),
        "UV_FIND_LINKS": str(tmp_path / "packages"),
    }
    site = proved.site_of(site.checkout, variables)
    toml = site.constraints / "toy.toml"
    text = toml.read_text().replace('modules = ["toy"]', 'modules = ["toy"]\nruntime = ["einops"]')
    text = text.replace('modules = ["other"]', 'modules = ["other"]\nruntime = ["einops<2"]')
    toml.write_text(text)
    lock_all.lock_all(site, names=["toy"])
    folder, python = site.constraints / "toy", proved.PYTHON.replace(".", "")
    for project in proved.PROJECTS:
        lock = (folder / f"run-{project}-py{python}.txt").read_text()
        assert words_of(lock) == ("einops==1.0", "torch==2.11.0")


def test_what_a_stack_builds_itself_is_no_pin_of_what_it_runs_with(tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    for name in ("torch", "einops"):
        plain_wheel(tmp_path / "packages", name, {"torch": "2.11.0"}.get(name, "1.0"))
    site = proved.new_checkout(tmp_path / "checkout")
    variables = {
        "UV_DEFAULT_INDEX": (tmp_path / "none").as_uri(),
        "UV_FIND_LINKS": str(tmp_path / "packages"),
    }
    (tmp_path / "none").mkdir()
    site = proved.site_of(site.checkout, variables)
    toml = site.constraints / "toy.toml"
    text = toml.read_text().replace(
        'modules = ["toy"]', 'modules = ["toy"]\ndistribution = "toy-kernels"'
    )
    runtime = 'runtime = ["einops", "toy-kernels==1.0"]'
    text = text.replace('modules = ["other"]', f'modules = ["other"]\n{runtime}')
    toml.write_text(text)
    lock_all.lock_all(site, names=["toy"])
    lock = site.constraints / "toy" / f"run-other-py{proved.PYTHON.replace('.', '')}.txt"
    assert words_of(lock.read_text()) == ("einops==1.0", "torch==2.11.0")


def test_record_of_the_store_is_the_old_or_the_new_one_and_takes_the_digest_it_is_given(
    tmp_path: Path,
) -> None:
    torch = identity.TorchIdentity(
        version="2.11.0", runtime="2.11.0+cu130", git_version="GIT", cuda="13.0", cxx11_abi=True
    )
    report = smoke.SmokeReport(
        wheel=tmp_path / NAME,  # nobody reads it
        torch=torch,
        loading=loading.Loading(libraries=(), guard=""),
        imports=(),
        device="a GPU (12.0)",
        kernels=(("12.0a", "3 checks right"),),
        together=(),
    )
    path = tmp_path / "smoke" / f"{NAME}.json"
    smoke.keep(tmp_path, report, "a" * 64)
    before = path.read_bytes()
    (tmp_path / "same").hardlink_to(path)
    smoke.keep(tmp_path, replace(report, kernels=()), "b" * 64)
    assert json.loads(path.read_bytes())["sha256"] == "b" * 64
    assert (tmp_path / "same").read_bytes() == before, "it was not written over"
