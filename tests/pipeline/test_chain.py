"""A build takes the wheel, the tree and the locks of its key, and no others."""

from __future__ import annotations

import hashlib
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
from blackwheel.receipts import document
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


def wheel_of(order: BuildOrder, folder: Path, digest: str, *, stages: int = 11) -> Path:
    """A wheel with the receipt of an audited one."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "toy-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    key = {"digest": digest, "slug": order.work.request.slug, "parts": dict(order.work.key.parts)}
    sections = {stage: {"a": 1} for stage in document.BEFORE_SMOKE[:stages]}
    sections["run"] = {"builder": {}, "metadata": {}}  # type: ignore[dict-item]
    held = {**sections, "stack": {"key": key}}
    sha256 = hashlib.sha256(b"wheel").hexdigest()
    receipt = document.receipt(wheel.name, sha256, held)
    document.write(Path(f"{wheel}.receipt.json"), receipt)
    return wheel


def test_candidate_is_an_audited_wheel_of_the_same_key(here: Site, order: BuildOrder) -> None:
    item = order.work
    folder = here.store / "builds" / item.request.slug / "work" / "wheel"
    assert chain.candidate(here, item) is None
    wheel = wheel_of(order, folder, item.key.digest)
    assert chain.candidate(here, item) == wheel
    assert chain.build_one(here, order, environment=here.store) == wheel, "found, not built"
    wheel_of(order, folder, "f" * 64)
    assert chain.candidate(here, item) is None, "of another key"
    wheel_of(order, folder, item.key.digest, stages=10)
    assert chain.candidate(here, item) is None, "not audited"
    wheel_of(order, folder, item.key.digest).write_bytes(b"other")
    assert chain.candidate(here, item) is None, "other bytes"


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
