"""What a server of a stack finds compiled ahead of time, and what it compiles itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from blackwheel.doctor import ahead
from blackwheel.doctor.check import Check
from blackwheel.shelf import index
from blackwheel.stacks import loader, projects
from blackwheel.stacks.records import Stack

ROOT = Path(__file__).parents[2]
PATCHES = ROOT / "patches"
SHELVED = "0.6.16.post3+cu130.sm120a.sampling.1"


@pytest.fixture
def stack() -> Stack:
    """stable, with the set that every server asks for alone."""
    return with_sets(loader.load("stable", ROOT / "constraints"), "sampling")


def told(
    stack: Stack, *, patches: Path = PATCHES, shelf: Path | None = None, nvcc: bool = False
) -> list[Check]:
    return list(ahead.examine(stack, patches, shelf=shelf, nvcc=nvcc))


def other(stack: Stack, version: str) -> Stack:
    """The same stack, whose modules are of another release than its server asks for."""
    pin = replace(stack.projects["flashinfer"], version=version)
    return replace(stack, projects={**stack.projects, "flashinfer": pin})


@pytest.fixture
def shelve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Puts one wheel on the shelf, with what its receipt says that it was built with."""

    def put(version: str = SHELVED, sets: str = "sampling") -> None:
        parts = {"python": "3.12", "archs": "12.0a", "variables.FLASHINFER_SETS": sets}
        key = {"digest": "d", "slug": "stable/flashinfer/cp312", "parts": parts}
        receipt = tmp_path / "receipt.json"
        build = {"buildDefinition": {"externalParameters": {"stack": {"key": key}}}}
        receipt.write_text(json.dumps({"predicate": build}), encoding="utf-8")
        wheel = SimpleNamespace(project="flashinfer-jit-cache", version=version, receipt=receipt)
        monkeypatch.setattr(index, "shelved", lambda folder: (wheel,))

    return put


def with_sets(stack: Stack, sets: str) -> Stack:
    """The same stack, with other sets."""
    pin = stack.projects["flashinfer"]
    given = replace(pin, variables={**pin.variables, "FLASHINFER_SETS": sets})
    return replace(stack, projects={**stack.projects, "flashinfer": given})


def test_server_finds_the_wheel_of_the_shelf_and_the_rest_is_named_with_what_it_takes(
    stack: Stack, shelve: Callable[..., None]
) -> None:
    shelve()
    ready, rest = told(stack, shelf=Path("wheels"), nvcc=True)
    cost = projects.load(PATCHES, "flashinfer").ahead
    assert cost
    seconds = {one.word: one.seconds for one in cost.sets}
    assert ready.ok is True
    assert ready.cure == ""
    assert ready.fact.startswith(
        "vllm finds sampling and top-k, which every server asks for (sampling) in"
        f" flashinfer-jit-cache {SHELVED} and needs no nvcc for that:"
        " at run time it does not compile 7 objects, "
    )
    assert ("unmeasured" in ready.fact) is (not seconds["sampling"])
    assert rest.ok is None
    assert rest.fact.startswith("not ahead of time: attention with sinks, as gpt-oss has it")
    assert rest.fact.endswith("; are compiled by the first request that asks for it")


def test_without_nvcc_the_rest_is_not_there_at_all(stack: Stack) -> None:
    (_, rest) = told(stack, nvcc=False)
    words = "; would be compiled, and there is no nvcc: vllm does without it"
    assert rest.fact.endswith(words)


def test_wheel_that_is_not_shelved_is_a_note_with_the_command(
    stack: Stack, shelve: Callable[..., None]
) -> None:
    shelve("0.6.14+cu130.sm120a.sampling.1")
    ready = told(stack, shelf=Path("wheels"))[0]
    assert (ready.ok, ready.cure) == (
        None,
        "no wheel of it is on the shelf: invoke build-wheels --stack stable --only flashinfer",
    )
    assert ready.fact.startswith("vllm would find sampling and top-k")


def test_wheel_of_other_sets_is_not_the_one_that_the_stack_builds(
    stack: Stack, shelve: Callable[..., None]
) -> None:
    shelve(sets="sampling")
    ready = told(with_sets(stack, "sampling,gpt-oss"), shelf=Path("wheels"))[0]
    assert (ready.ok, ready.fact.startswith("vllm would find sampling and top-k")) == (None, True)
    shelve(sets="sampling, gpt-oss")
    assert told(stack, shelf=Path("wheels"))[0].ok is True, "it holds more"


def test_set_that_does_not_exist_is_a_lack(stack: Stack) -> None:
    (only,) = told(with_sets(stack, "sampling,samplin"))
    assert only.ok is False
    assert only.fact == "FLASHINFER_SETS of the stack names 'samplin', which is none of its sets"
    assert only.cure == (
        "projects.flashinfer.variables.FLASHINFER_SETS: one or more of, with commas:"
        " sampling, gpt-oss, nvfp4"
    )


def test_version_that_the_server_does_not_want_is_a_lack(stack: Stack) -> None:
    (only,) = told(other(stack, "0.6.14"))
    assert only.ok is False
    assert only.fact == (
        "the stack builds flashinfer-jit-cache 0.6.14, and vllm 0.28.0 asks for"
        " flashinfer-python==0.6.16.post3: the loader takes no other version's"
    )
    assert only.cure == (
        "invoke pin flashinfer VERSION --stack stable, with that version;"
        " then: nox -s lock -- stable"
    )


def test_server_whose_series_does_not_look_for_it_without_nvcc_is_told(
    stack: Stack, tmp_path: Path
) -> None:
    patches = tmp_path / "patches"
    shutil.copytree(PATCHES, patches)
    for patch in patches.glob("vllm/0.28.0/*-take-flashinfer-aot-package.patch"):
        patch.unlink()
    ready = told(stack, patches=patches)[0]
    assert (ready.ok, "needs no nvcc" in ready.fact) == (None, False)
    assert ready.cure == (
        "vllm 0.28.0 looks for it only beside an nvcc: no *-take-flashinfer-aot-package.patch"
    )


def test_stack_that_builds_none_of_it_says_what_the_first_request_compiles(stack: Stack) -> None:
    (only,) = told(replace(stack, build=("vllm",)), nvcc=True)
    assert only.fact.startswith("not ahead of time: sampling and top-k, which every server asks")
    assert told(other(replace(stack, build=("vllm",)), "0.6.14")) == [], "nobody counted its own"
    assert told(replace(stack, build=("flashinfer",))) == [], "it serves nothing"
    assert told(loader.load("torch211", ROOT / "constraints")) == [], "it has no pin of it"
