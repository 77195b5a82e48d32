"""What is due, asked of a shelf: also of the one that a stack filled under its old name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import proved
import pytest

from blackwheel.commands.build_wheels import build_wheels
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pipeline import run
from blackwheel.pipeline.todo import adopted, taken_labels, work
from blackwheel.shelf import consumer_lock, index
from blackwheel.stacks.ask import requests

UNUSED = ("stacks.projects", "stacks.refusals", "pipeline.run", "pipeline.chain")
"""Modules that only a build needs."""


@pytest.fixture
def renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A stack whose two wheels were shelved under another name; nothing of it may be built."""
    site = proved.new_checkout(tmp_path / "checkout")
    code = proved.library(tmp_path)
    for name in proved.PROJECTS:
        proved.shelve(site, proved.make_wheel(tmp_path / "w", name, code))
    toml = site.constraints / "toy.toml"
    new = site.constraints / "renamed.toml"
    new.write_text(f'formerly = "toy"\n{toml.read_text("utf-8")}', encoding="utf-8")
    shutil.move(site.constraints / "toy", site.constraints / "renamed")
    toml.unlink()
    monkeypatch.setattr(run, "build_pending", lambda *_, **__: pytest.fail("something is built"))
    return site


def test_renamed_stack_finds_its_wheels_and_puts_them_on_its_own_shelf(renamed: Site) -> None:
    assert build_wheels(renamed, "renamed") == Exit.OK
    said = proved.said(renamed)
    assert "renamed: nothing changed since these wheels were built" in said
    assert {wheel.project for wheel in index.shelved(renamed.wheels / "renamed")} == {
        "toy",
        "other",
    }
    out = renamed.checkout / "requirements.txt"
    consumer_lock.lock_consumer(renamed, "renamed", python=proved.PYTHON, out=str(out))
    assert f"toy==1.0+{proved.LABEL}.1 \\\n" in out.read_text(encoding="utf-8")


def test_shelf_of_an_old_name_is_not_believed_without_its_bytes(renamed: Site) -> None:
    (asked, _), python = requests(renamed, "renamed")
    item = work(renamed, asked, python)
    assert item.shelved and not item.reasons
    item.shelved.path.write_bytes(b"something else")
    found = adopted(renamed, item)
    assert found.shelved is None
    assert found.reasons == (f"{item.shelved.path.name} on the shelf of toy is not proved",)
    assert index.shelved(renamed.wheels / "renamed") == ()


def test_wheel_of_another_key_on_the_old_shelf_is_a_reason_and_takes_no_label_here(
    renamed: Site,
) -> None:
    toml = renamed.constraints / "renamed.toml"
    toml.write_text(
        toml.read_text("utf-8").replace('glibc = "2.28"', 'glibc = "2.28"\nrecipe = 3'), "utf-8"
    )
    (asked, _), python = requests(renamed, "renamed")
    item = work(renamed, asked, python)
    assert item.reasons == ("recipe: 2 → 3",)
    assert taken_labels(renamed, [item]) == []


def test_shelf_of_a_name_that_the_stack_never_had_is_not_looked_at(renamed: Site) -> None:
    toml = renamed.constraints / "renamed.toml"
    toml.write_text(toml.read_text("utf-8").replace('formerly = "toy"\n', ""), "utf-8")
    (asked, _), python = requests(renamed, "renamed")
    assert work(renamed, asked, python).reasons == ("no wheel of it is on the shelf",)


REFUSED = """
[[refuse]]
newer_than = "9.0"
what = "would build kernels of 9.0"
why = [{ text = "they need its instructions" }]
fix = "leave them out"
variable = "MAX_JOBS"
lacks = "none"
"""
NO_OP = """
import sys
from pathlib import Path
from blackwheel.commands.build_wheels import build_wheels
from blackwheel.core.console import Console
from blackwheel.core.site import Site

root, home = Path(sys.argv[1]), {"PATH": "/usr/bin:/bin"}
console = Console(environment=home, out=sys.stderr)
site = Site(checkout=root, store=root / "store", environment=home, console=console)
build_wheels(site, "renamed")
print(*sys.modules)
"""


def _refuse(site: Site, name: str) -> None:
    (site.patches / name / "project.toml").write_text(REFUSED, encoding="utf-8")


def test_run_with_nothing_to_do_reads_no_project_file(renamed: Site) -> None:
    assert build_wheels(renamed, "renamed") == Exit.OK  # adopts the wheels: work, once
    done = subprocess.run(
        [sys.executable, "-c", NO_OP, str(renamed.checkout)],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "renamed: nothing changed since" in done.stderr
    loaded = set(done.stdout.split())
    assert "blackwheel.pipeline.todo" in loaded
    assert not loaded & {f"blackwheel.{name}" for name in UNUSED}


def test_what_cannot_run_is_refused_where_it_is_due_and_before_all_else(renamed: Site) -> None:
    _refuse(renamed, "other")
    assert build_wheels(renamed, "renamed") == Exit.OK  # was built before the refusal
    with pytest.raises(
        BlackwheelError, match=r"other 1\.0 would build kernels of 9\.0, which cannot"
    ):
        build_wheels(renamed, "renamed", again=True)
    with pytest.raises(BlackwheelError, match="cannot-run-on-arch"):
        requests(renamed, "renamed")


def test_damaged_wheel_of_an_old_name_is_refused_where_it_cannot_run(renamed: Site) -> None:
    (asked, _), python = requests(renamed, "renamed")
    item = work(renamed, asked, python)
    assert item.shelved
    item.shelved.path.write_bytes(b"something else")
    _refuse(renamed, asked.project)
    with pytest.raises(BlackwheelError, match="cannot-run-on-arch"):
        adopted(renamed, item)
