"""How closely libraries are bound to torch: real ones, linked by a real compiler."""

from __future__ import annotations

from pathlib import Path

import pytest
from toytorch import build_library, make_torch

from blackwheel.audit.elf import read_elf
from blackwheel.audit.exports import Exports, exports_of
from blackwheel.audit.torch_abi import TorchAbi, torch_abi, unfit_findings

EXTRA = 'extern "C" int lazy_init() { return 1; }'


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch") / "env"
    return make_torch(folder, sources={"libtorch_cuda.so": EXTRA})


@pytest.fixture(scope="module")
def exports(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    return exports_of(environment, store=tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def cpu(environment: Path) -> Path:
    return next(environment.rglob("libtorch_cpu.so"))


def bound(file: Path, exports: Exports | None = None) -> tuple[str, tuple[str, ...]]:
    (one,) = torch_abi({"toy/_C.so": read_elf(file)}, exports)
    return str(one), one.because


def calling(name: str, how: str = 'extern "C" ') -> str:
    return f'{how}int {name}(int);\nextern "C" int entry() {{ return {name}(1); }}'


@pytest.mark.parametrize(
    ("name", "since"),
    [
        ("aoti_torch_get_dim", "2.9.0"),  # there when the interface came
        ("aoti_torch_aten_subtract_Tensor", "2.10.0"),
        ("torch_get_const_data_ptr", "2.10.0"),
        ("aoti_torch_cpu__grouped_mm", "2.12.0"),
    ],
)
def test_stable_interface_is_told_with_the_torch_that_has_all_of_it(
    cpu: Path, tmp_path: Path, name: str, since: str
) -> None:
    file = build_library(tmp_path / "_C.so", calling(name), needs=[cpu])
    said, because = bound(file)
    assert said == f"stable from {since}"
    assert because == (() if since == "2.9.0" else (name,))


def test_function_that_no_table_knows_makes_it_unknown(cpu: Path, tmp_path: Path) -> None:
    source = calling("aoti_torch_get_dim") + calling("torch_of_tomorrow").replace("entry", "other")
    file = build_library(tmp_path / "_C.so", source, needs=[cpu])
    assert bound(file) == ("unknown", ("torch_of_tomorrow",))


@pytest.mark.parametrize(
    "source",
    [
        'namespace at { int f(int); } extern "C" int entry() { return at::f(1); }',
        "namespace c10 { struct X {}; } void take(c10::X &);"
        ' extern "C" void entry(c10::X &x) { take(x); }',
        calling("THPVariable_Unpack"),
        "\n#include <vector>\nnamespace c10 { struct X { int a; }; }"
        " extern template class std::vector<c10::X>;"
        ' extern "C" void entry(std::vector<c10::X> &v) { v.reserve(99); }',
    ],
    ids=["function", "argument", "libtorch_python", "template"],
)
def test_name_of_torchs_own_binds_to_this_build(cpu: Path, tmp_path: Path, source: str) -> None:
    stable = calling("aoti_torch_get_dim").replace("entry", "first")
    file = build_library(tmp_path / "_C.so", stable + source, needs=[cpu])
    assert bound(file)[0] == "this torch only"


def test_weak_name_binds_to_nothing(cpu: Path, tmp_path: Path) -> None:
    weak = "namespace c10 { int __attribute__((weak)) toString(int); }"
    source = f'{weak} extern "C" int entry() {{ return c10::toString ? 1 : 0; }}'
    assert bound(build_library(tmp_path / "_C.so", source, needs=[cpu])) == ("none", ())


def test_name_that_only_the_environment_explains(
    environment: Path, exports: Exports, tmp_path: Path
) -> None:
    cuda = next(environment.rglob("libtorch_cuda.so"))
    file = build_library(tmp_path / "_C.so", calling("lazy_init"), needs=[cuda])
    assert bound(file) == ("unknown", ("lazy_init",))
    assert bound(file, exports) == ("this torch only", ("lazy_init",))


def test_cuda_python_and_the_system_are_not_torch(
    environment: Path, exports: Exports, cpu: Path, tmp_path: Path
) -> None:
    cudart = next(environment.rglob("libcudart.so.13"))
    source = """
    #include <stdexcept>
    extern "C" int cudaGetDevice(int *);
    extern "C" int PyType_Ready(void *);
    extern "C" int entry() {
      if (PyType_Ready(nullptr)) throw std::runtime_error("x");
      return cudaGetDevice(nullptr);
    }
    """
    file = build_library(tmp_path / "_C.so", source, needs=[cudart, cpu])
    assert bound(file) == bound(file, exports) == ("none", ())


def test_name_of_a_library_that_nobody_looked_into_is_not_held_against_it(
    cpu: Path, tmp_path: Path
) -> None:
    foreign = build_library(tmp_path / "libx.so", 'extern "C" int foreign(int) { return 1; }')
    file = build_library(tmp_path / "_C.so", calling("foreign"), needs=[cpu, foreign])
    assert bound(file) == ("none", ())


def test_neighbour_in_the_wheel_brings_the_name(cpu: Path, tmp_path: Path) -> None:
    neighbour = build_library(tmp_path / "libx.so", 'extern "C" int ours(int) { return 1; }')
    file = build_library(tmp_path / "_C.so", calling("ours"), needs=[cpu, neighbour])
    elves = {"toy/_C.so": read_elf(file), "toy/libx.so": read_elf(neighbour)}
    assert [str(one) for one in torch_abi(elves)] == ["none", "none"]


# What keeps a wheel from serving later torches

STABLE = TorchAbi(library="toy/_C.so", bond="stable", since="2.10.0", because=("torch_f",))
HOST = TorchAbi(library="toy/host.so", bond="none")
CURE = "without torch = 'abi' in its pin it serves its own torch"


def unfit(*bound: TorchAbi, oldest: str = "2.11.0", sure: bool = True) -> list[str]:
    found = list(unfit_findings(bound, oldest, sure=sure))
    assert all(one.fatal for one in found)
    return [str(one) for one in found]


def test_stable_library_beside_one_without_torch_serves_later_torches() -> None:
    assert unfit(STABLE, HOST) == []
    assert unfit(STABLE, oldest="2.10.0") == []


def test_library_of_one_torch_among_stable_ones_is_named() -> None:
    exact = TorchAbi(library="toy/_x.so", bond="exact", because=("_ZN2at1fEi",))
    assert unfit(STABLE, exact) == [
        "not-stable: toy/_x.so: takes _ZN2at1fEi from torch, no part of its stable interface:"
        f" {CURE}"
    ]
    assert unfit(exact, sure=False) == unfit(exact)


def test_symbol_that_nobody_knows_is_denied_where_the_torch_was_looked_at() -> None:
    strange = TorchAbi(library="toy/_x.so", bond="unknown", because=("torch_of_tomorrow",))
    assert unfit(STABLE, strange) == [
        "not-stable: toy/_x.so: needs torch_of_tomorrow, of which nobody knows since which torch"
        f" it is there: {CURE}"
    ]
    assert unfit(STABLE, strange, sure=False) == []


def test_function_that_is_newer_than_the_promise_is_named() -> None:
    assert unfit(STABLE, oldest="2.9.1") == [
        "not-stable: toy/_C.so: needs torch_f, which torch has from 2.10.0 on, and 2.9.1 is"
        f" promised: {CURE}"
    ]


def test_wheel_of_which_no_library_uses_torch_proves_nothing() -> None:
    for bound in ((), (HOST,)):
        assert unfit(*bound) == [
            "not-stable: no library of it uses torch: links_torch = false says that,"
            " torch = 'abi' does not"
        ]
