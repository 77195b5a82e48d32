from __future__ import annotations

import re
from pathlib import Path

import pytest

from blackwheel.core.archs import KNOWN, parse
from blackwheel.core.cards import card, cards, names
from blackwheel.core.errors import BlackwheelError

PAGE = Path(__file__).parents[2] / "docs" / "gpus-and-drivers.md"


def test_every_known_arch_has_cards() -> None:
    assert tuple(names()) == KNOWN
    assert all(cards(parse(device)) for device in KNOWN)


def test_cards_are_those_that_run_the_code_of_an_arch() -> None:
    assert "GeForce RTX 5050 to 5090" in cards(parse("12.0a"))
    assert cards(parse("12.0f")) == f"{names()['12.0']}; {names()['12.1']}"
    assert cards(parse("8.6")) == "; ".join(names()[one] for one in ("8.6", "8.7", "8.9"))
    assert cards(parse("9.0a")) == "H100, H200"


def test_page_of_gpus_names_the_same_cards() -> None:
    rows = re.findall(r"^\| ([\d., ]+) \| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.M)
    for device, text in names().items():
        (row,) = [cells for devices, cells in rows if device in devices.split(", ")]
        assert text in row, device


@pytest.mark.parametrize(
    ("typed", "arch"),
    [
        ("RTX 5090", "12.0a"),
        ("NVIDIA GeForce RTX 5070 Ti", "12.0a"),
        ("5060", "12.0a"),
        ("rtx pro 6000 blackwell", "12.0a"),
        ("RTX 6000 Ada", "8.9"),
        ("RTX 4090", "8.9"),
        ("L40S", "8.9"),
        ("RTX A6000", "8.6"),
        ("A100", "8.0"),
        ("H200", "9.0a"),
        ("GB200", "10.0a"),
        ("DGX Spark", "12.1a"),
        ("8.6", "8.6"),
    ],
)
def test_card_is_found_by_the_name_that_people_type(typed: str, arch: str) -> None:
    assert card(typed).wanted == arch


def test_unknown_card_is_refused() -> None:
    with pytest.raises(BlackwheelError) as caught:
        card("RTX 9090")
    assert caught.value.name == "unknown-gpu"
