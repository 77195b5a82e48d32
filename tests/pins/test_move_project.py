"""`invoke pin PROJECT VERSION` and `invoke outdated` on real upstreams with tags and submodules."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import HOST
from killing import killed
from toy_upstream import World, patch, serving, text_with

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pins import move_project, outdated, pin, project_report
from blackwheel.sources import fetch
from blackwheel.sources.series import load_series
from blackwheel.stacks import loader

GONE = "https://nowhere.invalid/simple"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with serving() as index:
        yield World(tmp_path_factory.mktemp("world"), index)


@pytest.fixture
def site(world: World, tmp_path: Path) -> Site:
    return world.site(tmp_path)


def pinned(site: Site, version: str = "1.1", stack: str = "toy", **how: object) -> bool:
    return project_report.pin_project(site, stack, "toy", version, **how)  # type: ignore[arg-type]


def files(site: Site) -> dict[str, bytes]:
    """Every file of the checkout."""
    found = (path for path in site.checkout.rglob("*") if path.is_file())
    return {str(path.relative_to(site.checkout)): path.read_bytes() for path in found}


def refused(site: Site, version: str = "1.1", stack: str = "toy", **how: object) -> BlackwheelError:
    """Pin, expect an error, and that no file of the checkout changed by it."""
    before = files(site)
    with pytest.raises(BlackwheelError) as caught:
        pinned(site, version, stack, **how)
    assert files(site) == before
    return caught.value


def toml(site: Site) -> Path:
    return site.constraints / "toy.toml"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def said(site: Site) -> str:
    assert isinstance(site.console, Quiet)
    return site.console.results


# What is written


@pytest.fixture(scope="module")
def moved(world: World, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The stack after `invoke pin toy 1.1`; no test changes it."""
    site = world.site(tmp_path_factory.mktemp("moved"))
    assert pinned(site)
    return site


def test_release_moves_commits_trees_sdist_requirements_and_series(
    moved: Site, site: Site, world: World
) -> None:
    before = toml(site).read_text(encoding="utf-8")
    old_series = load_series(site.patches / "toy" / "1.0")
    site = moved
    made = loader.load("toy", site.constraints).projects["toy"]
    assert (made.version, made.revision) == ("1.1", 1)
    assert made.source.commit == world.toy.commits["v1.1"], (
        "the tag is annotated: what it points to"
    )
    assert made.source.tree == world.toy.tree("v1.1")
    assert [(n.path, n.commit, n.tree) for n in made.nested] == [
        ("third_party/toy_headers", world.headers.commits["v4.1"], world.headers.tree("v4.1")),
        ("third_party/toy_headers/deep", world.sub.commits["two"], world.sub.tree("two")),
        ("third_party/sub", world.sub.commits["two"], world.sub.tree("two")),
    ]
    data = world.index.files["toy-1.1.tar.gz"]
    assert made.sdist
    assert (made.sdist.name, made.sdist.size) == ("toy-1.1.tar.gz", len(data))
    assert made.runtime == ("numpy", "regex==2", "torchvision==0.26.0")
    assert made.requirements == ("setuptools<81", "ninja")
    series = load_series(site.patches / "toy" / "1.1")
    assert [p.name for p in series.patches] == [
        "0001-change-kernel.patch",
        "0003-change-headers.patch",
    ]
    assert series.patches[1].content == old_series.patches[2].content
    assert b"@@ -18,7 +18,7 @@" in series.patches[0].content
    assert (series.folder / "probes.toml").read_text(encoding="utf-8") == ""
    kept = load_series(site.patches / "toy" / "1.0")
    assert kept.patches == old_series.patches
    assert loader.load("child", site.constraints).projects["toy"] == made
    after = toml(site).read_text(encoding="utf-8")
    for comment in ("# A stack of one toy.", "# any", "# a comment", "# HEADERS_TAG v4.1"):
        assert comment in after
    assert 'description = "toy 1.1 on torch 2.11.0"' in after
    assert "# HEADERS_TAG v4.0" in before


def test_plan_and_diff_are_shown(moved: Site, world: World) -> None:
    text = said(moved)
    old, new = (world.toy.commits[tag][:12] for tag in ("v1.0", "v1.1"))
    for line in (
        "toy in stack toy: 1.0 → 1.1 (tag v1.1)",
        f"  source   {old} → {new}",
        "  patch    0001-change-kernel.patch: rebased",
        "  patch    0002-change-setup.patch: dropped: upstream has it",
        "  patch    0003-change-headers.patch: kept",
        "  plan     version: 1.0+cu130torch2.11.0.sm120a.3 → 1.1+cu130torch2.11.0.sm120a.1",
        "  plan     archs: 12.0a",
        "  objects  the count (3) is from 1.0; use --objects to recount",
        "  key      patches.0002-change-setup.patch is gone",
        f"  look at  CMakeLists.txt: fetches newdep since this release ({HOST}toy/newdep at v7)",
        "--- constraints/toy.toml",
        '-version = "1.0"',
        '+version = "1.1"',
        "--- patches/toy/1.1/0001-change-kernel.patch",
    ):
        assert line in text.splitlines(), line


def test_pinning_the_pinned_release_again_changes_nothing(site: Site) -> None:
    before = files(site)
    pin.pin(site, "toy", "1.0", stack="toy")
    assert files(site) == before
    assert said(site).endswith("  key      the same\n")


def test_latest_is_the_newest_final_release(site: Site) -> None:
    assert str(refused(site, "latest")) == (  # 1.3: 2.0rc1 is not final
        "error: nested-not-named\n"
        "  third_party/toy_headers: the new release of toy names no commit for it\n"
        "  where: projects.toy.nested.0\n"
        "  fix:   --commit third_party/toy_headers=COMMIT, if you know which one is meant\n"
        "         or take it out of the stack file, if upstream has dropped it"
    )


def test_series_that_a_killed_run_or_another_stack_left_is_taken_as_it_is(
    site: Site, moved: Site
) -> None:
    shutil.copytree(moved.patches / "toy" / "1.1", site.patches / "toy" / "1.1")
    assert pinned(site)
    assert files(site) == files(moved)


# What is refused, and then nothing is written


def test_release_without_a_tag_is_refused_with_those_there_are(site: Site) -> None:
    assert str(refused(site, "9.9")) == (
        "error: no-such-release\n"
        f"  {HOST}toy/toy has no tag for 9.9\n"
        "  where: projects.toy.source.url\n"
        "  fix:   one of: 2.0rc1, 1.3, 1.2, 1.1, 1.0"
    )


def test_tag_that_moved_is_refused(site: Site, world: World) -> None:
    commit = world.toy.commits["v1.0"]
    edit(toml(site), commit, "0" * 40)
    assert str(refused(site, "1.0")) == (
        "error: moved-tag\n"
        f"  tag v1.0 of {HOST}toy/toy names another commit than is pinned for it\n"
        f"  found:  {commit}\n"
        f"  pinned: {'0' * 40}\n"
        "  where: constraints/child.toml, projects.toy.source.commit\n"
        "  fix:   find out who moved the tag before you change the pin"
    )


def test_tag_of_a_nested_source_that_moved_is_refused(site: Site, world: World) -> None:
    edit(toml(site), world.headers.commits["v4.0"], world.headers.commits["v4.1"])
    edit(toml(site), world.headers.tree("v4.0"), world.headers.tree("v4.1"))
    error = refused(site, "1.0")
    assert (error.name, error.where) == ("moved-tag", "projects.toy.nested.0.commit")
    assert world.headers.commits["v4.0"] in error.fact


def test_patch_that_conflicts_is_named_with_file_and_hunk(site: Site, world: World) -> None:
    name, commit = "0001-change-kernel.patch", world.toy.commits["v1.2"][:12]
    error = refused(site, "1.2")
    assert error.code == Exit.PATCH
    assert str(error) == (
        "error: refresh-conflict\n"
        f"  {name} conflicts with toy at {commit}\n"
        "  src/kernel.cu:20\n"
        "  src/kernel.cu: hunk 1 does not fit: @@ -17,7 +17,7 @@\n"
        "  where: patches/toy/1.0/series, line 2\n"
        f"  fix:   correct {name} by hand for {commit}, or take it out of the series"
    )


def test_nested_source_that_cannot_be_reached_is_refused(world: World, tmp_path: Path) -> None:
    error = refused(world.site(tmp_path, unreachable=("toy_headers",)))
    assert (error.name, error.code) == ("nested-unreachable", Exit.SOURCE)
    first, second = error.fact.splitlines()
    assert first.startswith(f"{HOST}toy/toy_headers cannot be reached: ")
    assert second == "third_party/toy_headers: CMakeLists.txt names tag v4.1"
    assert error.where == "projects.toy.nested.0.url"


def test_every_blocker_is_told_in_one_go(world: World, tmp_path: Path) -> None:
    error = refused(world.site(tmp_path, unreachable=("toy_headers",)), "1.2")
    lines = error.fact.splitlines()
    assert (error.name, error.code) == ("pin-blocked", Exit.SOURCE)
    assert lines[0] == "toy 1.2 cannot be pinned for 2 reasons"
    names = [line.partition(":")[0] for line in lines if line.partition(":")[0].count("-")]
    assert names == ["nested-unreachable", "refresh-conflict"]
    assert lines.count("where: projects.toy.nested.0.url") == 1
    assert "0001-change-kernel.patch conflicts with toy" in error.fact


def test_commit_that_no_tag_names_is_pinned_under_a_version_of_ones_own(
    site: Site, world: World
) -> None:
    commit = world.toy.commits["v1.1"]
    assert pinned(site, "latest", commits=[commit], as_version="1.1.dev1")
    made = loader.load("toy", site.constraints).projects["toy"]
    assert (made.version, made.source.commit, made.sdist) == ("1.1.dev1", commit, None)
    assert made.source.tree == world.toy.tree("v1.1")
    assert (site.patches / "toy" / "1.1.dev1" / "series").is_file()
    assert "toy in stack toy: 1.0 → 1.1.dev1 (no tag names it)" in said(site)
    error = refused(site, "latest", commits=[commit], as_version="1.2")
    assert (error.name, error.where) == ("bad-version", "--as-version")
    assert refused(site, "latest", commits=[commit[:9]], as_version="1.2").name == "bad-commit"


def test_sdist_of_which_no_tag_is_known_is_the_source(site: Site, world: World) -> None:
    """Of the nine digits that it tells, git's refs have all forty."""
    commit = world.toy.commits["v1.1"]
    text = world.index.files["toy-1.1.tar.gz"]
    world.index.files["toy-1.1.post1.tar.gz"] = renamed(text, "toy-1.1", "toy-1.1.post1")
    try:
        assert pinned(site, "1.1.post1")
    finally:
        del world.index.files["toy-1.1.post1.tar.gz"]
    made = loader.load("toy", site.constraints).projects["toy"]
    assert (made.version, made.source.commit) == ("1.1.post1", commit)
    assert made.sdist and made.sdist.name == "toy-1.1.post1.tar.gz"
    assert isinstance(site.console, Quiet)
    assert (
        f"toy: {HOST}toy/toy has no tag for 1.1.post1: toy-1.1.post1.tar.gz is the source;"
        f" git knows its commit: {commit}"
    ) in site.console.lines


def renamed(sdist: bytes, before: str, after: str) -> bytes:
    """The same sdist under another version."""
    sink = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist)) as old,
        tarfile.open(fileobj=sink, mode="w:gz") as new,
    ):
        for member in old:
            file = old.extractfile(member)
            data = (file.read() if file else b"").replace(
                b"Version: 1.1\n", b"Version: 1.1.post1\n"
            )
            member.name, member.size = member.name.replace(before, after, 1), len(data)
            new.addfile(member, io.BytesIO(data))
    return sink.getvalue()


def test_commit_that_a_person_names_stands_in_for_what_upstream_does_not_tell(
    site: Site, world: World
) -> None:
    named = f"third_party/toy_headers={world.headers.commits['v4.1']}"
    assert pinned(site, "1.3", commits=[named])
    made = loader.load("toy", site.constraints).projects["toy"]
    assert made.nested[0].commit == world.headers.commits["v4.1"]
    assert made.nested[1].commit == world.sub.commits["two"]
    assert made.sdist is None, "the index has no sdist of 1.3"
    assert "  look at  the package index has no sdist of 1.3: git alone can be the source" in said(
        site
    )


def test_sdist_whose_bytes_are_not_those_that_the_index_names_is_refused(
    site: Site, world: World, tmp_path: Path
) -> None:
    site = replace(site, store=tmp_path / "empty-store")
    world.index.claims["toy-1.1.tar.gz"] = "0" * 64
    try:
        error = refused(site)
    finally:
        world.index.claims.clear()
    assert (error.name, error.code) == ("wrong-sha256", Exit.INDEX)
    assert "toy-1.1.tar.gz is not the file that the index lists; it was not kept" in error.fact
    assert list((site.store / "sdists").glob("toy-*.tar.gz")) == []


def test_sdist_with_other_bytes_than_are_pinned_under_its_name_is_refused(site: Site) -> None:
    pin_of = loader.load("toy", site.constraints).projects["toy"].sdist
    assert pin_of
    edit(toml(site), pin_of.sha256, "0" * 64)
    assert str(refused(site, "1.0")) == (
        "error: moved-sdist\n"
        "  toy-1.0.tar.gz has other bytes than are pinned for it\n"
        f"  found:  {pin_of.sha256}\n"
        f"  pinned: {'0' * 64}\n"
        "  where: constraints/child.toml, projects.toy.sdist.sha256\n"
        "  fix:   find out who changed the file before you change the pin"
    )


@pytest.mark.parametrize("away", [(), ("toy",)], ids=["git", "sdist"])
def test_first_pin_measures_the_sdist_that_a_stack_names(
    world: World, tmp_path: Path, away: tuple[str, ...]
) -> None:
    """The stack file of a new project says no bytes; what is written is what another one has."""
    site = world.site(tmp_path, unreachable=away)
    whole = toml(site).read_text("utf-8")
    known = loader.load("toy", site.constraints).projects["toy"]
    assert known.sdist
    for line in (
        f'sha256 = "{known.sdist.sha256}"\n',
        f"size = {known.sdist.size}\n",
        f'tree = "{known.sdist.tree}"\n',
    ):
        edit(toml(site), line, "")
    shutil.rmtree(site.patches / "toy")
    empty = loader.load("toy", site.constraints).projects["toy"]
    assert empty.sdist and not empty.sdist.measured
    with pytest.raises(BlackwheelError) as caught:
        fetch.fetch(site, "toy", empty)
    assert str(caught.value) == (
        "error: sdist-not-measured\n"
        "  the stack names toy-1.0.tar.gz, and not which bytes it has\n"
        "  where: projects.toy.sdist\n"
        "  fix:   invoke pin toy 1.0 --stack STACK"
    )
    named = [f"third_party/sub={known.nested[2].commit}"] if away else []  # no sdist tells a link
    assert pinned(site, "1.0", commits=named)
    assert "  first    its bytes are measured now" in said(site)
    assert "  series   patches/toy/1.0/series is made: it names no patch yet" in said(site)
    assert load_series(site.patches / "toy" / "1.0").patches == ()
    assert "keys cannot be compared" not in said(site)
    assert site.console.lines[-1].endswith("written; next: nox -s lock -- toy")  # type: ignore[attr-defined]
    made = loader.load("toy", site.constraints).projects["toy"]
    assert made.sdist == known.sdist
    if not away:
        assert made == known
        assert toml(site).read_text("utf-8") == whole


def test_sdist_of_which_one_number_is_missing_is_a_fault_of_the_stack(site: Site) -> None:
    pin_of = loader.load("toy", site.constraints).projects["toy"].sdist
    assert pin_of
    edit(toml(site), f"size = {pin_of.size}\n", "")
    with pytest.raises(BlackwheelError) as caught:
        loader.load("toy", site.constraints)
    assert caught.value.name == "bad-stack"
    assert (
        "projects.toy.sdist: with sha256, tree all of sha256, size and tree are wanted, or none"
        in str(caught.value)
    )


def test_git_host_that_is_away_wants_the_commit_named_where_there_is_no_sdist(
    world: World, tmp_path: Path
) -> None:
    site = world.site(tmp_path, unreachable=("toy",))
    text = toml(site).read_text("utf-8")
    start = text.index("[projects.toy.sdist]")
    without = text[:start] + text[text.index("\n[", start) :]
    toml(site).write_text(without, encoding="utf-8")
    error = refused(site)
    assert error.code == Exit.SOURCE
    assert error.fact.splitlines()[1] == "nothing else tells the commit of a release"
    assert "--commit COMMIT" in error.fix
    toml(site).write_text(text, encoding="utf-8")
    error = refused(site, commits=["0" * 40])
    assert str(error) == (
        "error: other-commit\n"
        "  toy-1.1.tar.gz says that it was made of another commit\n"
        f"  says:     {world.toy.commits['v1.1'][:9]}\n"
        f"  --commit: {'0' * 40}\n"
        "  where: projects.toy.source.commit\n"
        "  fix:   name the commit of the release"
    )


def test_nine_digits_that_the_sdist_tells_make_it_the_source(world: World, tmp_path: Path) -> None:
    site = world.site(tmp_path, unreachable=("toy",))
    digits = world.toy.commits["v1.1"][:9]
    named = [f"third_party/sub={world.sub.commits['two']}"]  # a link that an sdist does not tell
    assert pinned(site, commits=[digits, *named])
    made = loader.load("toy", site.constraints).projects["toy"]
    assert (made.source.commit, made.source.tree) == (digits, None)
    assert made.nested[0].commit == world.headers.commits["v4.1"]
    assert "(commit as named, not seen)" in said(site)


@pytest.mark.parametrize("tells", [True, False], ids=["told", "unknown"])
def test_sdist_alone_is_the_source_where_git_is_away_and_no_commit_is_invented(
    world: World, tmp_path: Path, tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = world.site(tmp_path, unreachable=("toy",))
    digits = world.toy.commits["v1.1"][:9] if tells else ""
    if not tells:
        data = world.index.files["toy-1.1.tar.gz"]
        silent = re.sub(rb"__commit_id__", b"__commit_as__", gzip.decompress(data))
        # its own store: an sdist of a name has one content
        site = replace(site, store=tmp_path / "store")
        monkeypatch.setitem(world.index.files, "toy-1.1.tar.gz", gzip.compress(silent))
    named = [f"third_party/sub={world.sub.commits['two']}"]  # a link that an sdist does not tell
    assert pinned(site, commits=named)
    made = loader.load("toy", site.constraints).projects["toy"]
    assert (made.source.commit, made.source.tree, made.source.only_sdist) == (digits, None, True)
    assert ("commit =" in toml(site).read_text("utf-8").partition("[[")[0]) is tells
    how = f"commit {digits}" if tells else "nobody here knows its commit"
    assert isinstance(site.console, Quiet)
    assert f"toy-1.1.tar.gz is the source; {how}" in "\n".join(site.console.lines)
    seen = "(commit as named, not seen)" if tells else "(its commit is unknown)"
    assert seen in said(site)


def test_commit_that_was_unknown_is_found_when_git_answers(site: Site, world: World) -> None:
    """Its tag is not called moved, and its tree is written down."""
    pin = loader.load("toy", site.constraints).projects["toy"].source
    edit(toml(site), f'commit = "{pin.commit}"\n', "")
    edit(toml(site), f'tree = "{pin.tree}"\n', "")
    assert loader.load("toy", site.constraints).projects["toy"].source.only_sdist
    assert pinned(site, "1.0")
    found = loader.load("toy", site.constraints).projects["toy"].source
    assert (found.commit, found.tree) == (world.toy.commits["v1.0"], world.toy.tree("v1.0"))


def test_stack_that_has_the_project_of_another_says_where_to_pin_it(site: Site) -> None:
    assert str(refused(site, stack="child")) == (
        "error: cannot-pin\n"
        "  stack 'child' has the toy of stack 'toy'\n"
        "  where: constraints/child.toml, extends\n"
        "  fix:   invoke pin toy VERSION --stack toy"
    )


def test_series_that_a_person_made_for_the_new_version_is_put_where_it_belongs(site: Site) -> None:
    folder, name = site.patches / "toy" / "1.2", "0001-mine.patch"
    folder.mkdir()
    (folder / "series").write_text(f"{name}\n", encoding="utf-8")
    (folder / name).write_text(patch("setup.py", "a\n", "b\n", "mine"), encoding="utf-8")
    error = refused(site, "1.2")
    assert (error.name, error.where) == ("stale-patch", "patches/toy/1.2/series, line 1")
    old = "one line less\n" + text_with(l7="seven")
    mine = patch("setup.py", old, old.replace("line 20", "mine"), "mine")
    (folder / name).write_text(mine, encoding="utf-8")
    assert pinned(site, "1.2")
    assert "@@ -17,7 +17,7 @@" in (folder / name).read_text(encoding="utf-8")
    assert "  look at  toy: upstream asks for torch==2.13.0; the stack has torch 2.11.0" in said(
        site
    )


def test_words_that_are_no_version_or_commit_are_refused(site: Site) -> None:
    assert str(refused(site, "next")) == (
        "error: bad-version\n"
        "  'next' is no version\n"
        "  where: invoke pin\n"
        "  fix:   a release, as 2.8.3, or latest"
    )
    assert str(refused(site, commits=["third_party/sub=main"])) == (
        "error: bad-commit\n"
        "  'third_party/sub=main' names no commit\n"
        "  where: --commit\n"
        "  fix:   40 hexadecimal digits, or the nine that an sdist tells of its own;\n"
        "         for a nested source: --commit third_party/NAME=COMMIT"
    )
    assert str(refused(site, commits=[f"third_party/sup={'0' * 40}"])) == (
        "error: bad-commit\n"
        "  'third_party/sup' is no nested source of toy; did you mean 'third_party/sub'?\n"
        "  where: --commit\n"
        "  fix:   one of: third_party/toy_headers, third_party/toy_headers/deep, third_party/sub"
    )


# Everything, or nothing


@pytest.fixture
def move(site: Site) -> move_project.Move:
    """A move that only has to be written."""
    return move_project.prepare(site, "toy", "toy", "1.1", commits={})


def test_write_is_whole_or_not_at_all_dry_killed_stopped_or_overtaken(
    site: Site, moved: Site, move: move_project.Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen, original = site.patches / "toy" / "1.1", set(), files(site)
    with monkeypatch.context() as patched:
        patched.setattr(move_project, "prepare", lambda *_, **__: move)  # once is enough
        assert not pinned(site, dry_run=True)
    assert files(site) == original
    assert said(site) == said(moved), "a dry run shows the same"

    def before() -> None:
        toml(site).write_text(move.before, encoding="utf-8")
        for path in (folder, *folder.parent.glob(".*")):
            shutil.rmtree(path, ignore_errors=True)

    def after() -> None:
        done = toml(site).read_text(encoding="utf-8") == move.after
        assert done or toml(site).read_text(encoding="utf-8") == move.before
        if folder.exists():
            assert len(load_series(folder).patches) == 2
        assert folder.exists() or not done
        seen.add((folder.exists(), done))

    killed(
        lambda: move_project.write(site, move),
        lambda whole: range(1, whole + 1),
        before=before,
        after=after,
    )
    assert seen - {(True, True)} == {(False, False), (True, False)}
    before()
    (folder.parent / ".1.1.part-killed").mkdir()
    move_project.write(site, move)
    after()
    assert (True, True) in seen
    assert list(folder.parent.glob(".*")) == [], "what killed runs left is gone"
    before()

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(move_project, "rewrite_file", stopped)
        with pytest.raises(KeyboardInterrupt):
            move_project.write(site, move)
    for leftover in site.constraints.glob(".*"):
        leftover.unlink()
    assert files(site) == original

    edit(toml(site), "objects = 3", "objects = 4")
    saved = files(site)
    with pytest.raises(BlackwheelError) as caught:
        move_project.write(site, move)
    assert files(site) == saved
    assert str(caught.value) == (
        "error: stack-changed\n"
        "  the stack file was changed while its pin was moved; nothing was written\n"
        "  where: constraints/toy.toml\n"
        "  fix:   the same command again"
    )


# invoke outdated


def rows(site: Site, stack: str = "toy") -> tuple[int, list[dict[str, object]]]:
    quiet = Quiet()
    code = outdated.show_outdated(replace(site, console=quiet), stack, as_json=True)
    return code, json.loads(quiet.results)["pins"]


def test_outdated_names_newer_releases_and_what_they_make_of_each_patch(
    site: Site, world: World
) -> None:
    code, found = rows(site)
    assert code == Exit.AWAY, "this index has no torch"
    torch, toy = found
    assert (torch["what"], torch["newest"], torch["newer"]) == ("torch", "", False)
    (error,) = torch["errors"]  # type: ignore[misc]
    assert error["name"] == "no-project-there"
    assert (toy["what"], toy["pinned"], toy["newest"]) == ("toy", "1.0", "1.3")
    assert (toy["tag"], toy["listed"], toy["newer"]) == ("1.3", "1.2", True)
    assert toy["errors"] == []
    assert toy["patches"] == {
        "0001-change-kernel.patch": "rebased",
        "0002-change-setup.patch": "dropped",
        "0003-change-headers.patch": "not tried",
    }


def test_outdated_without_a_network_is_one_error_a_source_and_no_traceback(
    world: World, tmp_path: Path
) -> None:
    site = world.site(tmp_path, unreachable=("toy",))
    site = replace(site, environment={**site.environment, "UV_DEFAULT_INDEX": GONE})
    code = outdated.show_outdated(site, "toy", as_json=False)
    assert code == Exit.AWAY
    assert "no answer" in said(site)
    code, found = rows(site)
    names = [error["name"] for row in found for error in row["errors"]]  # type: ignore[attr-defined]
    assert names == ["no-answer", "git-host-unreachable", "no-answer"]
    assert [row["newest"] for row in found] == ["", ""]


def test_release_that_only_the_index_has_is_tried_from_its_sdist(
    world: World, tmp_path: Path
) -> None:
    site = world.site(tmp_path, unreachable=("toy",))
    code, found = rows(site)
    assert code == Exit.AWAY
    assert (found[1]["newest"], found[1]["tag"], found[1]["listed"]) == ("1.2", "", "1.2")
    assert found[1]["patches"] == {
        "0001-change-kernel.patch": "conflicts",
        "0002-change-setup.patch": "dropped",
        "0003-change-headers.patch": "not tried",
    }


def test_word_that_is_no_pin_is_refused_with_those_there_are(site: Site) -> None:
    with pytest.raises(BlackwheelError) as caught:
        pin.pin(site, "tay", "1.1", stack="toy")
    assert str(caught.value) == (
        "error: cannot-pin\n"
        "  'tay' is no pin that can be moved; did you mean 'toy'?\n"
        "  where: invoke pin\n"
        "  fix:   one of: torch, toy"
    )


def test_option_that_would_be_ignored_is_refused(site: Site) -> None:
    before = files(site)
    with pytest.raises(BlackwheelError) as caught:
        pin.pin(site, "torch", "2.13.0", stack="toy", objects=True)
    assert str(caught.value) == (
        "error: bad-option\n"
        "  --objects means nothing for torch\n"
        "  where: invoke pin\n"
        "  fix:   leave it out; invoke --help pin tells what is for which"
    )
    with pytest.raises(BlackwheelError, match="bad-option"):
        pin.pin(site, "toy", "1.1", stack="toy", channel="cu130")
    assert files(site) == before
