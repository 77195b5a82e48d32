"""Pinned wheels are asked for by one byte, against the nightly index in today's form."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nightly_index import PLATFORM
from todays_index import CHANNEL, TAG, Today, serving_today, stack_file

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.http import Patience
from blackwheel.core.site import Site
from blackwheel.pins import move_torch
from blackwheel.pytorch import archive, reach
from blackwheel.pytorch.archive import Archive
from blackwheel.stacks import loader
from blackwheel.stacks.records import Stack

ONCE = Patience(tries=2, connect=1, read=1, whole=1, pause=lambda _: None)


@pytest.fixture
def index() -> Iterator[Today]:
    with serving_today() as index:
        index.nightly(6)
        yield index


@pytest.fixture
def site(tmp_path: Path, index: Today) -> Site:
    """A stack of channel cu130, pinned to the only night; nothing of it is kept."""
    stack_file(tmp_path / "constraints", index, f"2.16.0.dev20261001+{CHANNEL}")
    made = Site(checkout=tmp_path, store=tmp_path / "store", environment={}, console=Quiet())
    move_torch.pin_torch(made, "mine", "latest", patience=ONCE)
    return replace(made, store=tmp_path / "empty")


def pinned(site: Site) -> Stack:
    return loader.load("mine", site.constraints)


def kept(site: Site, environment: dict[str, str] | None = None) -> Archive:
    return archive.archive(site.store, environment or {}, site.console, ONCE)


def refused(site: Site) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        reach.require(pinned(site), [TAG], kept(site), patience=ONCE)
    assert not site.store.exists()
    return caught.value


def name_of(version: str) -> str:
    return f"torch-{version}-{TAG}-{TAG}-{PLATFORM}.whl"


NAME = name_of(f"2.16.0.dev20261006+{CHANNEL}")
PLACE = f"/whl/nightly/{CHANNEL}/{NAME}"


def test_download_is_told_with_its_size_and_host(site: Site, index: Today) -> None:
    index.sent.clear()
    wanted = reach.require(pinned(site), [TAG, TAG], kept(site), patience=ONCE)
    names = {one.name for one in wanted.wheels}
    total = sum(len(file.data) for place, file in index.files.items() if Path(place).name in names)
    assert (len(names), wanted.total) == (3, total)
    assert str(wanted).startswith("torch, triton, torchvision: ")
    assert str(wanted).endswith(" KiB from localhost")
    assert index.sent == [], "no file was sent"
    index.ranges = False  # a host without ranges begins to send the file, and is left
    assert reach.require(pinned(site), [TAG], kept(site), patience=ONCE).total == total


def test_kept_wheels_are_not_asked_for(site: Site, index: Today, tmp_path: Path) -> None:
    index.asked.clear()
    there = kept(site, {"BLACKWHEEL_ARCHIVE": str(tmp_path / "store" / "torch")})
    assert reach.require(pinned(site), [TAG], there, patience=ONCE).wheels == ()
    assert index.asked == []


def test_host_that_is_not_there_is_one_error_with_the_address(site: Site, index: Today) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = site.constraints / "mine.toml"
    gone = f"http://127.0.0.1:{port}"
    path.write_text(path.read_text("utf-8").replace(index.files_root, gone), encoding="utf-8")
    assert str(refused(site)) == (
        "error: torch-out-of-reach\n"
        f"  torch 2.16.0.dev20261006+{CHANNEL} of stack 'mine' is not in the store, and the host of"
        " its pinned wheels gives none: Failed to establish a new connection: [Errno 111]"
        " Connection refused (2 tries)\n"
        f"  where: {gone}{PLACE.replace('+', '%2B')}\n"
        "  fix:   HTTPS_PROXY=ADDRESS where one is needed\n"
        "         or, with its wheels in a folder: export BLACKWHEEL_ARCHIVE=FOLDER"
    )
    assert refused(site).code == Exit.AWAY


def test_silent_host_is_not_waited_for(site: Site, index: Today) -> None:
    index.slow[NAME] = 30.0
    index.ranges = False  # the first bytes come at once: that is an answer
    reach.require(pinned(site), [TAG], kept(site), patience=ONCE)
    index.answers[NAME] = [503]
    assert refused(site).name == "torch-out-of-reach"


def test_gone_wheel_names_the_nearest_builds(site: Site, index: Today) -> None:
    del index.files[PLACE]
    index.nightly(9)
    error = refused(site)
    assert error.name == "torch-gone"
    assert error.fix == f"invoke pin torch 2.16.0.dev20261009+{CHANNEL} --stack mine"
    index.files.clear()
    assert refused(site).fact.endswith(f"nearest that serve {TAG}: none")
    index.pages["/torch/"] = "<html>a login</html>"
    assert refused(site).name == "torch-gone", "whatever the page says by now"


def test_longer_file_of_the_same_name_has_other_bytes(site: Site, index: Today) -> None:
    index.files[PLACE].data += b"\0"
    error = refused(site)
    assert error.name == "other-bytes"
    size = len(index.files[PLACE].data)
    assert f"found:  {size} bytes\nlocked: {size - 1} bytes, sha256 " in error.fact


def test_page_is_that_of_today(index: Today) -> None:
    """Or the tests above would see another index than people have."""
    for day in range(10, 31):
        for channel in ("cu130", "cu132", "cu134"):
            index.nightly(day, channel=channel)
    page = (index.page(f"/whl/nightly/{CHANNEL}/torch/") or b"").decode()
    assert page.count(f'<a href="{index.files_root}/whl/nightly/{CHANNEL}/torch-2.16.0') == 22
    assert "#sha256" not in page and page.count('data-core-metadata="sha256=') == 22
    assert "<!--TIMESTAMP" in page and index.files_root not in index.root
    root = (index.page("/whl/nightly/torch/") or b"").decode()
    assert root.count("<a href=") == 64, "of every channel"
    assert index.page(f"/whl/nightly/{CHANNEL}/triton/") is None
    assert index.page("/whl/nightly/triton/") and index.page("/whl/nightly/torchaudio/") is None


def test_sixty_versions_are_listed_over_all_channels(index: Today) -> None:
    data = index.files[PLACE].data
    for month, days in (("08", 31), ("09", 30)):
        for day in range(1, days + 1):
            channel = "cu132" if day % 2 else CHANNEL
            index.add(name_of(f"2.15.0.dev2026{month}{day:02}+{channel}"), data, channel=channel)
    root = (index.page("/whl/nightly/torch/") or b"").decode()
    assert root.count("<a href=") == 60
    own = (index.page(f"/whl/nightly/{CHANNEL}/torch/") or b"").decode()
    assert own.count("<a href=") == 30, "the other channel's nights count"
