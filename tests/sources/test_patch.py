"""Series files and the in-place update of a build tree: files only, no process."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.sources import patch as patches
from blackwheel.sources.fetch import SourceTree
from blackwheel.sources.patch import PatchedTree, sync
from blackwheel.sources.series import load_series, patch_digests
from blackwheel.stacks.records import GitPin, ProjectPin

ROOT = Path(__file__).parents[2]
GOOD = """From: A Person <a@example.org>
Subject: setup: take 12.0a,
 and say so

Upstream ignores the token.

Origin: blackwheel
Forwarded: no
Last-Update: 2026-11-22
---
 setup.py | 2 +-

diff --git a/setup.py b/setup.py
--- a/setup.py
+++ b/setup.py
@@ -1 +1 @@
-archs = "9.0"
+archs = "12.0a"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "patches" / "toy" / "1.0"
    folder.mkdir(parents=True)
    return folder


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_series_names_patches_in_order_with_comments(folder: Path) -> None:
    write(
        folder,
        {
            "series": "# why\n\n0002-b.patch  # first\n0001-a.patch\n",
            "0001-a.patch": GOOD,
            "0002-b.patch": GOOD + "\n",
        },
    )
    series = load_series(folder)
    assert [(patch.name, patch.line) for patch in series.patches] == [
        ("0002-b.patch", 3),
        ("0001-a.patch", 4),
    ]
    assert (series.project, series.version) == ("toy", "1.0")
    assert patch_digests(series) == (
        ("0002-b.patch", hashlib.sha256((GOOD + "\n").encode()).hexdigest()),
        ("0001-a.patch", hashlib.sha256(GOOD.encode()).hexdigest()),
    )


def test_series_of_the_repository_are_sound() -> None:
    found = [load_series(path.parent) for path in sorted(ROOT.glob("patches/*/*/series"))]
    assert "flash-attn" in {series.project for series in found}
    assert all(series.patches for series in found)


def test_empty_series_is_a_project_without_patches(folder: Path) -> None:
    write(folder, {"series": "# none needed\n"})
    assert load_series(folder).patches == ()


def test_all_faults_of_a_series_are_reported_at_once(folder: Path) -> None:
    write(
        folder,
        {
            "series": "0001-a.patch\n../0002-b.patch\n0003-gone.patch\n0001-a.patch\n"
            "0004-bare.patch\n0005-not.patch\n0006-odd.patch\n",
            "0001-a.patch": GOOD,
            "0004-bare.patch": GOOD[GOOD.index("diff --git") :],
            "0005-not.patch": GOOD[: GOOD.index("diff --git")],
            "0006-odd.patch": GOOD.replace("2026-11-22", "22 Nov").replace(
                "Upstream ignores the token.\n", ""
            ),
            "0007-forgotten.patch": GOOD,
        },
    )
    with pytest.raises(BlackwheelError) as caught:
        load_series(folder)
    assert caught.value.code == Exit.CONFIG
    assert str(caught.value) == (
        "error: bad-series\n"
        "  13 faults:\n"
        "  line 2: '../0002-b.patch' is not named NNNN-verb-object.patch\n"
        "  line 3: 0003-gone.patch: there is no such file\n"
        "  line 4: 0001-a.patch: named before, in line 1\n"
        "  line 5: 0004-bare.patch: the header has no From\n"
        "  line 5: 0004-bare.patch: the header has no Subject\n"
        "  line 5: 0004-bare.patch: the header has no Origin\n"
        "  line 5: 0004-bare.patch: the header has no Forwarded\n"
        "  line 5: 0004-bare.patch: the header has no Last-Update\n"
        "  line 5: 0004-bare.patch: the header does not say why, in free text below the Subject\n"
        "  line 6: 0005-not.patch: no line starts with 'diff --git'; make it with git diff\n"
        "  line 7: 0006-odd.patch: the header does not say why, in free text below the Subject\n"
        "  line 7: 0006-odd.patch: Last-Update: '22 Nov' is not a date such as 2026-11-22\n"
        "  0007-forgotten.patch: lies in the folder, but the series does not name it\n"
        "  where: patches/toy/1.0/series\n"
        "  fix:   correct the series or the patches named above"
    )


def test_version_without_a_series_is_a_fault(folder: Path) -> None:
    with pytest.raises(BlackwheelError) as caught:
        load_series(folder.with_name("1.1"))
    assert str(caught.value) == (
        "error: bad-series\n"
        "  1 fault:\n"
        "  there is no such file\n"
        "  where: patches/toy/1.1/series\n"
        "  fix:   correct the series or the patches named above"
    )


def test_series_that_is_not_text_is_a_fault(folder: Path) -> None:
    (folder / "series").write_bytes(b"0001-\xff.patch\n")
    with pytest.raises(BlackwheelError, match="bad-series"):
        load_series(folder)


@pytest.fixture
def tree(tmp_path: Path) -> PatchedTree:
    """A patched tree with two sources, a program and a symlink."""
    root = tmp_path / "patched"
    write(root, {"a.cu": "a\n", "src/b.cu": "b\n", "run.sh": "#!/bin/sh\n"})
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("a.cu")
    pin = ProjectPin(
        version="1.0",
        modules=("toy",),
        source=GitPin(url="file:///toy", commit="0" * 40, tree="0" * 40),
    )
    source = SourceTree(
        project="toy", pin=pin, root=root, origin="git", commit="0" * 40, tree="", nested=()
    )
    return PatchedTree(source=source, root=root, patches=(), tree="")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "build" / "src"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def times(root: Path) -> dict[str, int]:
    return {name: (root / name).lstat().st_mtime_ns for name in content(root)}


def test_first_sync_brings_every_file_with_its_mode(tree: PatchedTree, target: Path) -> None:
    assert sync(tree, target) == ("a.cu", "link", "run.sh", "src/b.cu")
    assert content(target) == content(tree.root)
    assert (target / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (target / "a.cu").stat().st_mode & 0o777 == 0o644
    assert names(target.parent) == ["source-manifest.json", "src"]


def test_equal_files_keep_their_time_and_changed_ones_get_a_new_one(
    tree: PatchedTree, target: Path
) -> None:
    sync(tree, target)
    for name in content(target):
        os.utime(target / name, (1, 1), follow_symlinks=False)
    (tree.root / "src/b.cu").write_text("B\n")
    os.utime(tree.root / "src/b.cu", (0, 0))  # the source's own time does not count
    assert sync(tree, target) == ("src/b.cu",)
    after = times(target)
    assert after.pop("src/b.cu") > 10**18
    assert set(after.values()) == {10**9}
    assert sync(tree, target) == ()


def test_changed_mode_leaves_the_time_alone(tree: PatchedTree, target: Path) -> None:
    sync(tree, target)
    os.utime(target / "a.cu", (1, 1))
    (tree.root / "a.cu").chmod(0o755)
    assert sync(tree, target) == ("a.cu",)
    assert (target / "a.cu").stat().st_mode & 0o777 == 0o755
    assert (target / "a.cu").stat().st_mtime == 1


def test_removed_sources_go_and_build_outputs_stay(tree: PatchedTree, target: Path) -> None:
    write(tree.root, {"gone/deep/c.cu": "c\n", "gone/d.cu": "d\n"})
    sync(tree, target)
    write(target, {"a.o": "object", "build/b.o": "object", "gone/d.o": "object"})
    (tree.root / "gone/deep/c.cu").unlink()
    (tree.root / "gone/d.cu").unlink()
    assert sync(tree, target) == ("gone/d.cu", "gone/deep/c.cu")
    outputs = {"a.o": "object", "build/b.o": "object", "gone/d.o": "object"}
    assert content(target) == content(tree.root) | outputs
    assert not (target / "gone/deep").exists()


def test_source_that_the_build_changed_is_brought_back(tree: PatchedTree, target: Path) -> None:
    sync(tree, target)
    (target / "a.cu").write_text("edited by the build\n")
    (target / "link").unlink()
    (target / "link").write_text("a file now\n")
    assert sync(tree, target) == ("a.cu", "link")
    assert content(target) == content(tree.root)


def test_file_and_folder_may_change_places(tree: PatchedTree, target: Path) -> None:
    sync(tree, target)
    write(target, {"src/b.o": "object"})
    (tree.root / "src/b.cu").unlink()
    (tree.root / "src").rmdir()
    (tree.root / "a.cu").unlink()
    write(tree.root, {"src": "a file\n", "a.cu/inner": "a folder\n"})
    (tree.root / "link").unlink()
    sync(tree, target)
    assert content(target) == content(tree.root)
    assert sync(tree, target) == ()


def test_nothing_is_written_through_a_symlink_of_the_build(
    tree: PatchedTree, target: Path, tmp_path: Path
) -> None:
    sync(tree, target)
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere, {"b.cu": "not ours\n"})
    (target / "src/b.cu").unlink()
    (target / "src").rmdir()
    (target / "src").symlink_to(elsewhere)
    (tree.root / "src/b.cu").write_text("B\n")
    assert sync(tree, target) == ("src/b.cu",)
    assert content(elsewhere) == {"b.cu": "not ours\n"}
    (target / "src/b.cu").unlink()
    (target / "src").rmdir()
    (target / "src").symlink_to(elsewhere)
    (tree.root / "src/b.cu").unlink()
    sync(tree, target)
    assert content(elsewhere) == {"b.cu": "not ours\n"}


def test_sync_that_was_interrupted_is_completed_by_the_next(
    tree: PatchedTree, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(tree, target)
    write(tree.root, {"c.cu": "c\n", "d.cu": "d\n"})
    bring, brought = patches._brought, []

    def interrupted(origin: Path, target: Path, path: str) -> bool:
        if path == "d.cu":
            raise KeyboardInterrupt
        brought.append(path)
        return bring(origin, target, path)

    monkeypatch.setattr(patches, "_brought", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sync(tree, target)
    assert "c.cu" in brought
    monkeypatch.undo()
    (tree.root / "c.cu").unlink()  # of the interrupted tree only: nobody else knows of it
    assert sync(tree, target) == ("c.cu", "d.cu")
    assert content(target) == content(tree.root)


def test_manifest_lies_where_it_is_wanted(tree: PatchedTree, target: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "here.json"
    sync(tree, target, manifest=manifest)
    assert json.loads(manifest.read_text())["files"] == ["a.cu", "link", "run.sh", "src/b.cu"]
    assert names(target.parent) == ["src"]


def test_broken_manifest_is_an_error_with_its_cure(tree: PatchedTree, target: Path) -> None:
    sync(tree, target)
    manifest = target.parent / "source-manifest.json"
    manifest.write_text("{")
    with pytest.raises(BlackwheelError) as caught:
        sync(tree, target)
    assert str(caught.value) == (
        "error: build-tree-unknown\n"
        "  the list of this build tree's source files cannot be read\n"
        f"  where: {manifest}\n"
        f"  fix:   rm -r '{target.parent}', and build from the start"
    )
