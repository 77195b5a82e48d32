from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import pytest
from uv import find_uv_bin
from wheel.wheelfile import WheelFile

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import TEMPORARY
from blackwheel.receipts import document
from blackwheel.shelf import index, landing_page, verify_pages

LABEL = "cu130torch2.11.0.sm120a"
MOMENT = datetime(2025, 10, 20, 12, 30, tzinfo=UTC)


def make_wheel(
    folder: Path, version: str, *, name: str = "toy", requires: str = "", padding: int = 0
) -> Path:
    """A real wheel whose module says its version."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nRequires-Python: >=3.11\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    with WheelFile(path, "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", f"version = {version!r}\n")
        if padding:
            wheel.writestr(f"{name}/padding", random.Random(version).randbytes(padding))  # noqa: S311
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
    return path


def receipt_of(wheel: Path) -> document.Document:
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return document.receipt(wheel.name, sha256, {"stack": {"name": "toy"}})


def shelve(wheel: Path, shelf: Path) -> index.ShelvedWheel:
    return index.shelve(wheel, receipt_of(wheel), shelf, now=MOMENT)


class Anchors(HTMLParser):
    """The links of a page of the simple API."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append(dict(attrs))


def assert_whole(shelf: Path, built: dict[str, Path]) -> None:
    """What holds at every moment: no torn wheel, and a listed wheel has all that belongs to it."""
    for wheel in shelf.glob("*.whl"):
        assert wheel.read_bytes() == built[wheel.name].read_bytes()
    for page in shelf.glob("simple/*/index.html"):
        for anchor in Anchors(page).found:
            url, _, digest = str(anchor["href"]).partition("#sha256=")
            wheel = page.parent / unquote(url)
            assert hashlib.sha256(wheel.read_bytes()).hexdigest() == digest
            metadata = wheel.with_name(wheel.name + ".metadata").read_bytes()
            assert anchor["data-core-metadata"] == f"sha256={hashlib.sha256(metadata).hexdigest()}"
            assert metadata == metadata_of(wheel)
    for wheel in index.shelved(shelf):
        assert wheel.path.name in (shelf / "simple" / "toy" / "index.html").read_text("utf-8")
        receipt = document.load(wheel.receipt)
        assert document.verify(receipt, wheel.path, stages=("stack",)) == ()


def metadata_of(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read("-".join(wheel.name.split("-")[:2]) + ".dist-info/METADATA")


# Pages


def test_shelf_holds_wheel_metadata_receipt_and_pages(tmp_path: Path) -> None:
    wheel, shelf = make_wheel(tmp_path, f"1.0+{LABEL}.1"), tmp_path / "shelf"
    put = shelve(wheel, shelf)
    assert {str(path.relative_to(shelf)) for path in shelf.rglob("*") if path.is_file()} == {
        ".lock",
        wheel.name,
        f"{wheel.name}.metadata",
        f"{wheel.name}.receipt.json",
        f"{wheel.name}.html",
        "index.html",
        "simple/index.html",
        "simple/index.json",
        "simple/toy/index.html",
        "simple/toy/index.json",
    }
    assert put.path.read_bytes() == wheel.read_bytes()
    assert put.metadata.read_bytes() == metadata_of(wheel)
    assert document.load(put.receipt) == receipt_of(wheel)
    assert index.shelved(shelf) == (put,)
    assert oct(put.path.stat().st_mode & 0o777) == "0o644"


def test_set_of_wheels_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def counted(what: str, draw: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *words: (drawn.append(what), draw(*words))[1]

    for module, name in (
        (index, "simple_page"),
        (landing_page, "_shelf_page"),
        (landing_page, "facts"),
    ):
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    names = [("toy", "1.0"), ("other", "1.0"), ("toy", "2.0"), ("toy", "3.0")]
    files = [make_wheel(tmp_path, version, name=name) for name, version in names]
    shelf = tmp_path / "shelf"
    put = index.shelve_all([(file, receipt_of(file)) for file in files], shelf)
    assert [one.path.name for one in put] == [file.name for file in files]
    assert set(index.shelved(shelf)) == set(put)
    assert sorted(drawn) == ["_shelf_page"] + ["facts"] * 4 + ["simple_page"] * 2


def test_json_page_says_what_pep_691_700_and_714_ask_for(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, f"1.0+{LABEL}.1")
    put = shelve(wheel, tmp_path / "shelf")
    page = json.loads((tmp_path / "shelf/simple/toy/index.json").read_text("utf-8"))
    assert page == {
        "meta": {"api-version": "1.1"},
        "name": "toy",
        "versions": [f"1.0+{LABEL}.1"],
        "files": [
            {
                "filename": wheel.name,
                "url": f"../../toy-1.0%2B{LABEL}.1-py3-none-any.whl",
                "hashes": {"sha256": put.sha256},
                "core-metadata": {"sha256": put.metadata_sha256},
                "requires-python": ">=3.11",
                "size": wheel.stat().st_size,
                "upload-time": "2025-10-20T12:30:00.000000Z",
            }
        ],
    }
    root = json.loads((tmp_path / "shelf/simple/index.json").read_text("utf-8"))
    assert root == {"meta": {"api-version": "1.1"}, "projects": [{"name": "toy"}]}


def test_html_page_says_what_pep_503_and_714_ask_for(tmp_path: Path) -> None:
    put = shelve(make_wheel(tmp_path, f"1.0+{LABEL}.1"), tmp_path / "shelf")
    assert Anchors(tmp_path / "shelf/simple/toy/index.html").found == [
        {
            "href": f"../../toy-1.0%2B{LABEL}.1-py3-none-any.whl#sha256={put.sha256}",
            "data-requires-python": ">=3.11",
            "data-core-metadata": f"sha256={put.metadata_sha256}",
        }
    ]
    assert Anchors(tmp_path / "shelf/simple/index.html").found == [{"href": "toy/"}]


@pytest.mark.parametrize(
    ("form", "mark"), [("json", "true"), ("json", '"a \\"bad\\" kernel"'), ("html", '""')]
)
def test_mark_of_a_yanked_wheel_stays_in_both_pages(tmp_path: Path, form: str, mark: str) -> None:
    shelf, reason = tmp_path / "shelf", json.loads(mark)
    bad, good = (make_wheel(tmp_path, f"1.0+{LABEL}.{n}") for n in (1, 2))
    shelve(bad, shelf)
    page = shelf / "simple" / "toy" / f"index.{form}"
    words = reason if isinstance(reason, str) else ""
    old, new = {
        "json": ('"size"', f'"yanked": {mark},\n      "size"'),
        "html": ("<a ", f'<a data-yanked="{escape(words)}" '),
    }[form]
    page.write_text(page.read_text("utf-8").replace(old, new), "utf-8")
    shelve(make_wheel(tmp_path, "2.0", name="other"), shelf)  # another project's page
    shelve(good, shelf)
    shelve(bad, shelf)
    shelved = index.shelved(shelf)
    assert [one.yanked for one in shelved if one.project == "toy"] == [words or True, False]
    listed = json.loads((shelf / "simple" / "toy" / "index.json").read_text("utf-8"))["files"]
    assert [one.get("yanked") for one in listed] == [words or True, None]
    anchors = Anchors(shelf / "simple" / "toy" / "index.html").found
    assert [one.get("data-yanked") for one in anchors] == [words, None]
    assert [check.what for check in verify_pages.page_checks(shelf) if check.ok is False] == []
    index.withdraw(shelved[-1], shelf)
    assert index.shelved(shelf)[-1].yanked == (words or True)


def test_mark_in_one_page_alone_is_a_fault_until_the_shelf_is_written(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelve(make_wheel(tmp_path, f"1.0+{LABEL}.1"), shelf)
    page = shelf / "simple" / "toy" / "index.html"
    page.write_text(page.read_text("utf-8").replace("<a ", '<a data-yanked="" '), "utf-8")
    faults = {check.what for check in verify_pages.page_checks(shelf) if check.ok is False}
    assert faults == {"toy/index.html line 7", "toy/index.json line 21"}
    shelve(make_wheel(tmp_path, "2.0", name="other"), shelf)
    assert [check.what for check in verify_pages.page_checks(shelf) if check.ok is False] == []


def test_pages_do_not_depend_on_the_order_of_shelving(tmp_path: Path) -> None:
    wheels = [make_wheel(tmp_path, f"1.0+{LABEL}.{n}") for n in (9, 10)]
    other = make_wheel(tmp_path, "2.0", name="a_toy")
    for shelf, order in (("one", [*wheels, other]), ("two", [other, *reversed(wheels)])):
        for wheel in order:
            shelve(wheel, tmp_path / shelf)
    for page in ("index.html", "toy/index.html", "toy/index.json", "a-toy/index.json"):
        assert (tmp_path / "one/simple" / page).read_bytes() == (
            tmp_path / "two/simple" / page
        ).read_bytes()
    versions = [wheel.version for wheel in index.shelved(tmp_path / "one")]
    assert versions == ["2.0", f"1.0+{LABEL}.9", f"1.0+{LABEL}.10"]


def test_wheel_deleted_by_hand_is_off_the_shelf_and_off_the_next_page(tmp_path: Path) -> None:
    old, new = (make_wheel(tmp_path, f"1.0+{LABEL}.{n}") for n in (1, 2))
    shelf = tmp_path / "shelf"
    shelve(old, shelf).path.unlink()
    assert index.shelved(shelf) == ()
    shelve(new, shelf)
    assert old.name not in (shelf / "simple/toy/index.html").read_text("utf-8")


def test_empty_shelf_holds_nothing(tmp_path: Path) -> None:
    assert index.shelved(tmp_path / "none") == ()


def test_another_reader_understands_both_pages(tmp_path: Path) -> None:
    from pypi_simple import ProjectPage

    put = shelve(make_wheel(tmp_path, f"1.0+{LABEL}.1"), tmp_path / "shelf")
    folder = tmp_path / "shelf/simple/toy"
    pages = [
        ProjectPage.from_json_data(
            json.loads((folder / "index.json").read_text("utf-8")), base_url=f"{folder.as_uri()}/"
        ),
        ProjectPage.from_html(
            "toy", (folder / "index.html").read_text("utf-8"), f"{folder.as_uri()}/"
        ),
    ]
    for page in pages:
        (package,) = page.packages
        assert package.version == f"1.0+{LABEL}.1"
        assert unquote(package.url) == f"{folder.as_uri()}/../../{put.path.name}".replace(
            "/simple/toy/../..", ""
        )
        assert package.digests == {"sha256": put.sha256}
        assert package.metadata_digests == {"sha256": put.metadata_sha256}
        assert package.requires_python == ">=3.11"
    assert pages[0].packages[0].size == put.size
    assert pages[0].packages[0].upload_time == MOMENT


# Refusals


def refusal(call: Callable[[], Any]) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        call()
    return caught.value


def test_same_bytes_again_change_nothing(tmp_path: Path) -> None:
    wheel, shelf = make_wheel(tmp_path, f"1.0+{LABEL}.1"), tmp_path / "shelf"
    first = shelve(wheel, shelf)
    before = {path: path.stat().st_mtime_ns for path in shelf.rglob("*.html")}
    inode = first.path.stat().st_ino
    again = index.shelve(wheel, receipt_of(wheel), shelf, now=datetime.now(UTC))
    assert again == first
    assert first.path.stat().st_ino == inode
    assert {path: path.stat().st_mtime_ns for path in shelf.rglob("*.html")} == before


def test_other_bytes_under_one_name_are_refused_with_both_digests(tmp_path: Path) -> None:
    shelf = tmp_path / "wheels" / "stable"
    first = make_wheel(tmp_path / "a", f"1.0+{LABEL}.1", name="flash_attn")
    other = make_wheel(tmp_path / "b", f"1.0+{LABEL}.1", name="flash_attn", padding=9)
    shelve(first, shelf)
    before = {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()}
    error = refusal(lambda: shelve(other, shelf))
    assert error.code is Exit.INDEX
    assert str(error) == (
        "error: other-bytes\n"
        f"  flash_attn-1.0+{LABEL}.1-py3-none-any.whl is on the shelf with other bytes\n"
        f"  there: sha256 {hashlib.sha256(first.read_bytes()).hexdigest()}\n"
        f"  new:   sha256 {hashlib.sha256(other.read_bytes()).hexdigest()}\n"
        f"  where: {shelf / first.name}\n"
        "  fix:   raise projects.flash-attn.revision in constraints/stable.toml and build again"
    )
    assert {path: path.read_bytes() for path in shelf.rglob("*") if path.is_file()} == before


def test_receipt_of_another_wheel_is_refused(tmp_path: Path) -> None:
    wheel, other = (make_wheel(tmp_path, f"1.0+{LABEL}.{n}") for n in (1, 2))
    error = refusal(lambda: index.shelve(wheel, receipt_of(other), tmp_path / "shelf"))
    assert error.code is Exit.INDEX
    assert str(error) == (
        "error: wrong-receipt\n"
        "  the receipt is not that of this wheel:\n"
        f"  it is about {other.name}\n"
        f"    sha256 {hashlib.sha256(other.read_bytes()).hexdigest()}\n"
        f"  not {wheel.name}\n"
        f"    sha256 {hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
        f"  where: {wheel.name}\n"
        "  fix:   invoke build-wheels --again"
    )
    assert not (tmp_path / "shelf").exists()


def test_value_that_is_no_receipt_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "1.0")
    error = refusal(lambda: index.shelve(wheel, {"audit": "passed"}, tmp_path / "shelf"))
    assert error.name == "wrong-receipt"
    assert "_type: not https://in-toto.io/Statement/v1" in error.fact


def bad_wheels(folder: Path) -> dict[str, tuple[Path, str]]:
    renamed = make_wheel(folder, "1.0").rename(folder / "toy-2.0-py3-none-any.whl")
    cut = make_wheel(folder, "1.1", padding=5000)
    cut.write_bytes(cut.read_bytes()[:3000])
    page = folder / "toy-1.2-py3-none-any.whl"
    page.write_text("<html>Log in</html>")
    bare = folder / "toy-1.3-py3-none-any.whl"
    with zipfile.ZipFile(bare, "w") as archive:
        archive.writestr("toy.py", "")
    unnamed = make_wheel(folder, "1.4").rename(folder / "toy.whl")
    return {
        "renamed": (renamed, "METADATA says toy 1.0, unlike the file name"),
        "cut": (cut, "File is not a zip file"),
        "page": (page, "File is not a zip file"),
        "bare": (bare, "holds 0 .dist-info/METADATA, not one"),
        "unnamed": (
            unnamed,
            "Invalid wheel filename (wrong number of parts): 'toy'",
        ),
        "missing": (folder / "toy-1.5-py3-none-any.whl", "No such file or directory"),
    }


@pytest.mark.parametrize("case", ["renamed", "cut", "page", "bare", "unnamed", "missing"])
def test_file_that_is_no_whole_wheel_is_refused(tmp_path: Path, case: str) -> None:
    wheel, fact = bad_wheels(tmp_path)[case]
    error = refusal(lambda: index.shelve(wheel, {}, tmp_path / "shelf"))
    assert str(error) == (
        f"error: bad-wheel\n  {fact}\n  where: {wheel}\n  fix:   invoke build-wheels --again"
    )
    assert not (tmp_path / "shelf").exists()


def test_page_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    wheel, shelf = make_wheel(tmp_path, "1.0"), tmp_path / "shelf"
    shelve(wheel, shelf)
    page = shelf / "simple/toy/index.json"
    page.write_text('{"name": "toy"}', encoding="utf-8")
    expected = (
        "error: bad-shelf\n"
        "  the index page cannot be read: files: Field required\n"
        f"  where: {page}\n"
        f"  fix:   delete {page.parent} and run invoke build-wheels: nothing is compiled again"
    )
    assert str(refusal(lambda: index.shelved(shelf))) == expected
    assert str(refusal(lambda: shelve(wheel, shelf))) == expected


def test_shelf_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    wheel, shelf = make_wheel(tmp_path, "1.0"), tmp_path / "shelf"
    shelf.write_text("a file", encoding="utf-8")
    error = refusal(lambda: shelve(wheel, shelf))
    assert error.code is Exit.INDEX
    assert str(error) == (
        "error: shelf-unwritable\n"
        "  toy-1.0-py3-none-any.whl cannot be put there: File exists\n"
        f"  where: {shelf}\n"
        "  fix:   free space or correct the rights of the folder; nothing half-written is listed"
    )


def test_copy_that_the_disk_cut_short_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel, shelf = make_wheel(tmp_path, "1.0", padding=3 << 20), tmp_path / "shelf"

    def full(source: Any, sink: Any, length: int) -> None:
        sink.write(source.read(length))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("blackwheel.shelf.index.shutil.copyfileobj", full)
    error = refusal(lambda: shelve(wheel, shelf))
    assert error.fact == "toy-1.0-py3-none-any.whl cannot be put there: No space left on device"
    assert [path.name for path in shelf.iterdir()] == [".lock"]


def test_copy_with_other_bytes_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel, shelf = make_wheel(tmp_path, "1.0"), tmp_path / "shelf"
    monkeypatch.setattr(
        "blackwheel.shelf.index.shutil.copyfileobj", lambda source, sink, length: sink.write(b"rot")
    )
    error = refusal(lambda: shelve(wheel, shelf))
    assert (error.name, error.fact) == ("bad-wheel", "its copy on the shelf's disk has other bytes")
    assert [path.name for path in shelf.iterdir()] == [".lock"]


def test_file_that_a_stranger_puts_there_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel, shelf = make_wheel(tmp_path, "1.0"), tmp_path / "shelf"
    copy = index.shutil.copyfileobj

    def slow_copy(source: Any, sink: Any, length: int) -> None:
        copy(source, sink, length)
        (shelf / wheel.name).write_bytes(b"a stranger's")

    monkeypatch.setattr("blackwheel.shelf.index.shutil.copyfileobj", slow_copy)
    assert refusal(lambda: shelve(wheel, shelf)).name == "other-bytes"
    assert (shelf / wheel.name).read_bytes() == b"a stranger's"
    assert index.shelved(shelf) == ()


def test_shelf_that_another_run_holds_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    monkeypatch.setattr(index, "BUSY_SECONDS", 0.2)
    wheel, shelf = make_wheel(tmp_path, "1.0"), tmp_path / "shelf"
    shelf.mkdir()
    with FileLock(shelf / ".lock"):
        error = refusal(lambda: shelve(wheel, shelf))
    assert error.code is Exit.BUSY
    assert error.name == "shelf-busy"
    assert error.where == str(shelf / ".lock")
    shelve(wheel, shelf)


# Kills and races


def in_child(work: Callable[[], None]) -> int:
    """Start a child that works and ends, without the parent's cleanups."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            work()
            code = 0
        os._exit(code)
    return child


def die_at(step: int) -> None:
    """Be killed at the n-th time that this process is about to touch a file."""
    events = ("open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.chmod", "fcntl.flock")
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in events:
            count += 1
            if count > step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


@pytest.mark.slow
def test_kill_at_any_step_of_a_shelving_leaves_a_whole_shelf(tmp_path: Path) -> None:
    wheels = [make_wheel(tmp_path, f"1.0+{LABEL}.{n}", padding=100) for n in (1, 2)]
    built = {wheel.name: wheel for wheel in wheels}
    for wheel in wheels:
        shelve(wheel, tmp_path / "warm")  # imports and caches are not among the steps
    for step in range(200):
        shelf = tmp_path / f"shelf{step}"
        shelve(wheels[0], shelf)

        def work(step: int = step, shelf: Path = shelf) -> None:
            die_at(step)
            shelve(wheels[1], shelf)

        _, status = os.waitpid(in_child(work), 0)
        assert_whole(shelf, built)
        for path in shelf.glob("*.whl"):  # listed or not
            receipt = document.load(path.with_name(f"{path.name}.receipt.json"))
            assert document.verify(receipt, path, stages=("stack",)) == ()
        shelve(wheels[1], shelf)
        assert_whole(shelf, built)
        assert len(index.shelved(shelf)) == 2
        assert not list(shelf.rglob(f"{TEMPORARY}*"))
        if os.WIFEXITED(status):
            break
    assert os.waitstatus_to_exitcode(status) == 0
    assert step > 20, "the steps of a shelving were not seen"


@pytest.mark.slow
def test_twenty_kills_at_random_leave_a_whole_shelf(tmp_path: Path) -> None:
    wheels = [make_wheel(tmp_path, f"1.0+{LABEL}.{n}", padding=1 << 20) for n in range(1, 5)]
    built = {wheel.name: wheel for wheel in wheels}
    shelf = tmp_path / "shelf"
    began = time.monotonic()
    for wheel in wheels:
        shelve(wheel, tmp_path / "whole")
    took = time.monotonic() - began
    dice = random.Random(20)  # noqa: S311
    for _ in range(20):
        child = in_child(lambda: [shelve(wheel, shelf) for wheel in wheels] and None)
        time.sleep(dice.uniform(0, took))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert_whole(shelf, built)
        if len(index.shelved(shelf)) == len(wheels):
            for path in sorted(shelf.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
    for wheel in wheels:
        shelve(wheel, shelf)
    assert len(index.shelved(shelf)) == len(wheels)
    assert not list(shelf.rglob(f"{TEMPORARY}*"))


def test_four_at_once_lose_no_wheel(tmp_path: Path) -> None:
    wheels = [make_wheel(tmp_path, f"1.0+{LABEL}.{n}", padding=100_000) for n in range(1, 13)]
    shelf = tmp_path / "shelf"
    children = [
        in_child(lambda part=part: [shelve(wheel, shelf) for wheel in wheels[part::4]] and None)
        for part in range(4)
    ]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert len(index.shelved(shelf)) == len(wheels)
    assert_whole(shelf, {wheel.name: wheel for wheel in wheels})


def test_two_at_once_with_other_bytes_leave_the_first(tmp_path: Path) -> None:
    wheels = [make_wheel(tmp_path / str(n), "1.0", padding=n) for n in (1, 2)]
    shelf = tmp_path / "shelf"
    children = [in_child(lambda wheel=wheel: shelve(wheel, shelf) and None) for wheel in wheels]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [0, 1]
    winner = wheels[codes.index(0)]
    assert_whole(shelf, {winner.name: winner})


# Installers


class Installer(Protocol):
    def __call__(self, target: Path, *arguments: str) -> None: ...


@pytest.fixture(scope="session")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pip that came with this Python, unpacked: a venv takes 20 s to make one."""
    ensurepip = pytest.importorskip("ensurepip", reason="apt-get install python3-venv")
    (wheel,) = Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")
    folder = tmp_path_factory.mktemp("pip")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder / "pip"


def environment(home: Path) -> dict[str, str]:
    """No setting of this machine reaches the installer."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        "UV_NO_CONFIG": "1",
        "UV_CACHE_DIR": str(home / "uv"),
    }


def run(argv: list[str], folder: Path) -> None:
    done = subprocess.run(
        argv, env=environment(folder), cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(params=["pip", "uv"])
def install(request: pytest.FixtureRequest, tmp_path: Path) -> Installer:
    """Install into a folder with real pip or uv."""
    if request.param == "pip":
        command = [sys.executable, str(request.getfixturevalue("pip")), "install"]
    else:
        command = [find_uv_bin(), "pip", "install", "--offline", "--python", sys.executable]
    return lambda target, *arguments: run([*command, "--target", str(target), *arguments], tmp_path)


def installed(target: Path) -> list[str]:
    return sorted(path.name for path in target.glob("*.dist-info"))


def simple(shelf: Path) -> str:
    """The shelf's address, percent-encoded."""
    return (shelf / "simple").as_uri()


def test_installers_use_a_shelf_with_spaces_and_plus_in_its_path(
    tmp_path: Path, install: Installer
) -> None:
    shelf, target = tmp_path / "a shelf+more" / "stable", tmp_path / "target"
    shelve(make_wheel(tmp_path, f"1.0+{LABEL}.1"), shelf)
    install(target, "--index-url", simple(shelf), "toy==1.0")
    assert installed(target) == [f"toy-1.0+{LABEL}.1.dist-info"]


def test_installers_take_revision_10_after_9_and_the_full_wheel_after_a_variant(
    tmp_path: Path, install: Installer
) -> None:
    shelf, target = tmp_path / "shelf", tmp_path / "target"
    cases = {
        "late": ("9", "10"),
        "latevariant": ("quick.9", "quick.10"),
        "quick": ("quick.1", "1"),
        "newquick": ("quick.12", "1"),
        "fwd": ("fwd.1", "1"),
    }
    for name, (loser, winner) in cases.items():
        for label in (winner, loser):
            shelve(make_wheel(tmp_path, f"2.8.3+{LABEL}.{label}", name=name), shelf)
    install(target, "--index-url", simple(shelf), "late", *(f"{name}==2.8.3" for name in cases))
    assert installed(target) == sorted(
        f"{name}-2.8.3+{LABEL}.{winner}.dist-info" for name, (_, winner) in cases.items()
    )


@pytest.mark.network
@pytest.mark.parametrize("version", ["23.0.1", "26.3"])
def test_pips_of_debian_12_and_of_now_use_a_shelf(tmp_path: Path, version: str) -> None:
    other_pip, shelf, target = tmp_path / "pip", tmp_path / "a shelf", tmp_path / "target"
    uv = [find_uv_bin(), "pip", "install", "--python", sys.executable]
    subprocess.run([*uv, "--target", str(other_pip), f"pip=={version}"], check=True)
    for number in (9, 10):
        shelve(make_wheel(tmp_path, f"1.0+{LABEL}.{number}"), shelf)
    arguments = ["--target", str(target), "--index-url", simple(shelf), "toy==1.0"]
    run([sys.executable, str(other_pip / "pip"), "install", *arguments], tmp_path)
    assert installed(target) == [f"toy-1.0+{LABEL}.10.dist-info"]


def test_shelf_alone_serves_a_wheel_without_its_requirements(
    tmp_path: Path, install: Installer
) -> None:
    shelf, target = tmp_path / "shelf", tmp_path / "target"
    shelve(make_wheel(tmp_path, f"1.0+{LABEL}.1", requires="torch===2.11.0"), shelf)
    install(target, "--no-deps", "--index-url", simple(shelf), "toy==1.0")
    assert installed(target) == [f"toy-1.0+{LABEL}.1.dist-info"]


def test_hashed_requirements_take_the_wheel_from_the_shelf_and_the_rest_from_the_index(
    tmp_path: Path, install: Installer
) -> None:
    shelf, registry, target = tmp_path / "a shelf", tmp_path / "registry", tmp_path / "target"
    wheel = shelve(make_wheel(tmp_path, f"1.0+{LABEL}.1", requires="dep===2.11.0"), shelf)
    dep = shelve(make_wheel(tmp_path, "2.11.0", name="dep"), registry)
    shelve(make_wheel(tmp_path, "2.12.0", name="dep"), registry)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(
        f"toy==1.0+{LABEL}.1 --hash=sha256:{wheel.sha256}\n"
        f"dep==2.11.0 --hash=sha256:{dep.sha256}\n",
        encoding="utf-8",
    )
    arguments = ["--index-url", simple(registry), "--extra-index-url", simple(shelf)]
    install(target, "--require-hashes", *arguments, "-r", str(requirements))
    assert installed(target) == ["dep-2.11.0.dist-info", f"toy-1.0+{LABEL}.1.dist-info"]


def test_wheel_installs_by_file(tmp_path: Path, install: Installer) -> None:
    shelf, target = tmp_path / "a shelf", tmp_path / "target"
    wheel = shelve(make_wheel(tmp_path, f"1.0+{LABEL}.1"), shelf)
    install(target, "--no-index", str(wheel.path))
    assert installed(target) == [f"toy-1.0+{LABEL}.1.dist-info"]


def test_bytes_unlike_the_page_are_refused_by_the_installer(
    tmp_path: Path, install: Installer
) -> None:
    shelf, target = tmp_path / "shelf", tmp_path / "target"
    wheel = shelve(make_wheel(tmp_path, "1.0"), shelf)
    wheel.path.write_bytes(make_wheel(tmp_path / "other", "1.0", padding=9).read_bytes())
    with pytest.raises(AssertionError, match=r"(?i)hash"):
        install(target, "--index-url", simple(shelf), "toy")
