"""A wheel that stands in for a nested source: real git repositories, and one that is away."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import git, site_with

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError
from blackwheel.sources import fetch as sources
from blackwheel.sources.fetch import SourceTree
from blackwheel.sources.tree import Entry, tree_id, write_entries
from blackwheel.stacks.records import ArchivePin, GitPin, NestedPin, ProjectPin

FILES = {"kernel.py": "one\n", "deep/more.py": "two\n"}
INTO = "python/toy"


def repository(place: Path, files: dict[str, str]) -> GitPin:
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, encoding="utf-8")
    git(place, "init", "--quiet", "--initial-branch=main")
    git(place, "config", "uploadpack.allowAnySHA1InWant", "true")
    git(place, "config", "uploadpack.allowFilter", "true")
    git(place, "add", "--all", ".")
    git(place, "commit", "--quiet", "--message", "one")
    commit, tree = git(place, "rev-parse", "HEAD", "HEAD^{tree}").split()
    return GitPin(url=place.as_uri(), commit=commit, tree=tree)


@pytest.fixture
def project(tmp_path: Path) -> ProjectPin:
    """A project whose nested source has two files that a wheel has too, and one that it has not."""
    named = {f"{INTO}/{name}": text for name, text in FILES.items()}
    inner = repository(tmp_path / "inner", {**named, f"{INTO}/data.bin": "x", "top.py": "no\n"})
    outer = repository(tmp_path / "outer", {"setup.py": "import torch\n"})
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(f"vendor/toy/{name}", text)
        wheel.writestr("vendor/other.py", "no")
    carried = tmp_path / "carried"
    carried.mkdir()
    name = "official-1.0-py3-none-any.whl"
    (carried / name).write_bytes(data.getvalue())
    entries = (Entry(path=n, mode=0o100644, data=t.encode()) for n, t in FILES.items())
    write_entries(entries, tmp_path / "expected", where="here")
    archive = ArchivePin(
        name=name,
        sha256=hashlib.sha256(data.getvalue()).hexdigest(),
        size=len(data.getvalue()),
        folder="vendor/toy",
        into=INTO,
        tree=tree_id(tmp_path / "expected"),
    )
    nested = NestedPin(
        path="third_party/toy", url=inner.url, commit=inner.commit, sparse=(INTO,), archive=archive
    )
    return ProjectPin(version="1.0", modules=("toy",), source=outer, nested=(nested,))


def fetch(project: ProjectPin, tmp_path: Path, console: Quiet | None = None) -> SourceTree:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = {
        **kept,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "UV_DEFAULT_INDEX": "nothing://at.all/simple",
        "BLACKWHEEL_SDISTS": str(tmp_path / "carried"),
    }
    return sources.fetch(site_with(tmp_path / "store", environment, console), "toy", project)


def changed(project: ProjectPin, **how: object) -> ProjectPin:
    (nested,) = project.nested
    return replace(project, nested=(replace(nested, **how),))  # type: ignore[arg-type]


def away(project: ProjectPin) -> ProjectPin:
    return changed(project, url="https://git.invalid/toy")


def names(tree: SourceTree) -> list[str]:
    root = tree.root / "third_party/toy"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_files_of_the_wheel_stand_in_where_the_git_host_is_away(
    project: ProjectPin, tmp_path: Path
) -> None:
    console = Quiet()
    found = fetch(away(project), tmp_path, console)
    assert found.origin == "git", "the project itself is there"
    assert names(found) == sorted(f"{INTO}/{name}" for name in FILES)
    (nested,) = found.nested
    archive = project.nested[0].archive
    assert archive and (nested.tree, nested.wheel) == (archive.tree, archive.name)
    assert nested.commit == project.nested[0].commit
    said = "\n".join(console.lines)
    assert "toy: https://git.invalid/toy cannot be reached (Could not resolve host" in said
    assert f"toy: files of {archive.name} stand in for third_party/toy" in said
    assert fetch(away(project), tmp_path) == found


def test_git_is_asked_first_and_its_own_files_must_be_those_of_the_wheel(
    project: ProjectPin, tmp_path: Path
) -> None:
    found = fetch(project, tmp_path)
    assert names(found) == sorted([f"{INTO}/data.bin", *(f"{INTO}/{n}" for n in FILES), "top.py"])
    assert found.nested[0].wheel == ""
    archive = project.nested[0].archive
    assert archive
    other = changed(project, archive=replace(archive, tree="0" * 40))
    with pytest.raises(BlackwheelError) as caught:
        fetch(other, tmp_path)
    assert str(caught.value) == (
        "error: wrong-tree\n"
        f"  the .py files of commit {project.nested[0].commit[:12]} make another tree\n"
        f"  found:  {archive.tree}\n"
        f"  pinned: {'0' * 40}\n"
        "  where: projects.toy.nested.0.archive.tree\n"
        "  fix:   correct the archive in the stack file, or leave this source out with --without"
    )


def test_wheel_with_other_files_or_other_bytes_is_refused(
    project: ProjectPin, tmp_path: Path
) -> None:
    archive = project.nested[0].archive
    assert archive
    other = changed(away(project), archive=replace(archive, folder="vendor"))
    with pytest.raises(BlackwheelError, match=r"wrong-tree(?s:.)*files of official-1.0"):
        fetch(other, tmp_path)
    other = changed(away(project), archive=replace(archive, sha256="0" * 64))
    (tmp_path / "store/sdists" / archive.name).unlink()
    with pytest.raises(BlackwheelError, match="wrong-sha256") as caught:
        fetch(other, tmp_path)
    assert caught.value.where.endswith("projects.toy.nested.0.archive.sha256")


def test_wheel_that_cannot_be_had_leaves_the_git_host_as_the_reason(
    project: ProjectPin, tmp_path: Path
) -> None:
    archive = project.nested[0].archive
    assert archive
    (tmp_path / "carried" / archive.name).unlink()
    with pytest.raises(BlackwheelError) as caught:
        fetch(away(project), tmp_path)
    assert f"{archive.name} cannot be had either: the package index" in caught.value.fact
