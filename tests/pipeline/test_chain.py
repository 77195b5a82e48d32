"""A build takes the wheel, the tree and the locks of its key, and no others."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from blackwheel.core import site
from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site
from blackwheel.pipeline import chain, todo
from blackwheel.pipeline.session_file import BuildOrder, build_order
from blackwheel.sources.fetch import SourceTree
from blackwheel.sources.patch import PatchedTree
from blackwheel.sources.tree import tree_id
from blackwheel.stacks.ask import requests

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path) -> Site:
    for name in ("constraints", "patches"):
        shutil.copytree(ROOT / name, tmp_path / name)
    real = site.here({"BLACKWHEEL_HOME": str(tmp_path / "store"), "PATH": "/usr/bin:/bin"})
    return replace(real, checkout=tmp_path, console=Quiet())


@pytest.fixture
def order(here: Site) -> BuildOrder:
    """An order whose tree was patched by the command."""
    (asked,), python = requests(here, "quickstart", python="3.12")
    root = here.store / "patched" / "tree"
    root.mkdir(parents=True)
    (root / "setup.py").write_text("", encoding="utf-8")
    source = SourceTree(
        project=asked.project,
        pin=asked.pin,
        root=root,
        origin="git",
        commit="",
        tree="",
        nested=(),
    )
    tree = PatchedTree(source=source, root=root, patches=(), tree=tree_id(root))
    lock = asked.lock("build", here.constraints)
    return build_order(todo.work(here, asked, python), lock, tree=tree)


def test_lock_that_changed_since_ends_a_build_before_it_begins(
    here: Site, order: BuildOrder
) -> None:
    with order.lock.open("a", encoding="utf-8") as sink:
        sink.write("# changed\n")
    with pytest.raises(BlackwheelError, match="changed-meanwhile"):
        chain.build_one(here, order, environment=here.store)


def test_patched_tree_that_was_edited_since_ends_a_build_before_it_begins(
    here: Site, order: BuildOrder
) -> None:
    assert order.tree
    assert chain.tree_of(here, order) == order.tree
    (order.tree.root / "setup.py").write_text("mine", encoding="utf-8")
    with pytest.raises(BlackwheelError, match="patched-tree-changed"):
        chain.build_one(here, order, environment=here.store)


def test_tree_that_no_command_made_is_made_of_the_series_of_the_key(
    here: Site, order: BuildOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = replace(order, tree=None)
    monkeypatch.setattr(chain, "patched_tree", lambda *_: order.tree)
    assert chain.tree_of(here, bare) == order.tree
    patch = next((here.patches / "flash-attn" / order.work.request.pin.version).glob("0001-*"))
    patch.write_bytes(patch.read_bytes() + b"\n")
    with pytest.raises(BlackwheelError, match="changed-meanwhile"):
        chain.tree_of(here, bare)
