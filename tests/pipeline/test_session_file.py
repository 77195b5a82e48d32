"""What a session is handed: whole, for its user alone, understood by one reader or refused."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from blackwheel.core import site
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pipeline import session_file, todo
from blackwheel.pipeline.session_file import BuildOrder, SmokeGroup, SmokeOrder, build_order
from blackwheel.shelf.index import ShelvedWheel
from blackwheel.sources.fetch import NestedTree, SourceTree
from blackwheel.sources.patch import AppliedPatch, PatchedTree
from blackwheel.sources.series import patch_digests
from blackwheel.stacks import key as keys
from blackwheel.stacks import loader
from blackwheel.stacks.ask import for_pythons

CONSTRAINTS = Path(__file__).parents[2] / "constraints"


def buildable(name: str) -> bool:
    """Tell whether the stack has a series for each project: without one there is no key."""
    stack = loader.load(name, CONSTRAINTS)
    patches = CONSTRAINTS.with_name("patches")
    return all((patches / one / stack.projects[one].version).is_dir() for one in stack.build)


STACKS = [
    name
    for name in loader.names(CONSTRAINTS)
    if (CONSTRAINTS / loader.load(name, CONSTRAINTS).locks).is_dir() and buildable(name)
]


@pytest.fixture
def here(tmp_path: Path) -> Site:
    return site.here({"BLACKWHEEL_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})


def orders(here: Site, stack: str) -> list[BuildOrder]:
    """An order with everything in it for each project and Python of a stack."""
    found = []
    for request, python in for_pythons(here, stack, "all"):
        item = todo.work(here, request, python, again=True)
        shelved = ShelvedWheel(
            path=Path("/shelf/a.whl"),
            project=request.project,
            version="1",
            sha256="0" * 64,
            size=1,
            metadata_sha256="0" * 64,
            requires_python="",
            shelved_at=datetime(2026, 11, 30, 1, 2, 3, 4, tzinfo=UTC),
        )
        source = SourceTree(
            project=request.project,
            pin=request.pin,
            root=Path("/store/sources"),
            origin="git",
            commit="0" * 40,
            tree="1" * 40,
            nested=tuple(NestedTree(path=n.path, commit="2", tree="3") for n in request.pin.nested),
            reason="no host",
        )
        patches = (AppliedPatch(name="0001-a.patch", sha256="f" * 64),)
        tree = PatchedTree(source=source, root=Path("/store/a"), patches=patches, tree="4" * 40)
        work = replace(item, shelved=shelved)
        options: dict[str, Any] = {"tree": tree, "jobs": 3, "again": True, "proofs": True}
        found.append(build_order(work, request.lock("build", here.constraints), **options))
    return found


@pytest.mark.parametrize("stack", STACKS)
def test_what_is_read_is_what_was_written_down_to_the_key(here: Site, stack: str) -> None:
    for order in orders(here, stack):
        path = session_file.hand(here.store, "build", order)
        read = session_file.read(path, BuildOrder)
        assert read == order
        again = keys.key(
            read.work.request,
            patches=patch_digests(todo.read_series(here, read.work)),
            constraints=here.constraints,
            isolation=read.work.key.part("isolation"),
        )
        assert again == order.work.key
        assert path.stat().st_size < 100_000


def test_order_to_smoke_is_read_back(here: Site) -> None:
    group = SmokeGroup(
        stack="stable",
        python="3.12",
        where="/usr/bin/python3.12",
        here=True,
        wheels=(Path("/a.whl"),),
        locks=(Path("/run.txt"),),
    )
    stacks = {"stable": loader.load("stable", here.constraints)}
    order = SmokeOrder(stack="stable", python="3.12", groups=(group,), stacks=stacks)
    path = session_file.hand(here.store, "smoke", order)
    assert session_file.read(path, SmokeOrder) == order


def test_files_are_their_users_alone_and_are_removed_together(here: Site) -> None:
    before = os.umask(0)
    try:
        path = session_file.hand(here.store, "build", orders(here, "quickstart")[0])
    finally:
        os.umask(before)
    records = session_file.records_of(path)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path, records)] == [
        0o700,
        0o600,
        0o600,
    ]
    assert {one.name for one in path.parent.iterdir()} == {path.name, records.name}
    session_file.remove(path)
    session_file.remove(path)
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_command_left_goes_a_week_later(here: Site) -> None:
    order = orders(here, "quickstart")[0]
    old, young = (session_file.hand(here.store, "build", order) for _ in range(2))
    week = time.time() - 8 * 86_400
    for one in (old, session_file.records_of(old)):
        os.utime(one, (week, week))
    new = session_file.hand(here.store, "build", order)
    assert [one.exists() for one in (old, young, new)] == [False, True, True]
    assert len(list(old.parent.iterdir())) == 4


def broken(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    place = content
    *parents, last = path.split(".")
    for name in parents:
        place = place[name]
    place[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "fact"),
    [
        ("schema", 2, "schema: Input should be 1"),
        ("extra", 1, "extra: Unexpected keyword argument"),
        ("work.request.extra", 1, "work.request.extra: Unexpected keyword argument"),
        ("work.request.stack.extra", 1, "work.request.stack.extra: Unexpected keyword argument"),
        ("work.key.digest", 5, "work.key.digest: Input should be a valid string"),
        ("jobs", "many", "jobs: Input should be a valid integer"),
    ],
)
def test_what_blackwheel_did_not_write_is_refused(
    here: Site, path: str, value: Any, fact: str
) -> None:
    file = session_file.hand(here.store, "build", orders(here, "quickstart")[0])
    content = broken(json.loads(file.read_bytes()), path, value)
    file.write_text(json.dumps(content), encoding="utf-8")
    error = refused(file)
    assert error.fact.startswith(fact)
    assert (error.where, error.code) == (str(file), Exit.USAGE)


def refused(path: Path) -> BlackwheelError:
    with pytest.raises(BlackwheelError, match="bad-session-file") as caught:
        session_file.read(path, BuildOrder)
    return caught.value


def test_file_that_is_missing_large_a_link_or_others_to_read_is_refused(
    here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = session_file.hand(here.store, "build", orders(here, "quickstart")[0])
    assert refused(file.with_name("none")).fact == "No such file or directory"
    (link := file.with_name("link")).symlink_to(file)
    assert refused(link).fact == "Too many levels of symbolic links"
    file.chmod(0o640)
    assert refused(file).fact == "others than its user may read or write it"
    file.chmod(0o600)
    size = file.stat().st_size
    monkeypatch.setattr(session_file, "MOST_BYTES", size - 1)
    assert refused(file).fact == f"it holds more than {size - 1} bytes"
    with pytest.raises(BlackwheelError, match="bad-session-file"):
        session_file.write(file, orders(here, "quickstart")[0])
    assert file.stat().st_size == size, "the old file stays"
    monkeypatch.undo()
    assert session_file.read(file, BuildOrder)
    assert [one.name for one in file.parent.glob(".*")] == []


def test_order_of_the_other_kind_is_refused(here: Site) -> None:
    file = session_file.hand(here.store, "build", orders(here, "quickstart")[0])
    with pytest.raises(BlackwheelError, match="bad-session-file"):
        session_file.read(file, SmokeOrder)


@pytest.mark.parametrize("place", ["a" * 300, "loop/order.json", "file/order.json"])
def test_a_place_that_cannot_be_looked_at_is_no_traceback(tmp_path: Path, place: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    words = ["sync", str(tmp_path / place), "--environment", str(tmp_path / "none"), "--locks", "x"]
    done = subprocess.run(
        [sys.executable, "-m", "blackwheel", *words],
        cwd=CONSTRAINTS.parent,
        env={**os.environ, "BLACKWHEEL_HOME": str(tmp_path / "store")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.returncode > 1
