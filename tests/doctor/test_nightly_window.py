"""How a pinned nightly ages, and what is said before the index forgets it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from nightly_index import PLATFORM, Index, serving
from packaging.version import Version

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.http import Patience
from blackwheel.doctor import nightly_window
from blackwheel.pins import move_torch
from blackwheel.pytorch import archive, nightly_index
from blackwheel.pytorch.archive import Archive
from blackwheel.stacks import loader
from blackwheel.stacks.records import Stack, TorchWheel

CONSTRAINTS = Path(__file__).parents[2] / "constraints"
VERSION = "2.10.0.dev20251016+cu128"
NAME = f"torch-{VERSION}-cp311-cp311-{PLATFORM}.whl"
UNLOCKED = loader.load("report-2025-10", CONSTRAINTS)
STABLE = loader.load("torch211", CONSTRAINTS)


@pytest.fixture
def index() -> Iterator[Index]:
    with serving() as index:
        yield index


@pytest.fixture
def stack(index: Index) -> Stack:
    url = f"{index.channel()}/{NAME}"
    wheel = TorchWheel(name=NAME, sha256="0" * 64, size=5, url=url)
    locked = replace(UNLOCKED.torch, index=index.channel(), wheels={"cp311": wheel})
    return replace(UNLOCKED, torch=locked)


@pytest.fixture
def kept(tmp_path: Path) -> Archive:
    return archive.archive(tmp_path, {}, Quiet(), Patience(tries=1, pause=lambda _: None))


def test_age_line_says_days_and_the_command() -> None:
    assert nightly_index.age_line(UNLOCKED, date(2025, 10, 17)) == (
        f"torch {VERSION} is 1 day old;"
        " to move the pin: invoke pin torch latest --stack report-2025-10"
    )
    assert "is 365 days old" in nightly_index.age_line(UNLOCKED, date(2026, 10, 16))
    assert nightly_index.age_line(STABLE, date(2026, 10, 16)) == ""


def test_pin_that_leaves_soon_and_is_not_archived_is_a_warning(stack: Stack, kept: Archive) -> None:
    check = nightly_window.archive_check(stack, kept, today=date(2025, 12, 10), network=False)
    assert check is not None
    assert (check.ok, check.fact, check.cure) == (
        None,
        f"torch {VERSION} is not archived here for cp311, and leaves the index's newest 60 builds"
        " in about 5 nights",
        f"invoke pin torch {VERSION} --stack report-2025-10 --archive FOLDER",
    )


def test_young_pin_is_no_warning(stack: Stack, kept: Archive) -> None:
    check = nightly_window.archive_check(stack, kept, today=date(2025, 11, 1), network=False)
    assert check and check.ok is True


def test_archived_pin_is_no_warning_however_old(stack: Stack, kept: Archive) -> None:
    kept.folder.mkdir()
    (kept.folder / NAME).write_bytes(b"12345")
    check = nightly_window.archive_check(stack, kept, today=date(2027, 1, 1), network=False)
    assert check and (check.ok, check.fact) == (True, f"the wheels of torch {VERSION} are archived")
    (kept.folder / NAME).write_bytes(b"1")  # cut
    check = nightly_window.archive_check(stack, kept, today=date(2027, 1, 1), network=False)
    assert check and check.ok is None


def test_page_of_the_index_tells_better_than_the_age(
    stack: Stack, kept: Archive, index: Index
) -> None:
    index.nights(range(16, 19))
    check = nightly_window.archive_check(stack, kept, today=date(2027, 1, 1), network=True)
    assert check and check.ok is True
    index.files[f"/whl/nightly/cu128/{NAME}"].listed = False
    check = nightly_window.archive_check(stack, kept, today=date(2025, 10, 17), network=True)
    assert check and check.ok is None
    assert check.fact.endswith("builds already: only its address is left")


def test_index_that_does_not_answer_leaves_the_age(
    stack: Stack, kept: Archive, index: Index
) -> None:
    index.answers["/torch/"] = [503]
    check = nightly_window.archive_check(stack, kept, today=date(2025, 12, 10), network=True)
    assert check and "in about 5 nights" in check.fact


def test_stack_without_a_nightly_has_nothing_to_keep(kept: Archive) -> None:
    for other in (STABLE, UNLOCKED):
        assert (
            nightly_window.archive_check(other, kept, today=date(2026, 1, 1), network=False) is None
        )


# What was asked for


@pytest.mark.parametrize(
    ("version", "channel", "wanted"),
    [
        (VERSION, "", (Version(VERSION), "cu128")),
        ("2.10.0.dev20251016", "", (Version(VERSION), "cu128")),
        ("2.10.0.dev20251016", "cu130", (Version("2.10.0.dev20251016+cu130"), "cu130")),
        ("latest", "", (None, "cu128")),
        ("latest", "cu130", (None, "cu130")),
        ("2.16.0.dev20261008+cu134", "", (Version("2.16.0.dev20261008+cu134"), "cu134")),
    ],
)
def test_version_and_channel_complete_one_another(
    version: str, channel: str, wanted: tuple[Version | None, str]
) -> None:
    asked = move_torch.asked(UNLOCKED.torch, version, channel)
    assert (asked.version, asked.channel) == wanted
    assert asked.index.endswith(f"/whl/nightly/{wanted[1]}")


def test_version_of_another_channel_is_refused() -> None:
    with pytest.raises(BlackwheelError) as caught:
        move_torch.asked(UNLOCKED.torch, VERSION, "cu130")
    assert str(caught.value) == (
        "error: bad-version\n"
        f"  {VERSION} is not of channel cu130\n"
        "  where: invoke pin torch\n"
        f"  fix:   invoke pin torch {VERSION}, or latest --channel cu128"
    )
    assert caught.value.code == Exit.USAGE


def test_what_is_no_version_or_channel_is_refused() -> None:
    with pytest.raises(BlackwheelError, match="'newest' is no version"):
        move_torch.asked(UNLOCKED.torch, "newest", "")
    with pytest.raises(BlackwheelError) as caught:
        nightly_index.channel_cuda("rocm6.4")
    assert str(caught.value) == (
        "error: unknown-channel\n"
        "  'rocm6.4' is no CUDA channel of the nightly index\n"
        "  where: --channel\n"
        "  fix:   --channel cu128, for CUDA 12.8"
    )


def test_day_of_a_nightly_is_in_its_version() -> None:
    assert nightly_index.build_date(Version(VERSION)) == date(2025, 10, 16)
    assert nightly_index.build_date(Version("2.11.0")) is None
    assert nightly_index.build_date(Version("2.11.0.dev20251399")) is None


def test_builds_are_nearest_by_day_and_the_newer_of_two_first(index: Index) -> None:
    index.nights(range(14, 19))
    del index.files[f"/whl/nightly/cu128/{NAME}"]
    known = nightly_index.listing(index.channel(), "torch", patience=Patience(tries=1))
    days = [
        str(version.dev)[-2:]
        for version in nightly_index.nearest(known, Version(VERSION), ["cp311"])
    ]
    assert days == ["17", "15", "18", "14"]


def test_wheel_of_unknown_size_is_archived_when_it_is_there(stack: Stack, kept: Archive) -> None:
    (wheel,) = stack.torch.wheels.values()
    unseen = replace(wheel, size=0, told_by="somebody")
    assert not kept.holds(unseen)
    kept.folder.mkdir(parents=True)
    (kept.folder / NAME).write_bytes(b"12345678")
    assert kept.holds(unseen)
    assert not kept.holds(wheel), "its size is known, and another"
