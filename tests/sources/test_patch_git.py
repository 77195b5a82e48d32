"""Series on real trees with real git: apply, refresh, and what neither may do."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from checkout import site_with
from killing import forked, killed

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.sources import rebase
from blackwheel.sources.fetch import SourceTree
from blackwheel.sources.patch import PatchedTree, apply, require_unchanged, sync
from blackwheel.sources.rebase import Refreshed, refresh
from blackwheel.sources.series import Series, load_series
from blackwheel.sources.tree import tree_id
from blackwheel.stacks.records import GitPin, ProjectPin

HERE = dict(os.environ)
COMMIT = "3f1c2ab9d0e4" + "0" * 28
HEADER = """From: A Person <a@example.org>
Subject: {name}

Because.

Origin: blackwheel
Forwarded: no
Last-Update: 2026-01-02
---
 stat | 1 +

"""
TEXT = "".join(f"line {number}\n" for number in range(1, 41))
Files = Mapping[str, str | bytes]


def write(root: Path, files: Files) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o644)
    root.mkdir(exist_ok=True)
    return root


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def source(root: Path, commit: str = COMMIT) -> SourceTree:
    tree = tree_id(root)
    pin = ProjectPin(
        version="1.0",
        modules=("toy",),
        source=GitPin(url="file:///toy", commit=commit, tree=tree),
    )
    return SourceTree(
        project="toy", pin=pin, root=root, origin="git", commit=commit, tree=tree, nested=()
    )


def git(cwd: Path, *arguments: str) -> str:
    environment = HERE | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsync",
        "GIT_CONFIG_VALUE_0": "none",
    }
    return subprocess.run(
        ["git", *arguments], cwd=cwd, env=environment, check=True, capture_output=True
    ).stdout.decode("utf-8", "surrogateescape")


def diff(before: Path, after: Path, tmp_path: Path, *options: str) -> str:
    """The diff between two folders, as real git writes it in a repository."""
    repository = tmp_path / "diffs"
    shutil.rmtree(repository, ignore_errors=True)
    shutil.copytree(before, repository, symlinks=True)
    git(repository, "init", "-q")
    write(repository / ".git", {"info/attributes": "* -text\n"})
    git(repository, "add", "-Af")
    tree = git(repository, "write-tree").strip()
    (repository / ".git" / "index").unlink()  # a copied time and an equal size would fool it
    for path in repository.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(after, repository, symlinks=True, dirs_exist_ok=True)
    git(repository, "add", "-Af")
    return git(repository, "diff", "--cached", "--full-index", *options, tree)


def series_of(folder: Path, diffs: Mapping[str, str]) -> Series:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in diffs.items():
        content = HEADER.format(name=name) + text
        (folder / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    (folder / "series").write_text("# order\n" + "".join(f"{name}\n" for name in diffs))
    return load_series(folder)


class Bench:
    """A toy project: its source, its series folder and a store."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp = tmp_path
        self.store = tmp_path / "store"
        self.folder = tmp_path / "patches" / "toy" / "1.0"
        self.console = Quiet()

    def tree(self, name: str, files: Files) -> Path:
        shutil.rmtree(self.tmp / name, ignore_errors=True)
        return write(self.tmp / name, files)

    def series(self, before: Files, *changes: Files) -> Series:
        """One patch for each state of the tree after `before`."""
        states = [self.tree(f"state{n}", files) for n, files in enumerate((before, *changes))]
        pairs = itertools.pairwise(states)
        diffs = [diff(old, new, self.tmp, "--no-renames") for old, new in pairs]
        return series_of(
            self.folder, {f"{n:04}-change-toy.patch": text for n, text in enumerate(diffs, 1)}
        )

    def apply(self, root: Path, series: Series, **environment: str) -> PatchedTree:
        return apply(site_with(self.store, HERE | environment, self.console), source(root), series)

    def refused(self, root: Path, series: Series) -> BlackwheelError:
        before = tree_id(root)
        with pytest.raises(BlackwheelError) as caught:
            self.apply(root, series)
        assert tree_id(root) == before
        assert names(self.store / "patched" / "toy") == []
        assert caught.value.code == Exit.PATCH
        return caught.value

    def refresh(
        self, series: Series, old: Path, new: Path, folder: Path | None = None
    ) -> tuple[Refreshed, ...]:
        return refresh(
            site_with(self.store, HERE, self.console),
            series,
            old=source(old),
            new=source(new, "a" * 40),
            folder=folder or series.folder,
            date="2026-11-22",
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_series_makes_the_tree_that_git_makes(bench: Bench) -> None:
    before = {"a.txt": TEXT, "gone.txt": "x\n", "old/name.txt": TEXT, "run.sh": "#!/bin/sh\n"}
    root = bench.tree("pristine", before)
    (root / "link").symlink_to("a.txt")
    after = bench.tree("after", {"a.txt": TEXT.replace("line 7\n", "seven\n"), "new/b c.txt": "ä"})
    write(after, {"new/name.txt": TEXT, "run.sh": "#!/bin/sh\n"})
    (after / "run.sh").chmod(0o755)
    (after / "link").symlink_to("a.txt")
    text = diff(root, after, bench.tmp, "-M")
    assert "rename from old/name.txt" in text
    assert "deleted file" in text
    series = series_of(bench.folder, {"0001-change-toy.patch": text})
    pristine = tree_id(root)
    umask = os.umask(0o077)
    try:
        patched = bench.apply(root, series)
    finally:
        os.umask(umask)
    assert patched.tree == tree_id(patched.root) == tree_id(after)
    assert tree_id(root) == pristine
    assert [patch.name for patch in patched.patches] == ["0001-change-toy.patch"]
    assert patched.patches[0].sha256 == series.patches[0].sha256
    assert (patched.root / "new/b c.txt").stat().st_mode & 0o777 == 0o644
    assert (patched.root / "run.sh").stat().st_mode & 0o777 == 0o755
    assert names(patched.root.parent) == ["tree"]
    assert len(names(patched.root.parent.parent)) == 1


def test_patches_build_on_each_other(bench: Bench) -> None:
    series = bench.series({"a.txt": "1\n"}, {"a.txt": "2\n"}, {"a.txt": "3\n", "b.txt": "b\n"})
    patched = bench.apply(bench.tree("pristine", {"a.txt": "1\n"}), series)
    assert (patched.root / "a.txt").read_text() == "3\n"


def test_twice_is_once(bench: Bench) -> None:
    series = bench.series({"a.txt": "1\n"}, {"a.txt": "2\n"})
    root = bench.tree("pristine", {"a.txt": "1\n"})
    first = bench.apply(root, series)
    inode = (first.root / "a.txt").stat()
    again = bench.apply(root, series)
    assert again == first
    assert (again.root / "a.txt").stat() == inode
    assert bench.console.lines[-2] == "toy: apply 1 patch"
    assert re.fullmatch(
        r"toy: apply 1 patch: done in .*, the same tree as before", bench.console.lines[-1]
    )


def test_changed_patch_makes_another_tree(bench: Bench) -> None:
    root = bench.tree("pristine", {"a.txt": "1\n"})
    first = bench.apply(root, bench.series({"a.txt": "1\n"}, {"a.txt": "2\n"}))
    second = bench.apply(root, bench.series({"a.txt": "1\n"}, {"a.txt": "3\n"}))
    assert (first.root / "a.txt").read_text() == "2\n"
    assert (second.root / "a.txt").read_text() == "3\n"


def test_series_without_patches_is_the_source(bench: Bench) -> None:
    root = bench.tree("pristine", {"a.txt": "1\n"})
    assert bench.apply(root, series_of(bench.folder, {})).tree == tree_id(root)


def test_edited_patched_tree_is_neither_used_nor_thrown_away(bench: Bench) -> None:
    series = bench.series({"a.txt": "1\n"}, {"a.txt": "2\n"})
    root = bench.tree("pristine", {"a.txt": "1\n"})
    patched = bench.apply(root, series)
    require_unchanged(patched)
    (patched.root / "a.txt").write_text("mine\n")
    with pytest.raises(BlackwheelError) as later:
        require_unchanged(patched)
    with pytest.raises(BlackwheelError) as caught:
        bench.apply(root, series)
    assert str(later.value) == str(caught.value).replace("source: a.txt", "source")
    assert caught.value.code == Exit.PATCH
    assert str(caught.value) == (
        "error: patched-tree-changed\n"
        "  a patched tree in the store is not what its series makes of its source: a.txt\n"
        f"  where: {patched.root}\n"
        f"  fix:   keep your edits as a patch, then: rm -r '{patched.root.parent}'"
    )
    assert (patched.root / "a.txt").read_text() == "mine\n"


def test_stale_patch_stops_with_gits_reason_and_leaves_nothing(bench: Bench) -> None:
    after = TEXT.replace("line 20\n", "twenty\n")
    series = bench.series({"a.txt": TEXT}, {"a.txt": TEXT, "b.txt": "b\n"}, {"a.txt": after})
    # one line of context differs, the changed line is there: what fuzz would accept
    root = bench.tree("pristine", {"a.txt": TEXT.replace("line 18\n", "line xviii\n")})
    assert str(bench.refused(root, series)) == (
        "error: stale-patch\n"
        "  0002-change-toy.patch does not apply to toy at 3f1c2ab9d0e4\n"
        "  git: patch failed: a.txt:17\n"
        "  git: a.txt: patch does not apply\n"
        "  where: patches/toy/1.0/series, line 3\n"
        "  fix:   invoke refresh-patches toy"
    )


def test_hunk_that_moved_is_stale_since_it_may_fit_the_wrong_place(bench: Bench) -> None:
    block = "".join(f"block {number}\n" for number in range(8))
    before, after = f"head\n{block}", f"head\n{block.replace('block 4', 'BLOCK')}"
    series = bench.series({"a.txt": before}, {"a.txt": after})
    # a second block above, which was never meant
    root = bench.tree("pristine", {"a.txt": f"{block}{'-' * 9}\nhead\n{block}"})
    assert str(bench.refused(root, series)) == (
        "error: stale-patch\n"
        "  0001-change-toy.patch does not apply to toy at 3f1c2ab9d0e4\n"
        "  a.txt: hunk 1 fits at line 2 (-1) only\n"
        "  where: patches/toy/1.0/series, line 2\n"
        "  fix:   invoke refresh-patches toy"
    )


@pytest.mark.parametrize("attributes", ["", "* text=auto\n", "* text eol=lf\n"])
def test_patch_with_lf_is_stale_for_a_file_with_crlf(bench: Bench, attributes: str) -> None:
    series = bench.series({"a.txt": "1\n2\n3\n"}, {"a.txt": "1\nTWO\n3\n"})
    root = bench.tree("pristine", {"a.txt": "1\r\n2\r\n3\r\n", ".gitattributes": attributes})
    assert str(bench.refused(root, series)) == (
        "error: stale-patch\n"
        "  0001-change-toy.patch does not apply to toy at 3f1c2ab9d0e4\n"
        "  git: patch failed: a.txt:1\n"
        "  git: a.txt: patch does not apply\n"
        "  a.txt has CRLF line ends, the patch has LF\n"
        "  where: patches/toy/1.0/series, line 2\n"
        "  fix:   invoke refresh-patches toy"
    )


@pytest.mark.parametrize("attributes", ["", "* text=auto\n", "* text eol=lf\n"])
def test_crlf_stays_crlf_whatever_the_tree_says_of_line_ends(bench: Bench, attributes: str) -> None:
    before = {"a.txt": "1\r\n2\r\n3\r\n", ".gitattributes": ""}
    series = bench.series(before, {"a.txt": "1\r\nTWO\r\n3\r\n", ".gitattributes": ""})
    root = bench.tree("pristine", before | {".gitattributes": attributes})
    patched = bench.apply(root, series)
    assert (patched.root / "a.txt").read_bytes() == b"1\r\nTWO\r\n3\r\n"


def test_configuration_of_the_user_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    before, after = "\tone\n\ttwo  \n\tthree\n", "\tone\n\tTWO  \n\tthree\n"
    home = write(
        tmp_path / "home",
        {
            ".gitconfig": "[apply]\n\twhitespace = fix\n\tignoreWhitespace = change\n"
            "[core]\n\tautocrlf = true\n\twhitespace = tab-in-indent\n"
        },
    )
    environment = {
        "HOME": str(home),
        "GIT_DIR": str(home),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "apply.ignoreWhitespace",
        "GIT_CONFIG_VALUE_0": "change",
    }
    root = bench.tree("pristine", {"a.txt": before})
    patched = bench.apply(root, bench.series({"a.txt": before}, {"a.txt": after}), **environment)
    assert (patched.root / "a.txt").read_text() == after
    other = bench.tree("other", {"a.txt": before.replace("\t", "  ")})
    with pytest.raises(BlackwheelError, match="stale-patch"):
        bench.apply(other, load_series(bench.folder), **environment)


def test_tree_in_an_ignored_folder_of_a_checkout_is_patched_all_the_same(bench: Bench) -> None:
    git(bench.tmp, "init", "-q")
    (bench.tmp / ".gitignore").write_text("*\n")
    files = {"a.txt": "1\n", "sub/b.txt": "1\n"}
    series = bench.series(files, {"a.txt": "2\n", "sub/b.txt": "2\n"})
    root = bench.tree("pristine", files)
    # the trap: plain git says that all is well and changes nothing
    git(root, "apply", str(bench.folder / series.patches[0].name))
    assert (root / "a.txt").read_text() == "1\n"
    patched = bench.apply(root, series)
    assert (patched.root / "a.txt").read_text() == "2\n"
    assert (patched.root / "sub/b.txt").read_text() == "2\n"


def test_patch_that_changes_nothing_in_the_end_is_an_error(bench: Bench) -> None:
    there = bench.series({"a.txt": "1\n"}, {"a.txt": "2\n"}).patches[0].content.decode()
    back = bench.series({"a.txt": "2\n"}, {"a.txt": "1\n"}).patches[0].content.decode()
    text = there.partition("diff --git")[2] + "diff --git" + back.partition("diff --git")[2]
    series = series_of(bench.folder, {"0001-change-toy.patch": f"diff --git{text}"})
    assert str(bench.refused(bench.tree("pristine", {"a.txt": "1\n"}), series)) == (
        "error: patch-skipped\n"
        "  git applied 0001-change-toy.patch and left unchanged: a.txt\n"
        "  where: patches/toy/1.0/series, line 2\n"
        "  fix:   take what changes nothing out of the patch"
    )


def new_file(name: str, mode: str = "100644") -> str:
    return (
        f"diff --git a/{name} b/{name}\nnew file mode {mode}\n"
        f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+x\n"
    )


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (new_file("../x"), "it touches '../x'"),
        (new_file("sub/../../x"), "it touches 'sub/../../x'"),
        (new_file("/etc/x"), "it touches '/etc/x'"),
        (new_file(".git/hooks/post-checkout"), "it touches '.git/hooks/post-checkout'"),
        (new_file("sub/.GIT/config"), "it touches 'sub/.GIT/config'"),
        (new_file("out/x"), "it touches 'out/x' through the symlink 'out'"),
        (
            "diff --git a/out b/out\nindex 1..2 120000\n--- a/out\n+++ b/out\n"
            "@@ -1 +1 @@\n-..\n\\ No newline at end of file\n+/\n\\ No newline at end of file\n",
            "it touches 'out' through the symlink 'out'",
        ),
        (
            "diff --git a/out b/copy\nsimilarity index 100%\ncopy from out\ncopy to copy\n",
            "it touches 'out' through the symlink 'out'",
        ),
        (
            "diff --git a/a.txt b/../x\nsimilarity index 100%\nrename from a.txt\nrename to ../x\n",
            "it touches '../x'",
        ),
    ],
)
def test_patch_outside_the_tree_is_refused(bench: Bench, text: str, fact: str) -> None:
    root = bench.tree("pristine", {"a.txt": "1\n", "sub/b.txt": "1\n"})
    (root / "out").symlink_to("..")
    series = series_of(bench.folder, {"0001-add-file.patch": text})
    assert str(bench.refused(root, series)) == (
        "error: patch-outside-tree\n"
        "  0001-add-file.patch is refused for toy\n"
        f"  {fact}\n"
        "  where: patches/toy/1.0/series, line 2\n"
        "  fix:   correct the patch, or take it out of the series"
    )
    assert not (bench.tmp / "x").exists()


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (new_file("n", "120000"), "a symlink: create mode 120000 n"),
        (
            "diff --git a/a.txt b/a.txt\nold mode 100644\nnew mode 120000\n",
            "a symlink: mode change 100644 => 120000 a.txt",
        ),
        (
            "diff --git a/a.txt b/b.txt\nold mode 100644\nnew mode 120000\n"
            "similarity index 100%\nrename from a.txt\nrename to b.txt\n",
            "a symlink: mode change 100644 => 120000",
        ),
        (
            "diff --git a/sub b/sub\nnew file mode 160000\n--- /dev/null\n+++ b/sub\n"
            f"@@ -0,0 +1 @@\n+Subproject commit {'1' * 40}\n",
            "a submodule: create mode 160000 sub",
        ),
    ],
)
def test_patch_that_makes_a_link_is_refused(bench: Bench, text: str, fact: str) -> None:
    series = series_of(bench.folder, {"0001-add-link.patch": text})
    assert str(bench.refused(bench.tree("pristine", {"a.txt": "1\n"}), series)) == (
        "error: patch-makes-link\n"
        "  0001-add-link.patch is refused for toy\n"
        f"  it makes {fact}\n"
        "  where: patches/toy/1.0/series, line 2\n"
        "  fix:   correct the patch, or take it out of the series"
    )


@pytest.mark.parametrize("options", [("--binary",), ()])
def test_binary_patch_is_refused(bench: Bench, options: tuple[str, ...]) -> None:
    root = bench.tree("pristine", {"a.bin": b"\0one"})
    after = bench.tree("after", {"a.bin": b"\0two"})
    text = diff(root, after, bench.tmp, *options)
    series = series_of(bench.folder, {"0001-change-bytes.patch": text})
    assert str(bench.refused(root, series)) == (
        "error: patch-is-binary\n"
        "  0001-change-bytes.patch is refused for toy\n"
        "  it changes in binary form: a.bin\n"
        "  where: patches/toy/1.0/series, line 2\n"
        "  fix:   correct the patch, or take it out of the series"
    )


def test_patch_that_git_cannot_read_is_refused(bench: Bench) -> None:
    text = "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n 1\n-2\n"
    series = series_of(bench.folder, {"0001-change-toy.patch": text})
    assert str(bench.refused(bench.tree("pristine", {"a.txt": "1\n"}), series)) == (
        "error: patch-unreadable\n"
        "  0001-change-toy.patch is refused for toy\n"
        "  git: corrupt patch at line 18\n"
        "  where: patches/toy/1.0/series, line 2\n"
        "  fix:   correct the patch, or take it out of the series"
    )


def test_later_patch_is_refused_before_anything_is_copied(bench: Bench) -> None:
    text = bench.series({"a.txt": "1\n"}, {"a.txt": "2\n"}).patches[0].content.decode()
    series = series_of(
        bench.folder,
        {
            "0001-change-toy.patch": text[text.index("diff") :],
            "0002-add-file.patch": new_file("../x"),
        },
    )
    error = bench.refused(bench.tree("pristine", {"a.txt": "1\n"}), series)
    assert error.where == "patches/toy/1.0/series, line 3"


def test_killed_apply_leaves_nothing_half_written(bench: Bench) -> None:
    files: dict[str, str] = {f"d{n % 20}/f{n}.txt": TEXT for n in range(60)}
    after = files | {"d0/f0.txt": "changed\n", "d19/f59.txt": "changed\n", "new.txt": "n\n"}
    series = bench.series(files, after)
    root, wanted = bench.tree("pristine", files), tree_id(bench.tree("after", after))
    shelf = bench.store / "patched" / "toy"
    seen = set()

    def check() -> None:
        places = list(shelf.glob("[!.]*"))
        seen.add(len(places))
        assert [tree_id(place / "tree") for place in places] in ([], [wanted])

    killed(
        lambda: bench.apply(root, series),
        lambda whole: [*(1 + whole * n // 8 for n in range(8)), whole - 9, whole - 2, whole],
        before=lambda: shutil.rmtree(bench.store, ignore_errors=True),
        after=check,
    )
    assert seen == {0, 1}
    shutil.rmtree(bench.store)
    child, _ = forked(lambda: bench.apply(root, series), kill_at=150)
    os.waitpid(child, 0)
    assert [name[:6] for name in names(shelf)] == [".part-"]
    assert bench.apply(root, series).tree == wanted
    assert len(names(shelf)) == 1


def test_runs_at_once_make_one_tree(bench: Bench) -> None:
    files: dict[str, str] = {f"f{n}.txt": TEXT for n in range(200)}
    series = bench.series(files, files | {"f0.txt": "changed\n"})
    root = bench.tree("pristine", files)
    children = [forked(lambda: bench.apply(root, series))[0] for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert len(names(bench.store / "patched" / "toy")) == 1


def test_changed_patch_recompiles_only_what_it_touches(bench: Bench) -> None:
    target = bench.tmp / "build" / "src"
    files = {"a.c": "int a;\n", "b.c": "int b;\n", "c.c": "int c;\n"}
    root = bench.tree("pristine", files)
    sync(bench.apply(root, bench.series(files, files | {"a.c": "int a1;\n"})), target)
    (target / "build.ninja").write_text(
        "rule cc\n  command = cat $in > $out\n" + "".join(f"build {n}.o: cc {n}.c\n" for n in "abc")
    )
    ninja = [shutil.which("ninja") or str(Path(sys.executable).with_name("ninja")), "-v"]
    first = subprocess.run(ninja, cwd=target, check=True, capture_output=True, text=True).stdout
    assert "[3/3]" in first
    second = bench.series(files, files | {"a.c": "int a1;\n", "b.c": "int b2;\n"})
    assert sync(bench.apply(root, second), target) == ("b.c",)
    again = subprocess.run(ninja, cwd=target, check=True, capture_output=True, text=True).stdout
    assert again == "[1/1] cat b.c > b.o\n"


def text_with(**changed: str) -> str:
    """TEXT with lines replaced: `l7="seven"`."""
    text = TEXT
    for name, line in changed.items():
        text = text.replace(f"line {name[1:]}\n", f"{line}\n")
    return text


def test_patch_that_fits_is_kept_byte_for_byte_and_nothing_is_written(bench: Bench) -> None:
    series = bench.series({"a.txt": TEXT}, {"a.txt": text_with(l7="seven")})
    old = bench.tree("old", {"a.txt": TEXT})
    new = bench.tree("new", {"a.txt": TEXT + "more\n"})
    inode = (series.folder / "series").stat().st_ino
    assert bench.refresh(series, old, new) == (
        Refreshed(name="0001-change-toy.patch", outcome="kept"),
    )
    assert load_series(series.folder) == series
    assert (series.folder / "series").stat().st_ino == inode
    assert bench.console.lines[-1] == "0001-change-toy.patch: kept"


def test_moved_and_merged_patches_are_rebased_and_taken_ones_dropped(bench: Bench) -> None:
    first = text_with(l7="seven")
    second = text_with(l7="seven", l20="twenty")
    third = text_with(l7="seven", l20="twenty", l33="thirty-three")
    series = bench.series({"a.txt": TEXT}, *({"a.txt": text} for text in (first, second, third)))
    (series.folder / "README").write_text("a note\n")
    old = bench.tree("old", {"a.txt": TEXT})
    # upstream: two lines more on top, the second patch taken, context of the third changed
    upstream = "top\ntop\n" + text_with(l20="twenty", l31="changed")
    new = bench.tree("new", {"a.txt": upstream})
    with pytest.raises(BlackwheelError, match="stale-patch"):
        bench.apply(new, series)
    results = bench.refresh(series, old, new)
    assert [(result.name[:4], result.outcome) for result in results] == [
        ("0001", "rebased"),
        ("0002", "dropped"),
        ("0003", "rebased"),
    ]
    assert bench.console.lines[-3:] == [
        "0001-change-toy.patch: rebased",
        "0002-change-toy.patch: dropped: upstream has taken it",
        "0003-change-toy.patch: rebased",
    ]
    after = load_series(series.folder)
    assert (series.folder / "series").read_text() == (
        "# order\n0001-change-toy.patch\n0003-change-toy.patch\n"
    )
    assert names(series.folder) == [
        "0001-change-toy.patch",
        "0003-change-toy.patch",
        "README",
        "series",
    ]
    assert names(series.folder.parent) == ["1.0"]
    header = after.patches[0].header.decode()
    assert header == HEADER.format(name="0001-change-toy.patch").replace(
        "2026-01-02", "2026-11-22"
    ).replace(" stat | 1 +\n\n", "\n")
    patched = bench.apply(new, after)
    wanted = upstream.replace("line 7\n", "seven\n").replace("line 33\n", "thirty-three\n")
    assert (patched.root / "a.txt").read_text() == wanted
    assert {result.outcome for result in bench.refresh(after, new, new)} == {"kept"}


def test_half_taken_patch_keeps_its_other_half(bench: Bench) -> None:
    series = bench.series({"a.txt": TEXT}, {"a.txt": text_with(l7="seven", l20="twenty")})
    old = bench.tree("old", {"a.txt": TEXT})
    new = bench.tree("new", {"a.txt": text_with(l7="seven")})
    assert [result.outcome for result in bench.refresh(series, old, new)] == ["rebased"]
    content = load_series(series.folder).patches[0].content
    assert b"+twenty" in content
    assert b"seven" not in content.replace(b" seven", b"")


def test_hand_edited_first_patch_is_followed_by_the_rest_on_the_same_source(bench: Bench) -> None:
    edited = bench.series({"a.txt": TEXT}, {"a.txt": text_with(l7="seven\nand a half")})
    series = bench.series(
        {"a.txt": TEXT},
        {"a.txt": text_with(l7="seven")},
        {"a.txt": text_with(l7="seven", l20="twenty")},
    )
    (series.folder / edited.patches[0].name).write_bytes(edited.patches[0].content)
    root = bench.tree("old", {"a.txt": TEXT})
    with pytest.raises(BlackwheelError, match="hunk 1 fits at line 18"):
        bench.apply(root, load_series(series.folder))
    results = bench.refresh(load_series(series.folder), root, root)
    assert [result.outcome for result in results] == ["kept", "rebased"]
    patched = bench.apply(root, load_series(series.folder))
    assert (patched.root / "a.txt").read_text() == text_with(l7="seven\nand a half", l20="twenty")


def test_conflict_is_named_and_nothing_is_written(bench: Bench) -> None:
    series = bench.series(
        {"a.txt": TEXT, "b.txt": "b\n"},
        {"a.txt": TEXT, "b.txt": "B\n"},
        {"a.txt": text_with(l20="twenty"), "b.txt": "B\n"},
    )
    old = bench.tree("old", {"a.txt": TEXT, "b.txt": "b\n"})
    new = bench.tree("new", {"a.txt": "top\n" + text_with(l20="XX"), "b.txt": "b\n"})
    with pytest.raises(BlackwheelError) as caught:
        bench.refresh(series, old, new)
    assert caught.value.code == Exit.PATCH
    assert str(caught.value) == (
        "error: refresh-conflict\n"
        "  0002-change-toy.patch conflicts with toy at aaaaaaaaaaaa\n"
        "  a.txt:21\n"
        "  a.txt: hunk 1 does not fit: @@ -17,7 +17,7 @@\n"
        "  where: patches/toy/1.0/series, line 3\n"
        "  fix:   correct 0002-change-toy.patch by hand for aaaaaaaaaaaa, "
        "or take it out of the series"
    )
    assert load_series(series.folder) == series
    assert not [name for name in names(bench.store) if name.startswith("refresh-")]


def test_file_that_upstream_removed_is_a_conflict(bench: Bench) -> None:
    files = {"a.txt": TEXT, "b.txt": "b\n"}
    series = bench.series(files, files | {"a.txt": text_with(l20="twenty")})
    old, new = bench.tree("old", files), bench.tree("new", {"b.txt": "b\n"})
    with pytest.raises(BlackwheelError) as caught:
        bench.refresh(series, old, new)
    assert caught.value.fact == (
        "0001-change-toy.patch conflicts with toy at aaaaaaaaaaaa\n"
        "a.txt: changed by one side, removed by the other"
    )


def test_patch_that_fits_neither_source_is_stale(bench: Bench) -> None:
    series = bench.series({"a.txt": TEXT}, {"a.txt": text_with(l20="twenty")})
    other = bench.tree("other", {"a.txt": "nothing of it\n"})
    with pytest.raises(BlackwheelError) as caught:
        bench.refresh(series, other, other)
    assert str(caught.value) == (
        "error: stale-patch\n"
        "  0001-change-toy.patch does not apply to toy at 3f1c2ab9d0e4\n"
        "  git: patch failed: a.txt:17\n"
        "  git: a.txt: patch does not apply\n"
        "  where: patches/toy/1.0/series, line 2\n"
        "  fix:   correct 0001-change-toy.patch by hand, or take it out of the series"
    )


def test_patch_that_the_only_source_known_has_taken_is_dropped(bench: Bench) -> None:
    taken = {"a.txt": "top\n" + text_with(l20="twenty")}
    series = bench.series({"a.txt": TEXT}, {"a.txt": text_with(l20="twenty")})
    root = bench.tree("new", taken)
    assert [result.outcome for result in bench.refresh(series, root, root)] == ["dropped"]
    assert load_series(series.folder).patches == ()


def test_refresh_follows_a_file_that_upstream_renamed(bench: Bench) -> None:
    series = bench.series({"old.txt": TEXT}, {"old.txt": text_with(l20="twenty")})
    old, new = bench.tree("old", {"old.txt": TEXT}), bench.tree("new", {"new/name.txt": TEXT})
    assert [result.outcome for result in bench.refresh(series, old, new)] == ["rebased"]
    patched = bench.apply(new, load_series(series.folder))
    assert (patched.root / "new/name.txt").read_text() == text_with(l20="twenty")


def test_refresh_keeps_bytes_that_are_not_utf8_and_crlf(bench: Bench) -> None:
    before = b"\xe4\r\n" + TEXT.encode().replace(b"\n", b"\r\n")
    after = before.replace(b"line 3\r\n", b"\xfc\r\n")
    attributes = {".gitattributes": "* text=auto\n", ".gitignore": "*\n"}
    series = bench.series(attributes | {"a.txt": before}, attributes | {"a.txt": after})
    old = bench.tree("old", attributes | {"a.txt": before})
    new = bench.tree("new", attributes | {"a.txt": b"top\r\n" + before})
    assert [result.outcome for result in bench.refresh(series, old, new)] == ["rebased"]
    patched = bench.apply(new, load_series(series.folder))
    assert (patched.root / "a.txt").read_bytes() == b"top\r\n" + after


def test_refresh_into_a_new_version_leaves_the_old_one(bench: Bench) -> None:
    series = bench.series({"a.txt": TEXT}, {"a.txt": text_with(l7="seven")})
    old = bench.tree("old", {"a.txt": TEXT})
    new = bench.tree("new", {"a.txt": TEXT + "more\n"})
    folder = series.folder.with_name("1.1")
    bench.refresh(series, old, new, folder)
    assert load_series(series.folder) == series
    assert load_series(folder).patches == series.patches
    assert folder.stat().st_mode & 0o777 == 0o755
    with pytest.raises(BlackwheelError) as caught:
        bench.refresh(series, old, new, folder)
    assert str(caught.value) == (
        "error: series-exists\n"
        "  toy 1.1 has a series already\n"
        "  where: patches/toy/1.1\n"
        "  fix:   refresh that one, or remove its folder"
    )


def test_refresh_refuses_what_apply_refuses(bench: Bench) -> None:
    series = series_of(bench.folder, {"0001-add-file.patch": new_file("../x")})
    root = bench.tree("old", {"a.txt": TEXT})
    with pytest.raises(BlackwheelError, match="patch-outside-tree"):
        bench.refresh(series, root, root)


def test_killed_refresh_leaves_the_old_series_or_the_new_one(bench: Bench) -> None:
    old = bench.tree("old", {"a.txt": TEXT})
    new = bench.tree("new", {"a.txt": "top\n" + TEXT})
    states = [{"a.txt": text_with(l7="seven")}, {"a.txt": text_with(l7="seven", l33="x")}]
    series = bench.series({"a.txt": TEXT}, *states)
    kept = bench.tmp / "kept"
    shutil.copytree(series.folder, kept)
    seen = set()

    def again() -> None:
        shutil.rmtree(series.folder.parent)
        shutil.copytree(kept, series.folder)

    def check() -> None:
        now = load_series(series.folder).patches
        same = {a.content == b.content for a, b in zip(now, series.patches, strict=True)}
        assert len(same) == 1
        seen.update(same)

    site = site_with(bench.store, HERE, bench.console)
    sources = {"old": source(old), "new": source(new, "a" * 40)}
    found = rebase.rebase(site, series, **sources, date="2026-11-22")
    killed(
        lambda: rebase.put(found, series.folder),
        lambda whole: range(1, whole + 1),
        before=again,
        after=check,
    )
    assert seen == {True, False}
