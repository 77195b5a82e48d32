"""`invoke audit WHEEL --torch A,B` beside toy torches that are really loaded."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import persons_environment
from toytorch import TORCH, build_library, make_torch
from wheelwright import make_wheel

from blackwheel.commands.audit import show_audit
from blackwheel.commands.audit_torch import torches
from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site

ROOT = Path(__file__).parents[2]
STABLE = (
    'extern "C" int aoti_torch_get_dim(int); extern "C" int a() { return aoti_torch_get_dim(0); }'
)
EXACT = 'namespace at { float *data_of(int); } extern "C" float *b() { return at::data_of(0); }'
INIT = """
import ctypes, pathlib
lib = pathlib.Path(__file__).parent / "lib"
for name in ("libc10.so", "libtorch_cpu.so"):
    ctypes.CDLL(str(lib / name), ctypes.RTLD_GLOBAL)
"""


def living_torch(folder: Path, version: str, code: str) -> Path:
    """A toy torch that Python can import."""
    made = make_torch(folder, version=version, sources={"libtorch_cpu.so": code})
    minor = f"python3.{sys.version_info.minor}"
    if minor != "python3.12":
        (made / "lib" / "python3.12").rename(made / "lib" / minor)
    home = Path(sys.executable).resolve().parent
    (made / "pyvenv.cfg").write_text(f"home = {home}\n")
    (made / "lib" / minor / "site-packages" / "torch" / "__init__.py").write_text(INIT)
    return made


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return living_torch(tmp_path_factory.mktemp("old") / "env", "2.11.0+cu130", TORCH)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    code = TORCH.replace("float *data_of(int)", "double *data_of(int, int)")
    return living_torch(tmp_path_factory.mktemp("new") / "env", "2.15.0+cu132", code)


@pytest.fixture(scope="module")
def wheel(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    cpu = next(old.rglob("libtorch_cpu.so"))
    files: dict[str, Path] = {
        f"toy/{name}.so": build_library(folder / f"{name}.so", source, needs=[cpu])
        for name, source in (("exact", EXACT), ("stable", STABLE))
    }
    return make_wheel(folder, files, requires=["torch===2.11.0"])


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(
        checkout=ROOT, store=tmp_path / "store", environment=persons_environment(), console=Quiet()
    )


def asked(site: Site, wheel: Path, *torches: Path, load: bool = False) -> dict[str, str]:
    """The verdict of each library."""
    quiet = Quiet()
    words = ",".join(map(str, torches))
    show_audit(replace(site, console=quiet), str(wheel), torch=words, load=load, as_json=True)
    (document,) = json.loads(quiet.results)["wheels"]
    return {Path(one["library"]).stem: one["verdict"] for one in document["torch_abi"]}


def test_stable_is_promised_only_where_it_was_loaded_at_both_ends(
    site: Site, wheel: Path, old: Path, new: Path
) -> None:
    unproved = "stable from 2.9.0 by its symbols, not loaded beside two"
    assert asked(site, wheel, old, new)["stable"] == unproved
    assert asked(site, wheel, old, load=True)["stable"] == unproved
    assert asked(site, wheel, old, new, load=True) == {
        "stable": "stable from 2.9.0, loaded beside 2.11.0 and 2.15.0",
        "exact": "this torch only",
    }
    assert not list(site.store.glob("loading-*"))


def test_table_says_what_links_and_what_loads_where(
    site: Site, wheel: Path, old: Path, new: Path
) -> None:
    code = show_audit(site, str(wheel), torch=f"{old},{new}", load=True)
    assert code == Exit.AUDIT
    assert isinstance(site.console, Quiet)
    told = site.console.results
    for words in ("bound to torch", "loads", "1 symbol is gone", "at::data_of(int)"):
        assert words in told
    assert "toy/exact.so does not load: " in told
    assert "undefined symbol" in told.partition("toy/exact.so does not load: ")[2].splitlines()[0]


def test_promise_is_withdrawn_where_a_function_of_the_interface_is_gone(
    site: Site, wheel: Path, old: Path, tmp_path: Path
) -> None:
    code = TORCH.replace("aoti_torch_get_dim", "aoti_torch_moved")
    broken = living_torch(tmp_path / "env", "2.15.0+cu132", code)
    said = asked(site, wheel, old, broken)["stable"]
    assert said == "unknown: it should serve 2.9.0 and later, and not 2.15.0"


def test_crash_while_loading_is_an_answer(site: Site, old: Path, new: Path, tmp_path: Path) -> None:
    source = STABLE + "__attribute__((constructor)) void die() { __builtin_trap(); }"
    cpu = next(old.rglob("libtorch_cpu.so"))
    library = build_library(tmp_path / "stable.so", source, needs=[cpu])
    wheel = make_wheel(tmp_path, {"toy/stable.so": library}, requires=["torch===2.11.0"])
    said = asked(site, wheel, old, new, load=True)["stable"]
    assert said == "unknown: it should serve 2.9.0 and later, and not 2.11.0, 2.15.0"


def test_all_names_the_torches_of_the_stacks_and_none_of_a_nightly(site: Site) -> None:
    found = torches(site, "all")
    assert "2.11.0" in found
    assert not [one for one in found if "dev" in one]


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"load": True}, "--load"),
        ({"torch": "2.11.0,2.13.0", "html": "x.html"}, "--torch"),
        ({"torch": ","}, "--torch"),
        ({"torch": ",".join(f"2.{n}.0" for n in range(20))}, "--torch"),
    ],
)
def test_what_cannot_be_asked(
    site: Site, wheel: Path, options: dict[str, object], place: str, tmp_path: Path
) -> None:
    if "html" in options:
        options = {**options, "html": str(tmp_path / "x.html")}
    with pytest.raises(BlackwheelError) as caught:
        show_audit(site, str(wheel), **options)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.where) == (Exit.USAGE, place)
    shutil.rmtree(site.store, ignore_errors=True)


def test_library_that_the_wheels_stack_has_loaded_before_counts_where_it_is(
    site: Site, old: Path, tmp_path: Path
) -> None:
    """FlashInfer's modules leave symbols open that tvm_ffi has; no other receipt is believed so."""
    call = 'extern "C" int TVMFFICall(); extern "C" int f() { return TVMFFICall(); }'
    made = build_library(tmp_path / "sampling.so", call)
    path = make_wheel(tmp_path, {"toy/sampling.so": made}, requires=["einops"])
    there = shutil.copytree(old, tmp_path / "env", symlinks=True)
    packages = next(there.glob("lib/python3*/site-packages"))
    beside = packages / "tvm_ffi/lib/libtvm_ffi.so"
    build_library(beside, 'extern "C" int TVMFFICall() { return 1; }')

    def built_by(stack: str) -> None:
        parts = {"python": "3.12", "archs": "12.0a"}
        key = {"digest": "d", "slug": f"{stack}/flashinfer/cp312", "parts": parts}
        build = {"buildDefinition": {"externalParameters": {"stack": {"key": key}}}}
        receipt = path.with_name(f"{path.name}.receipt.json")
        receipt.write_text(json.dumps({"predicate": build}), encoding="utf-8")

    assert show_audit(site, str(path), torch=str(there)) == Exit.AUDIT, "no receipt"
    built_by("flashinfer-quick")
    assert show_audit(site, str(path), torch=str(there)) == Exit.OK
    assert show_audit(site, str(path), torch=str(old)) == Exit.AUDIT, "it is not there"
    built_by("of-somebody-else")
    assert show_audit(site, str(path), torch=str(there)) == Exit.AUDIT
