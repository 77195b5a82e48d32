"""What was resolved is compared by digest with what is there when it is used."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from blackwheel.core import site
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pipeline import todo
from blackwheel.stacks.ask import requests

PATCHES = "patches/flash-attn/2.8.3"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path) -> Site:
    for name in ("constraints", "patches"):
        shutil.copytree(ROOT / name, tmp_path / name)
    real = site.here({"BLACKWHEEL_HOME": str(tmp_path / "store"), "PATH": "/usr/bin:/bin"})
    return replace(real, checkout=tmp_path)


@pytest.fixture
def item(here: Site) -> todo.Work:
    (asked,), python = requests(here, "torch211-quick", python="3.12")
    return todo.work(here, asked, python)


def refused(here: Site, item: todo.Work) -> BlackwheelError:
    with pytest.raises(BlackwheelError, match="changed-meanwhile") as caught:
        todo.read_series(here, item)
        todo.require_locks(here, item)
    return caught.value


def test_files_that_are_those_of_the_key_are_taken(here: Site, item: todo.Work) -> None:
    names = [patch.name for patch in todo.read_series(here, item).patches]
    assert len(names) == 5
    todo.require_locks(here, item)


@pytest.mark.parametrize(
    "place",
    [
        f"{PATCHES}/0002-select-kernels-to-build.patch",
        "constraints/torch211/build-flash-attn-py312.txt",
        "constraints/torch211/toolchain.txt",
    ],
)
def test_file_that_changed_is_named(here: Site, item: todo.Work, place: str) -> None:
    with (here.checkout / place).open("a", encoding="utf-8") as sink:
        sink.write("\n")
    assert str(refused(here, item)) == (
        "error: changed-meanwhile\n"
        "  the build of flash-attn for Python 3.12 was resolved with other contents of these"
        " files\n"
        f"  where: {place}\n"
        "  fix:   run the same command again"
    )


def test_patch_that_left_the_series_is_a_change_of_the_series(here: Site, item: todo.Work) -> None:
    series = here.checkout / PATCHES / "series"
    lines = series.read_text(encoding="utf-8").splitlines(keepends=True)
    gone = lines.pop().strip()
    series.write_text("".join(lines), encoding="utf-8")
    (series.parent / gone).unlink()
    error = refused(here, item)
    assert (error.where, error.code) == (f"{PATCHES}/series", Exit.BUILD)


def test_shelf_is_looked_at_again_without_a_new_key(
    here: Site, item: todo.Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(todo.keys, "key", lambda *_, **__: pytest.fail("computed again"))
    assert todo.looked_up(here, item) == item
    assert todo.looked_up(here, item, again=True).reasons == ("--again was given",)
