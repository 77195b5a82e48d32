"""`invoke pin torch` against a server that behaves like the nightly index."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nightly_index import GIT, PLATFORM, TRITON, Index, serving, torch, wheel

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.http import Patience
from blackwheel.core.site import Site
from blackwheel.pins import move_torch, pin
from blackwheel.pytorch import archive
from blackwheel.stacks import loader

CONSTRAINTS = Path(__file__).parents[2] / "constraints"
VERSION = "2.10.0.dev20251016+cu128"
NAME = f"torch-{VERSION}-cp311-cp311-{PLATFORM}.whl"
TRITON_NAME = f"pytorch_triton-{TRITON}-cp311-cp311-{PLATFORM}.whl"
VISION = "0.25.0.dev20251017+cu128"
VISION_NAME = f"torchvision-{VISION}-cp311-cp311-{PLATFORM}.whl"
DAMAGE = f"{NAME}: same name, other bytes; nothing was kept or pinned"


@pytest.fixture
def index() -> Iterator[Index]:
    """Five nights for Python 3.11, with what torch requires and a torchvision of the day after."""
    with serving() as index:
        index.nights(range(14, 19))
        index.add(NAME, torch(VERSION))
        index.add(TRITON_NAME, wheel("pytorch_triton", TRITON))
        index.add(VISION_NAME, wheel("torchvision", VISION, requires=(f"torch=={VERSION}",)))
        yield index


@pytest.fixture
def site(tmp_path: Path, index: Index) -> Site:
    """A checkout whose stack `nightly` names that server."""
    constraints = tmp_path / "checkout" / "constraints"
    constraints.mkdir(parents=True)
    text = (CONSTRAINTS / "report-2025-10.toml").read_text(encoding="utf-8")
    text = text.replace("https://download.pytorch.org/whl/nightly/cu128", index.channel())
    (constraints / "nightly.toml").write_text(text, encoding="utf-8")
    shutil.copy2(CONSTRAINTS / "torch211.toml", constraints)
    return Site(
        checkout=tmp_path / "checkout",
        store=tmp_path / "store",
        environment={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        console=Quiet(),
    )


def toml(site: Site) -> Path:
    return site.constraints / "nightly.toml"


def hurried(**changes: Any) -> Patience:
    return Patience(**{"tries": 3, "connect": 2, "read": 2, "pause": lambda _: None, **changes})


def pinned(site: Site, version: str = VERSION, **how: Any) -> bool:
    how = {"patience": hurried(), **how}
    return move_torch.pin_torch(site, "nightly", version, **how)


def refused(site: Site, version: str = VERSION, **how: Any) -> BlackwheelError:
    """Pin, expect an error, and that neither stack file nor archive changed by it."""
    before = toml(site).read_bytes()
    with pytest.raises(BlackwheelError) as caught:
        pinned(site, version, **how)
    assert toml(site).read_bytes() == before
    assert [path.name for path in site.constraints.iterdir() if path.name.startswith(".")] == []
    return caught.value


def quiet(site: Site) -> Quiet:
    assert isinstance(site.console, Quiet)
    return site.console


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def file_of(index: Index, name: str) -> bytes:
    return index.files[f"/whl/nightly/cu128/{name}"].data


# What is written


def test_pin_writes_what_was_seen_of_torch_and_of_what_belongs_to_it(
    site: Site, index: Index
) -> None:
    assert pinned(site)
    torch_pin = loader.load("nightly", site.constraints).torch
    locked = torch_pin.wheels["cp311"]
    data = file_of(index, NAME)
    assert (torch_pin.version, torch_pin.runtime, torch_pin.cuda) == (VERSION, VERSION, "12.8")
    assert (torch_pin.git_version, torch_pin.cxx11_abi) == (GIT, True)
    assert (locked.name, locked.sha256, locked.size) == (NAME, digest(data), len(data))
    assert locked.url == f"{index.channel()}/{NAME.replace('+', '%2B')}"
    assert [known.name for known in locked.family] == [TRITON_NAME, VISION_NAME]
    assert locked.family[0].sha256 == digest(file_of(index, TRITON_NAME))
    kept = site.store / "torch"
    assert sorted(path.name for path in kept.iterdir()) == sorted([NAME, TRITON_NAME, VISION_NAME])
    assert (
        "torchaudio: no nightly for cp311 requires exactly torch"
        f" {VERSION}: not locked" in quiet(site).lines
    )


def test_pin_keeps_comments_and_shows_the_difference(site: Site) -> None:
    before = toml(site).read_text(encoding="utf-8")
    pinned(site)
    after = toml(site).read_text(encoding="utf-8")
    gone = [line for line in before.splitlines() if line not in after.splitlines()]
    assert gone == []
    added = [line for line in after.splitlines() if line not in before.splitlines()]
    shown = [line[1:] for line in quiet(site).results.splitlines() if line.startswith("+")]
    assert set(added) <= set(shown)
    assert "[torch.wheels.cp311]" in added
    assert "[[torch.wheels.cp311.family]]" in added


def test_pinning_again_changes_nothing_and_downloads_nothing(site: Site, index: Index) -> None:
    pinned(site)
    before, index.asked = toml(site).read_bytes(), []
    assert not pinned(site)
    assert toml(site).read_bytes() == before
    assert quiet(site).results.endswith("constraints/nightly.toml: nothing changed\n")
    assert [path for path, _ in index.asked if path.endswith(".whl") and "audio" not in path] == []


def test_latest_is_the_newest_that_every_python_of_the_stack_has(site: Site, index: Index) -> None:
    toml(site).write_text(
        toml(site).read_text("utf-8").replace('python = ["3.11"]', 'python = ["3.11", "3.12"]')
    )
    for day in (15, 17):
        version = f"2.10.0.dev202510{day}+cu128"
        index.add(f"torch-{version}-cp312-cp312-{PLATFORM}.whl", torch(version, seed=day))
    index.add(TRITON_NAME.replace("cp311", "cp312"), wheel("pytorch_triton", TRITON))
    index.nights(range(17, 18))
    version = "2.10.0.dev20251017+cu128"
    index.add(f"torch-{version}-cp311-cp311-{PLATFORM}.whl", torch(version, seed=1))
    pinned(site, "latest")
    locked = loader.load("nightly", site.constraints).torch
    assert locked.version == version
    assert sorted(locked.wheels) == ["cp311", "cp312"]


def test_moving_the_pin_leaves_no_wheel_of_the_old_one(site: Site) -> None:
    pinned(site)
    assert pinned(site, "2.10.0.dev20251018+cu128")
    text = toml(site).read_text(encoding="utf-8")
    assert "20251016" not in text.split("[torch]")[1].split("[toolchain]")[0]
    assert VISION not in text  # it requires the torch of the 16th


def test_hidden_build_is_taken_from_its_address(site: Site, index: Index) -> None:
    for name in (NAME, TRITON_NAME, VISION_NAME):
        index.files[f"/whl/nightly/cu128/{name}"].listed = False
    pinned(site)
    locked = loader.load("nightly", site.constraints).torch.wheels["cp311"]
    assert locked.sha256 == digest(file_of(index, NAME))
    assert [known.name for known in locked.family] == [TRITON_NAME, VISION_NAME]


def test_page_lists_sixty_builds_and_the_sixty_first_is_still_reachable(
    site: Site, index: Index
) -> None:
    for day in range(60):
        version = f"2.11.0.dev2025{11 + day // 30}{1 + day % 30:02}+cu128"
        index.add(f"torch-{version}-cp311-cp311-{PLATFORM}.whl", b"of no concern")
    page = index.page("/whl/nightly/cu128/torch/")
    assert page and page.count(b"<a ") == 60 and b"20251016" not in page
    assert pinned(site)


def test_archive_folder_gets_the_wheels_and_serves_another_machine(
    site: Site, index: Index, tmp_path: Path
) -> None:
    shared = tmp_path / "shared wheels"
    pinned(site, archive_in=shared)
    assert (shared / NAME).read_bytes() == file_of(index, NAME)
    shutil.rmtree(site.store)
    index.files.clear()
    stack = loader.load("nightly", site.constraints)
    environment = {archive.CARRIED: str(shared)}
    kept = archive.archive(site.store, environment, site.console, hurried())
    paths = archive.obtain(stack, "cp311", kept)
    assert [path.name for path in paths] == [NAME, TRITON_NAME, VISION_NAME]
    assert paths[0].read_bytes() == (shared / NAME).read_bytes()


def test_build_takes_the_archived_wheel_without_any_request(site: Site, index: Index) -> None:
    pinned(site)
    index.asked.clear()
    stack = loader.load("nightly", site.constraints)
    archive.obtain(stack, "cp311", archive.archive(site.store, {}, site.console, hurried()))
    assert index.asked == []


# Downloads


def test_cut_download_continues_where_it_ended(site: Site, index: Index) -> None:
    index.cuts[NAME] = [100_000, 250_000]
    pinned(site)
    ranges = [headers.get("Range") for headers in index.requests_for(NAME)]
    assert ranges == [None, "bytes=100000-", "bytes=250000-"]
    assert [first for name, first in index.sent if name == NAME] == [0, 100_000, 250_000]
    locked = loader.load("nightly", site.constraints).torch.wheels["cp311"]
    assert locked.sha256 == digest(file_of(index, NAME))


def test_stopped_download_is_continued_by_the_next_run(site: Site, index: Index) -> None:
    index.cuts[NAME] = [100_000]

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pinned(site, patience=hurried(pause=stop))
    assert not (site.store / "torch" / NAME).exists()
    pinned(site)
    assert [headers.get("Range") for headers in index.requests_for(NAME)][-1] == "bytes=100000-"


def test_file_that_changed_between_two_halves_is_taken_whole(site: Site, index: Index) -> None:
    index.cuts[NAME] = [100_000]
    index.files[f"/whl/nightly/cu128/{NAME}"].claim = ""

    def change(_: float) -> None:
        index.files[f"/whl/nightly/cu128/{NAME}"].data = torch(VERSION, seed=9)

    pinned(site, patience=hurried(pause=change))
    locked = loader.load("nightly", site.constraints).torch.wheels["cp311"]
    assert locked.sha256 == digest(torch(VERSION, seed=9))
    assert [headers.get("Range") for headers in index.requests_for(NAME)] == [None, "bytes=100000-"]


def test_without_a_validator_a_cut_download_begins_again(site: Site, index: Index) -> None:
    index.validators, index.cuts[NAME] = False, [100_000]
    pinned(site)
    assert [headers.get("Range") for headers in index.requests_for(NAME)] == [None, None]


def test_server_that_ignores_ranges_is_borne(site: Site, index: Index) -> None:
    index.ranges, index.cuts[NAME] = False, [100_000]
    pinned(site)
    assert loader.load("nightly", site.constraints).torch.wheels["cp311"].sha256 == digest(
        file_of(index, NAME)
    )


def test_slow_server_is_waited_for_and_a_silent_one_is_not(site: Site, index: Index) -> None:
    index.slow[NAME] = 0.3
    pinned(site, patience=hurried(read=2))
    shutil.rmtree(site.store)
    index.slow[NAME] = 1.0
    error = refused(site, patience=hurried(read=0.2, tries=2))
    assert (error.name, error.fact) == (
        "no-answer",
        "the index gave no file: no answer in time (2 tries)",
    )


def test_busy_server_is_asked_again_after_growing_pauses(site: Site, index: Index) -> None:
    index.answers[NAME] = [503, 503, 200]
    pauses: list[float] = []
    pinned(site, patience=hurried(pause=pauses.append))
    assert pauses == [1.0, 2.0]


# Ten faults: none ends in a wrong pin or a half-written file


def claim_wrong(index: Index) -> None:
    index.files[f"/whl/nightly/cu128/{NAME}"].claim = "0" * 64


def replace_torch(**how: Any) -> Callable[[Index], None]:
    def fault(index: Index) -> None:
        index.add(NAME, torch(VERSION, **how))

    return fault


def serve_html_as_file(index: Index) -> None:
    index.pages[NAME] = "<html>please log in</html>"


def serve_html_as_page(index: Index) -> None:
    index.pages["/torch/"] = "<html><a href='/login'>please log in</a></html>"


def answer(end: str, code: int) -> Callable[[Index], None]:
    def fault(index: Index) -> None:
        index.answers[end] = [code]

    return fault


def damage(index: Index) -> None:
    data = bytearray(torch(VERSION))
    data[150_000] ^= 1
    index.add(NAME, bytes(data))


def cut_file(index: Index) -> None:
    index.add(NAME, torch(VERSION)[:200_000], claim="")


def always_cut(index: Index) -> None:
    index.cuts[NAME] = [100_000] * 99


def remove_triton(index: Index) -> None:
    del index.files[f"/whl/nightly/cu128/{TRITON_NAME}"]


FAULTS: dict[str, tuple[Callable[[Index], None], str]] = {
    "claimed digest is another": (claim_wrong, "other-bytes"),
    "METADATA says another version": (
        replace_torch(says="2.10.0.dev20251015+cu128"),
        "not-a-wheel",
    ),
    "__version__ is another": (replace_torch(runtime="2.10.0.dev20251015+cu128"), "other-torch"),
    "CUDA is another": (replace_torch(cuda="13.0"), "other-torch"),
    "version.py is missing": (replace_torch(without="torch/version.py"), "not-a-torch"),
    "no git_version": (replace_torch(git=""), "not-a-torch"),
    "a byte is damaged": (damage, "not-a-wheel"),
    "the file is cut": (cut_file, "not-a-wheel"),
    "every download is cut": (always_cut, "no-answer"),
    "HTML instead of the wheel": (serve_html_as_file, "not-a-file"),
    "HTML instead of the page": (serve_html_as_page, "not-an-index"),
    "the page answers 403": (answer("/torch/", 403), "index-refused"),
    "the page answers 503": (answer("/torch/", 503), "no-answer"),
    "the wheel answers 404": (answer(NAME, 404), "torch-gone"),
    "triton is nowhere": (remove_triton, "family-gone"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_leaves_the_stack_file_as_it_was(site: Site, index: Index, fault: str) -> None:
    inject, name = FAULTS[fault]
    inject(index)
    assert refused(site).name == name
    kept = site.store / "torch" / NAME
    assert not kept.exists() or kept.read_bytes() == file_of(index, NAME)


def test_disk_that_fills_while_the_stack_file_is_written_leaves_the_old_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    pinned(site)
    before = toml(site).read_bytes()
    monkeypatch.setattr("blackwheel.core.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        pinned(site, "2.10.0.dev20251018+cu128")
    assert toml(site).read_bytes() == before
    assert sorted(p.name for p in site.constraints.iterdir()) == ["nightly.toml", "torch211.toml"]


# Whole messages


def test_gone_build_names_the_nearest_and_the_command(site: Site, index: Index) -> None:
    del index.files[f"/whl/nightly/cu128/{NAME}"]
    error = refused(site)
    assert str(error) == (
        "error: torch-gone\n"
        f"  torch {VERSION} for cp311 is not listed, not at its address and not archived\n"
        "  nearest that serve cp311: 2.10.0.dev20251014+cu128, 2.10.0.dev20251015+cu128,"
        " 2.10.0.dev20251017+cu128, 2.10.0.dev20251018+cu128\n"
        f"  where: {index.channel()}\n"
        "  fix:   invoke pin torch 2.10.0.dev20251017+cu128 --stack nightly"
    )
    assert error.code == Exit.TORCH


def test_other_bytes_of_a_locked_name_stop_with_both_digests(site: Site, index: Index) -> None:
    pinned(site)
    locked = digest(file_of(index, NAME))
    index.add(NAME, torch(VERSION, seed=7))
    found = digest(file_of(index, NAME))
    for claim in (None, ""):  # what the index claims, or what it serves
        index.files[f"/whl/nightly/cu128/{NAME}"].claim = claim
        if claim == "":
            shutil.rmtree(site.store)
        error = refused(site)
        assert str(error) == (
            "error: other-bytes\n"
            f"  {DAMAGE}\n"
            f"  found:  {found}\n"
            f"  locked: {locked}\n"
            f"  where: {index.channel()}/{NAME.replace('+', '%2B')}\n"
            "  fix:   find out who changed the file; to take another build:"
            " invoke pin torch VERSION"
        )
        assert error.code == Exit.TORCH
    assert not (site.store / "torch" / NAME).exists()


def test_build_stops_at_other_bytes_than_locked(site: Site, index: Index) -> None:
    pinned(site)
    shutil.rmtree(site.store)
    index.add(NAME, torch(VERSION, seed=7))
    stack = loader.load("nightly", site.constraints)
    kept = archive.archive(site.store, {}, site.console, hurried())
    with pytest.raises(BlackwheelError) as caught:
        archive.obtain(stack, "cp311", kept)
    assert caught.value.name == "other-bytes"
    assert [path.name for path in kept.folder.iterdir()] == []


def test_archived_file_that_changed_is_named_with_both_digests(site: Site, index: Index) -> None:
    pinned(site)
    place = site.store / "torch" / NAME
    place.write_bytes(b"other")
    error = refused(site)
    assert str(error) == (
        "error: other-bytes\n"
        f"  {NAME}: the archived file is not the locked one\n"
        f"  found:  {digest(b'other')}\n"
        f"  locked: {digest(file_of(index, NAME))}\n"
        f"  where: {place}\n"
        f"  fix:   rm '{place}', then the same command again"
    )


def test_build_of_a_gone_and_lost_wheel_names_the_nearest(site: Site, index: Index) -> None:
    pinned(site)
    shutil.rmtree(site.store)
    del index.files[f"/whl/nightly/cu128/{NAME}"]
    stack = loader.load("nightly", site.constraints)
    with pytest.raises(BlackwheelError) as caught:
        archive.obtain(stack, "cp311", archive.archive(site.store, {}, site.console, hurried()))
    assert caught.value.fix == "invoke pin torch 2.10.0.dev20251017+cu128 --stack nightly"


def test_missing_python_is_named_with_builds_that_have_all(site: Site, index: Index) -> None:
    text = toml(site).read_text("utf-8").replace('["3.11"]', '["3.11", "3.13"]')
    toml(site).write_text(text, "utf-8")
    version = "2.10.0.dev20251014+cu128"
    index.add(f"torch-{version}-cp313-cp313-{PLATFORM}.whl", torch(version, seed=1))
    index.add(f"torch-{VERSION}-cp313-cp313t-{PLATFORM}.whl", torch(VERSION, seed=1))
    error = refused(site)
    assert error.fact == (
        f"torch {VERSION} for cp313 is not listed, not at its address and not archived\n"
        f"nearest that serve cp311, cp313: {version}"
    )
    assert error.fix == f"invoke pin torch {version} --stack nightly"


def test_two_pythons_with_two_torches_are_refused(site: Site, index: Index) -> None:
    text = toml(site).read_text("utf-8").replace('["3.11"]', '["3.11", "3.12"]')
    toml(site).write_text(text, "utf-8")
    other = NAME.replace("cp311", "cp312")
    index.add(other, torch(VERSION, git="f" * 40, abi="0"))
    assert str(refused(site)) == (
        "error: other-torch\n"
        "  the wheels are not the torch that was asked for\n"
        f"  {other}: C++11 ABI: False instead of True\n"
        f"  {other}: git_version: {'f' * 40} instead of {GIT}\n"
        f"  where: {index.channel()}\n"
        "  fix:   pin another build: invoke pin torch VERSION"
    )


def test_html_page_and_refusal_say_what_to_do(site: Site, index: Index) -> None:
    index.answers["/torch/"] = [403]
    assert str(refused(site)) == (
        "error: index-refused\n"
        "  the index answers 403 Forbidden\n"
        f"  where: {index.channel()}/torch/\n"
        "  fix:   open the address in a browser; a proxy may want to be named: HTTPS_PROXY"
    )
    del index.answers["/torch/"]
    serve_html_as_page(index)
    assert str(refused(site)) == (
        "error: not-an-index\n"
        "  the page lists no torch wheel for Linux on x86-64: a login or an error page?\n"
        f"  where: {index.channel()}/torch/\n"
        "  fix:   open the address in a browser, and correct torch.index in the stack file"
    )


def test_family_of_another_torch_is_not_locked(site: Site, index: Index) -> None:
    other = wheel("torchvision", VISION, requires=("torch==2.10.0.dev20251017+cu128",))
    index.add(VISION_NAME, other)
    alone = "Metadata-Version: 2.1\nName: torchvision\nVersion: {}\nRequires-Dist: {}\n\n"
    index.files[f"/whl/nightly/cu128/{VISION_NAME}"].metadata = alone.format(
        VISION, f"torch=={VERSION}"
    ).encode()  # a lying sidecar: the wheel itself decides
    pinned(site)
    family = loader.load("nightly", site.constraints).torch.wheels["cp311"].family
    assert [known.name for known in family] == [TRITON_NAME]


def test_wheel_that_is_not_what_its_name_says_is_not_kept(site: Site, index: Index) -> None:
    index.add(NAME, torch(VERSION, says="2.10.0.dev20251015+cu128"))
    assert str(refused(site)) == (
        "error: not-a-wheel\n"
        f"  {NAME} is not the wheel that its name says: its METADATA says torch"
        " 2.10.0.dev20251015+cu128\n"
        f"  where: {NAME}\n"
        "  fix:   the same command again; nothing was kept or pinned"
    )
    assert [path.name for path in (site.store / "torch").iterdir()] == []


def test_wheel_without_its_version_file_is_no_torch(site: Site, index: Index) -> None:
    index.add(NAME, torch(VERSION, without="torch/share/cmake/Torch/TorchConfig.cmake"))
    error = refused(site)
    assert error.name == "not-a-torch"
    assert "TorchConfig.cmake" in error.fact
    index.add(NAME, torch(VERSION, git=""))
    shutil.rmtree(site.store)
    assert str(refused(site)) == (
        "error: not-a-torch\n"
        f"  {NAME} does not tell which torch it is: torch/version.py names no git_version\n"
        f"  where: {NAME}\n"
        "  fix:   pin another build: invoke pin torch latest"
    )


def test_web_page_in_the_place_of_a_wheel_is_not_kept(site: Site, index: Index) -> None:
    serve_html_as_file(index)
    assert str(refused(site)) == (
        "error: not-a-file\n"
        "  the server answers with a web page where a wheel is asked for: a login or an error\n"
        f"  where: {index.channel()}/{NAME.replace('+', '%2B')}\n"
        "  fix:   open the address in a browser; a proxy may want to be named: HTTPS_PROXY"
    )


def test_index_that_stays_busy_is_named_after_the_last_try(site: Site, index: Index) -> None:
    index.answers["/torch/"] = [503]
    assert str(refused(site)) == (
        "error: no-answer\n"
        "  the index gave no file: answers 503 Service Unavailable (3 tries)\n"
        f"  where: {index.channel()}/torch/\n"
        "  fix:   the same command again, which continues; or HTTPS_PROXY=ADDRESS where one is"
        " needed"
    )


def test_torch_whose_triton_is_nowhere_is_not_pinned(site: Site, index: Index) -> None:
    remove_triton(index)
    assert str(refused(site)) == (
        "error: family-gone\n"
        f"  torch requires pytorch-triton {TRITON}, which is not listed for cp311, not at its"
        " address and not archived\n"
        f"  where: {index.channel()}/pytorch-triton/\n"
        "  fix:   pin another night, whose triton is there: invoke pin torch VERSION"
    )


def test_triton_one_level_above_its_channel_is_found(site: Site, index: Index) -> None:
    file = index.files.pop(f"/whl/nightly/cu128/{TRITON_NAME}")
    index.files[f"/whl/nightly/{TRITON_NAME}"] = file
    pinned(site)
    family = loader.load("nightly", site.constraints).torch.wheels["cp311"].family
    assert family[0].url == f"{index.root}/whl/nightly/{TRITON_NAME.replace('+', '%2B')}"


def test_channel_without_any_build_names_the_channel(site: Site, index: Index) -> None:
    index.files.clear()
    assert str(refused(site, "latest")) == (
        "error: no-nightly\n"
        "  the index lists no torch of cu128 for cp311\n"
        f"  where: {index.channel()}\n"
        "  fix:   name another --channel, or fewer Pythons in the stack file"
    )


def test_torch_of_another_cuda_than_the_toolchain_is_refused_before_the_download(
    site: Site, index: Index
) -> None:
    assert str(refused(site, "latest", channel="cu130")) == (
        "error: other-cuda\n"
        "  torch of channel cu130 is built with CUDA 13.0, stack 'nightly' compiles with"
        " CUDA 12.8\n"
        "  where: constraints/nightly.toml, toolchain.cuda\n"
        "  fix:   docs/nightly-stack.md: a stack of your own for another CUDA"
    )
    assert index.asked == []


def test_stack_whose_torch_is_elsewhere_says_where_to_pin_it(site: Site) -> None:
    (site.constraints / "mine.toml").write_text('extends = "nightly"\n', encoding="utf-8")
    with pytest.raises(BlackwheelError) as caught:
        move_torch.pin_torch(site, "mine", VERSION)
    assert str(caught.value) == (
        "error: cannot-pin\n"
        "  stack 'mine' has the torch of stack 'nightly'\n"
        "  where: constraints/mine.toml, extends\n"
        "  fix:   give it a [torch] table of its own, as docs/add-a-stack.md does; or move that"
        " one: invoke pin torch latest --stack nightly"
    )
    with pytest.raises(BlackwheelError) as caught:
        move_torch.pin_torch(site, "torch211", "2.12.0")
    assert str(caught.value) == (
        "error: cannot-pin\n"
        "  stack 'torch211' takes torch from the package registry: its locks hold it\n"
        "  where: constraints/torch211.toml, torch.source\n"
        "  fix:   nox -s lock"
    )


def test_other_pins_than_torch_are_refused(site: Site) -> None:
    with pytest.raises(BlackwheelError) as caught:
        pin.pin(site, "tourch", VERSION, stack="nightly")
    assert str(caught.value) == (
        "error: cannot-pin\n"
        "  'tourch' is no pin that can be moved; did you mean 'torch'?\n"
        "  where: invoke pin\n"
        "  fix:   one of: torch, flash-attn, vllm"
    )


def test_password_of_an_index_is_neither_written_nor_shown(site: Site, index: Index) -> None:
    text = toml(site).read_text(encoding="utf-8").replace("http://", "http://me:secret@")
    toml(site).write_text(text, encoding="utf-8")
    pinned(site)
    torch_pin = loader.load("nightly", site.constraints).torch
    assert "secret" not in torch_pin.wheels["cp311"].url
    index.answers["/torch/"] = [403]
    said = quiet(site).results + "\n".join(quiet(site).lines)
    assert "secret" not in said + str(refused(site))


def test_stack_that_extends_another_gets_a_torch_of_its_own(site: Site, index: Index) -> None:
    channel, version = index.channel("cu130"), "2.16.0.dev20261007+cu130"
    index.add(
        f"torch-{version}-cp312-cp312-{PLATFORM}.whl",
        torch(version, cuda="13.0", requires=()),
        channel="cu130",
    )
    text = (
        'extends = "torch211"\ndescription = "mine"\npython = ["3.12"]\n\n[torch]\n'
        f'version = "{version}"\nruntime = "{version}"\ncuda = "13.0"\nsource = "index"\n'
        f'index = "{channel}"\n'
    )
    (site.constraints / "mine.toml").write_text(text, encoding="utf-8")
    move_torch.pin_torch(site, "mine", "latest", patience=hurried())
    after = (site.constraints / "mine.toml").read_text(encoding="utf-8")
    assert after.startswith(text)
    stack = loader.load("mine", site.constraints)
    assert stack.torch.git_version == GIT
    assert list(stack.torch.wheels) == ["cp312"]
