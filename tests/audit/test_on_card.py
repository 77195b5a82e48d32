"""Sentences about a card that kernels run on, from libraries made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from blackwheel.audit import on_card
from blackwheel.audit.kernels import KernelCounts, Library
from blackwheel.core.cards import card

CARD = card("RTX 5090")
NATIVE = Library(
    path="toy/_C.so",
    size=9,
    sha256="",
    elf_archs=(("sm_120a", 1),),
    kernels_by_arch=(("sm_120a", 40),),
    kernels=KernelCounts(native=40),
)
FAMILY = replace(
    NATIVE,
    path="toy/_family.so",
    elf_archs=(("sm_80", 1), ("sm_120", 1)),
    kernels_by_arch=(("sm_80", 5), ("sm_120", 5)),
    kernels=KernelCounts(family=5),
)
PTX = replace(
    NATIVE,
    path="toy/_ptx.so",
    elf_archs=(("sm_80", 1),),
    ptx_archs=(("sm_80", 1),),
    kernels_by_arch=(("sm_80", 1200),),
    kernels=KernelCounts(ptx=1200),
)
HOPPER = replace(
    NATIVE,
    path="toy/_hopper.so",
    elf_archs=(("sm_90a", 1),),
    kernels_by_arch=(("sm_90a", 7),),
    kernels=KernelCounts(missing=7),
)
MIXED = replace(FAMILY, path="toy/_mixed.so", kernels=KernelCounts(family=5, missing=3))
BROKEN = replace(NATIVE, path="toy/_bad.so", kernels=KernelCounts(), unreadable="no header")


def unknown(_: str) -> str:
    return ""


def hopper_only(path: str) -> str:
    return "it is chosen on 9.0 alone" if "hopper" in path else ""


@pytest.mark.parametrize(
    ("libraries", "uncalled", "state"),
    [
        ((NATIVE,), unknown, "natively"),
        ((NATIVE, FAMILY), unknown, "as code of the family"),
        ((NATIVE, MIXED), unknown, "as code of the family"),
        ((NATIVE, PTX), unknown, "partly through PTX"),
        ((PTX,), unknown, "through PTX"),
        ((NATIVE, HOPPER), unknown, "in part"),
        ((NATIVE, HOPPER), hopper_only, "natively"),
        ((HOPPER,), hopper_only, "not at all"),
        ((BROKEN,), unknown, "cannot be told"),
        ((), unknown, "no kernels"),
    ],
)
def test_state_of_files_on_a_card(
    libraries: tuple[Library, ...], uncalled: Callable[[str], str], state: str
) -> None:
    assert on_card.state(libraries, uncalled) == state


def test_everything_native_is_one_sentence() -> None:
    assert list(on_card.lines([NATIVE], CARD, unknown)) == [
        "On RTX 5090 (12.0a) all 40 kernels run natively."
    ]


def test_every_way_to_run_is_told_with_its_price() -> None:
    found = [NATIVE, FAMILY, PTX, HOPPER, MIXED, replace(BROKEN)]
    assert list(on_card.lines(found, CARD, unknown)) == [
        "On RTX 5090 (12.0a) 40 of 1,260 kernels run natively, 10 as code of the family (sm_120),"
        " 1,200 through PTX, 10 not at all.",
        "Through PTX: toy/_ptx.so (1,200). Your driver compiles it at first use and keeps it in"
        " ~/.nv/ComputeCache.",
        "Not at all: toy/_hopper.so (7), compiled for sm_90a alone; a call of it fails. Whether"
        " anything calls it the file does not tell.",
        "Code for other cards lies beside code that runs in toy/_mixed.so (3).",
        "Some of toy/_bad.so cannot be read: what that would run on is not known.",
    ]


def test_what_nothing_calls_is_told_with_its_reason() -> None:
    told = list(on_card.lines([NATIVE, HOPPER], CARD, hopper_only))
    assert told[1] == (
        "Not at all: toy/_hopper.so (7), compiled for sm_90a alone; nothing calls it there:"
        " it is chosen on 9.0 alone."
    )


def test_files_are_counted_from_the_fourth_on() -> None:
    many = [replace(HOPPER, path=f"toy/_{n}.so") for n in range(16_000)]
    told = list(on_card.lines(many, CARD, unknown))
    assert len(told) == 2
    assert "toy/_0.so (7), toy/_1.so (7), toy/_2.so (7) and 15,997 more, compiled" in told[1]


def test_every_way_has_one_name_in_tables_pages_and_findings() -> None:
    assert list(on_card.WAYS) == list(KernelCounts.__dataclass_fields__)
    assert list(on_card.WAYS.values()) == [
        *("natively", "as code of the family", "through PTX", "not at all")
    ]
    for head, way in zip(on_card.HEADS, on_card.WAYS.values(), strict=True):
        assert head in way


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (KernelCounts(native=9, family=1, ptx=2), "1 runs as code of the family, 2 through PTX"),
        (KernelCounts(family=12, missing=3), "12 run as code of the family, 3 not at all"),
        (KernelCounts(ptx=1), "1 runs through PTX"),
    ],
)
def test_kernels_that_are_not_native_are_told_in_the_same_words(
    counts: KernelCounts, words: str
) -> None:
    assert on_card.others(counts) == words
