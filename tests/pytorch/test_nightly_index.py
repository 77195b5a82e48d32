"""Pages of the nightly index as they are today: two of a package, 403, abi3, ended channels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nightly_index import PLATFORM, Index, serving, torch, wheel
from packaging.version import Version

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.http import Patience
from blackwheel.core.site import Site
from blackwheel.pins import move_torch
from blackwheel.pytorch import archive, nightly_index
from blackwheel.pytorch.nightly_index import Listing, Offer
from blackwheel.stacks import loader
from blackwheel.stacks.records import LockedWheel

PYTHON = f"3.{sys.version_info.minor}"
TAG = f"cp3{sys.version_info.minor}"
VERSION = "2.16.0.dev20261006+cu134"
TRITON = "3.9.0+gitaad2a60d"
OFTEN = "manylinux_2_27_x86_64.manylinux_2_28_x86_64"
ONCE = Patience(tries=1, pause=lambda _: None)
STACK = f"""\
description = "a channel"
python = ["{PYTHON}"]
archs = ["12.0a"]
driver = 580
glibc = "2.28"
build = []
projects = {{}}
[torch]
source = "index"
index = "INDEX"
channel = "cu134"
[toolchain]
source = "registry"
cuda = "13.4.1"
"""
OWN = 'version = "2.16.0.dev20261001+cu134"\nruntime = "2.16.0.dev20261001+cu134"\ncuda = "13.4"\n'


@pytest.fixture
def index() -> Iterator[Index]:
    """A channel with torch alone: triton lies at the root, torchaudio's pages are refused."""
    with serving() as index:
        data = torch(VERSION, cuda="13.4", requires=(f"triton=={TRITON}",))
        index.add(f"torch-{VERSION}-{TAG}-{TAG}-{PLATFORM}.whl", data, channel="cu134")
        name = f"triton-{TRITON}-{TAG}-{TAG}-{OFTEN}.whl"
        index.add(name, wheel("triton", TRITON), channel="")
        index.answers["/torchaudio/"] = [403]
        index.answers["/cu134/triton/"] = [403]
        yield index


@pytest.fixture
def site(tmp_path: Path, index: Index) -> Site:
    constraints = tmp_path / "constraints"
    (constraints / "mine").mkdir(parents=True)
    text = STACK.replace("INDEX", index.channel("").rstrip("/"))
    (constraints / "mine.toml").write_text(text, encoding="utf-8")
    (constraints / "mine" / "torch.toml").write_text(OWN, encoding="utf-8")
    return Site(checkout=tmp_path, store=tmp_path / "store", environment={}, console=Quiet())


def test_newest_of_a_channel_is_pinned_with_the_triton_of_the_root(site: Site) -> None:
    assert move_torch.pin_torch(site, "mine", "latest", patience=ONCE)
    found = loader.load("mine", site.constraints).torch
    assert (found.version, found.channel) == (VERSION, "cu134")
    wheel = found.wheels[TAG]
    assert [one.name.partition("-")[0] for one in wheel.by_url] == ["torch", "triton"]
    assert wheel.requires == (f"triton=={TRITON}",)
    text = (site.constraints / "mine.toml").read_text(encoding="utf-8")
    assert "20261006" not in text and "channel" in text


def test_hidden_triton_is_found_by_the_name_that_its_files_have(site: Site, index: Index) -> None:
    for file in index.files.values():
        file.listed = False
    index.answers.clear()
    assert move_torch.pin_torch(site, "mine", VERSION, patience=ONCE)
    wheel = loader.load("mine", site.constraints).torch.wheels[TAG]
    assert wheel.family[0].name.endswith(f"{OFTEN}.whl")


def test_refused_page_of_torch_itself_is_an_error(site: Site, index: Index) -> None:
    index.answers["/cu134/torch/"] = [403]
    with pytest.raises(BlackwheelError, match="index-refused"):
        move_torch.pin_torch(site, "mine", "latest", patience=ONCE)


def test_channel_that_ended_is_not_pinned_without_a_word(site: Site, index: Index) -> None:
    for day, cu in (("20261101", "cu132"), ("20261106", "cu136"), ("20261107", "rocm9")):
        version = f"2.17.0.dev{day}+{cu}"
        index.add(f"torch-{version}-{TAG}-{TAG}-{PLATFORM}.whl", torch(version), channel="")
    with pytest.raises(BlackwheelError) as caught:
        move_torch.pin_torch(site, "mine", "latest", patience=ONCE)
    assert caught.value.code == Exit.TORCH
    assert str(caught.value) == (
        "error: channel-ended\n"
        "  the newest build of cu134 is of 2026-10-06, and there were others since:\n"
        "  cu136 (2026-11-06)\n"
        f"  where: {index.channel('').rstrip('/')}\n"
        "  fix:   a stack of another CUDA, docs/nightly-stack.md; or name the build itself:"
        f" invoke pin torch {VERSION}"
    )
    assert move_torch.pin_torch(site, "mine", VERSION, patience=ONCE), "asked for by its name"


@pytest.mark.parametrize(
    ("pythons", "served"),
    [
        ({"cp312"}, ["cp312"]),
        ({"abi3-cp312"}, ["cp312", "cp313", "cp314"]),
        ({"py3"}, ["cp311", "cp312", "cp313", "cp314"]),
    ],
)
def test_wheel_of_the_stable_abi_serves_its_python_and_newer_ones(
    pythons: set[str], served: list[str]
) -> None:
    offer = Offer(name="a", url="b", version=Version("1"), pythons=frozenset(pythons))
    tags = ("cp311", "cp312", "cp313", "cp314")
    assert [tag for tag in tags if offer.fits(tag)] == served


def test_listed_wheel_of_the_stable_abi_is_offered(index: Index) -> None:
    name = f"triton-{TRITON}-cp311-abi3-{OFTEN}.whl"
    index.add(name, wheel("triton", TRITON), channel="cu134")
    index.answers.clear()
    known = nightly_index.listing(index.channel("cu134"), "triton", patience=ONCE)
    found = known.at(Version(TRITON), "cp313")
    assert found and found.name == name
    assert not known.at(Version(TRITON), "cp310")
    assert Listing(project="triton", index="", offers=()).at(Version(TRITON), "cp313") is None


def test_what_a_publisher_said_is_compared_when_the_wheel_comes(site: Site, index: Index) -> None:
    kept = archive.archive(site.store, {}, site.console, ONCE)
    move_torch.pin_torch(site, "mine", "latest", patience=ONCE)
    wheel = loader.load("mine", site.constraints).torch.wheels[TAG]
    told = LockedWheel(
        name=wheel.name,
        sha256=wheel.sha256,
        url=wheel.url,
        told_by="somebody",
        requires=wheel.requires,
        requires_python=wheel.requires_python,
    )
    offer = archive._offer(told)
    assert archive.take(offer, kept, locked=told).size == wheel.size
    lies = replace(told, requires=("numpy",), requires_python=">=3.99")
    with pytest.raises(BlackwheelError) as caught:
        archive.take(offer, kept, locked=lies)
    assert caught.value.fact.splitlines() == [
        f"{wheel.name} has the bytes that somebody published, and says else",
        f"requires triton=={TRITON}: not in the lock",
        "requires numpy: not in the wheel",
        "Python:  instead of >=3.99",
    ]


def test_download_whose_size_nobody_knows_is_bounded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST", 1000)
    with pytest.raises(BlackwheelError, match="too-long"):
        move_torch.pin_torch(site, "mine", "latest", patience=ONCE)
    assert not list((site.store / "torch").glob("*.whl*"))
