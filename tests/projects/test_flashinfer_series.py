"""What vLLM looks up in FlashInfer, held to the series, to the stack and to the real sources."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from checkout import site_with

from blackwheel.sources import sdist
from blackwheel.stacks import loader, projects
from blackwheel.stacks.records import Stack

ROOT: Final = Path(__file__).parents[2]
PATCHES: Final = ROOT / "patches"
KNOWN: Final = tomllib.loads((PATCHES / "flashinfer/lookups.toml").read_text(encoding="utf-8"))
STACKS: Final = [
    stack
    for name in loader.names(ROOT / "constraints")
    if "flashinfer" in (stack := loader.load(name, ROOT / "constraints")).build
]
SWITCH: Final = PATCHES / "vllm/0.28.0/0008-take-flashinfer-aot-package.patch"
SERIES: Final = PATCHES / "flashinfer/0.6.16.post3/0001-build-a-wheel-of-named-sets.patch"
FOLDER: Final = "flashinfer_jit_cache/jit_cache"


def added(patch: Path, file: str) -> str:
    """The lines that a patch adds to one file."""
    part = (
        patch.read_text(encoding="utf-8").split(f" b/{file}\n", 1)[1].partition("\ndiff --git")[0]
    )
    lines = (line[1:] for line in part.splitlines() if line.startswith("+"))
    return "\n".join(line for line in lines if not line.startswith("++ "))


def asked_by_vllm() -> dict[str, tuple[str, ...]]:
    """The names that 0008 has vLLM ask a package for, by constant: its own expressions, run."""
    text = added(SWITCH, "vllm/utils/flashinfer.py")
    constants = text[text.index("FLASHINFER_SAMPLING = ") :].partition("\n@functools")[0]
    found: dict[str, Any] = {}
    exec(constants, found)  # noqa: S102  the patch is ours
    return {name: value for name, value in found.items() if name.startswith("FLASHINFER_")}


def sets_of(stack: Stack) -> list[str]:
    return stack.projects["flashinfer"].variables["FLASHINFER_SETS"].split(",")


def wanted(stack: Stack) -> set[str]:
    return {one["module"] for one in KNOWN["lookup"] if one["set"] in sets_of(stack)}


def held(stack: Stack) -> set[str]:
    """The modules that the contract of a stack's wheel asks for, each by its own library."""
    names = set()
    for line in stack.projects["flashinfer"].contract:
        folder, name = line.library.removeprefix(f"{FOLDER}/").split("/")
        assert name == f"{folder}.so", "the loader looks for NAME/NAME.so"
        names.add(folder)
    return names


def test_names_that_vllm_asks_for_are_all_known_by_set() -> None:
    asked = asked_by_vllm()
    by_set: dict[str, set[str]] = {}
    for one in KNOWN["lookup"]:
        by_set.setdefault(one["set"], set()).add(one["module"])
    assert {*asked["FLASHINFER_SAMPLING"], *asked["FLASHINFER_TOPK"]} <= by_set["sampling"]
    assert {*asked["FLASHINFER_SINKS"]} == by_set["gpt-oss"] - {"page"}
    assert {*asked["FLASHINFER_NVFP4"]} <= by_set["nvfp4"]
    assert len(asked["FLASHINFER_SINKS"]) == 4


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_contract_asks_for_every_module_of_the_stacks_sets_and_for_no_other(stack: Stack) -> None:
    assert held(stack) == wanted(stack)


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_release_is_the_one_that_the_stacks_vllm_asks_for(stack: Stack) -> None:
    pin = stack.projects["flashinfer"]
    assert f"flashinfer-python=={pin.version}" in pin.runtime
    assert f"flashinfer-python=={pin.version}" in stack.projects["vllm"].runtime
    assert (stack.projects["vllm"].version, pin.version) == (KNOWN["vllm"], KNOWN["flashinfer"])
    assert (pin.links_torch, pin.distribution) == (False, "flashinfer-jit-cache")


def test_stack_of_the_page_for_another_set_is_taken_and_counts_its_objects(tmp_path: Path) -> None:
    page = (ROOT / "docs/kernels.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```toml\n# constraints/gpt-oss\.toml\n(.*?)```", page, re.DOTALL)
    folder = shutil.copytree(ROOT / "constraints", tmp_path / "constraints")
    (folder / "gpt-oss.toml").write_text(text, encoding="utf-8")
    stack = loader.load("gpt-oss", folder)
    ahead = projects.load(PATCHES, "flashinfer").ahead
    assert ahead
    objects = {one.word: one.objects for one in ahead.sets}
    pin = stack.projects["flashinfer"]
    assert pin.objects == sum(objects[name] for name in sets_of(stack))
    (line,) = pin.contract
    assert all(fnmatchcase(f"{FOLDER}/{one}/{one}.so", line.library) for one in wanted(stack))


def test_sets_of_the_stacks_are_those_that_the_series_builds() -> None:
    text = added(SERIES, "flashinfer-jit-cache/sets.py")
    (line,) = (line for line in text.splitlines() if line.startswith("SETS = "))
    built = set(re.findall(r'"([\w-]+)":', line))
    assert {one["set"] for one in KNOWN["lookup"]} <= built
    for stack in STACKS:
        assert set(sets_of(stack)) <= built, stack.name


def generated(words: str, *archs: tuple[int, str]) -> list[str]:
    """The names that sets.py gives for these words, by functions that only name modules."""

    def made(name: str) -> Any:
        return lambda *_, **__: SimpleNamespace(name=name)

    context = SimpleNamespace(TARGET_CUDA_ARCHS=set(archs), get_nvcc_flags_list=lambda **_: [])
    jit = {name: SimpleNamespace() for name in ("sampling", "topk", "spdlog", "page", "xqa")}
    for name in ("sampling", "topk", "spdlog", "page"):
        setattr(jit[name], f"gen_{name}_module", made(name))
    jit["xqa"].gen_xqa_module = lambda **told: SimpleNamespace(name=f"xqa {sorted(told.items())}")

    def sink(backend: str, name: str, *_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(name=name)

    known: dict[str, Any] = {
        **jit,
        "attention": SimpleNamespace(gen_customize_batch_prefill_module=sink),
        "attention_sink_decl": {"fa2": ""},
        "core": SimpleNamespace(current_compilation_context=context),
        "fp4_quantization": SimpleNamespace(
            gen_fp4_quantization_module=lambda flags, name: made(f"fp4_quantization_{name}")()
        ),
        "gen_gemm_sm120_module_cutlass_fp4": made("fp4_gemm_cutlass_sm120"),
        "torch": SimpleNamespace(bfloat16="bf16", int32="int32"),
    }
    text = added(SERIES, "flashinfer-jit-cache/sets.py")
    exec(text[text.index("BF16 = ") :], known)  # noqa: S102  the patch is ours
    return [one.name for one in known["modules_of"](words)]


@pytest.mark.parametrize("name", ["sampling", "gpt-oss", "nvfp4"])
def test_set_of_the_series_has_the_modules_that_are_looked_up(name: str) -> None:
    there = [one for one in generated(name, (12, "0a")) if not one.startswith("xqa ")]
    known = [one["module"] for one in KNOWN["lookup"] if one["set"] == name]
    assert sorted(there) == sorted(one for one in known if not one.startswith("xqa_"))
    decode = [one for one in generated(name, (12, "0a")) if one.startswith("xqa ")]
    assert len(decode) == len([one for one in known if one.startswith("xqa_")])


@pytest.mark.parametrize(
    ("words", "archs", "told"),
    [
        ("samplin", [(12, "0a")], "FLASHINFER_SETS names samplin: there are sampling, gpt-oss"),
        (" ,", [(12, "0a")], "FLASHINFER_SETS names no set: there are"),
        (
            "sampling,nvfp4",
            [(9, "0a"), (12, "0a")],
            "FLASHINFER_SETS: nvfp4 is for 12.x: 9.0a has no module of the name 120f",
        ),
    ],
)
def test_set_that_is_none_and_arch_without_its_name_end_the_build_with_words(
    words: str, archs: list[tuple[int, str]], told: str
) -> None:
    with pytest.raises(SystemExit, match=f"^{re.escape(told)}"):
        generated(words, *archs)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[str]]:
    """The named files of both sdists, by path: lines."""
    store = tmp_path_factory.mktemp("store")
    wanted = {"vllm": set[str](), "flashinfer": set[str]()}
    for one in KNOWN["lookup"]:
        wanted["vllm"] |= {place.partition(":")[0] for place in one["asks"]}
        wanted["flashinfer"].add(one["through"].partition(":")[0])
    found: dict[str, list[str]] = {}
    for project, paths in wanted.items():
        pin = STACKS[0].projects[project].sdist
        assert pin
        archive = sdist.obtain(site_with(store), pin, project=project)
        for entry in sdist.entries(archive, paths.__contains__):
            found[entry.path] = entry.data.decode().splitlines()
    return found


@pytest.mark.network
@pytest.mark.parametrize("one", KNOWN["lookup"], ids=lambda one: one["module"])
def test_origin_of_each_name_is_the_line_that_it_says(
    one: Mapping[str, Any], files: Mapping[str, list[str]]
) -> None:
    for place in one["asks"]:
        path, _, number = place.partition(":")
        assert one["call"] in files[path][int(number) - 1], place
    path, _, number = one["through"].partition(":")
    assert one["spec"] in files[path][int(number) - 1], one["through"]
