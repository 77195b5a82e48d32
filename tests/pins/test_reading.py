"""What upstream's own files say of a release: CMake's fetches, submodules, requirements, tags."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from blackwheel.pins import cmake, outdated, requirements
from blackwheel.pins.upstream_files import Reading
from blackwheel.sources import git_tags

COMMIT = "830d2c4537c7396e14a02a46fbddd18b5d107c65"
VARIABLES = f"""
# set(TAG "of a comment")
set(_REPO "https://host.example/fork/Thing.git") # why
set(_TAG "{COMMIT}")
FetchContent_Populate(
  thing
  SOURCE_DIR "${{_src}}"
  GIT_REPOSITORY "${{_REPO}}"
  # keep in sync
  GIT_TAG "${{_TAG}}"
  GIT_SUBMODULES "third-party/cutlass"
)
FetchContent_Declare(local SOURCE_DIR $ENV{{LOCAL}})
"""
BY_PLATFORM = """
if (ROCM)
  set(GIT "https://host.example/ROCm/triton.git")
  set(TAG "v1")
else()
  set(GIT "https://host.example/triton-lang/triton.git")
  set(TAG "v3.5.1")
endif()
FetchContent_Declare(triton_kernels GIT_REPOSITORY ${GIT} GIT_TAG ${TAG})
"""


def found(text: str, name: str, url: str = "") -> list[tuple[str, str]]:
    known = cmake.named(cmake.fetched({"a.cmake": text}), name, url)
    return [(one.url, one.ref) for one in known]


def test_variables_are_filled_in_and_comments_are_not_read() -> None:
    assert found(VARIABLES, "Thing") == [("https://host.example/fork/Thing.git", COMMIT)]
    (one,) = cmake.fetched({"a.cmake": VARIABLES})
    assert one.is_commit
    assert one.file == "a.cmake"


def test_source_that_is_named_by_platform_is_told_apart_by_its_address() -> None:
    mine = "https://host.example/triton-lang/triton"
    assert found(BY_PLATFORM, "triton_kernels", mine) == [(f"{mine}.git", "v3.5.1")]
    assert len(found(BY_PLATFORM, "triton-kernels", "https://host.example/else")) == 2


def test_source_of_another_name_is_found_by_its_address() -> None:
    assert found(VARIABLES, "folder", "https://HOST.example/fork/thing") == [
        ("https://host.example/fork/Thing.git", COMMIT)
    ]
    assert found(VARIABLES, "folder", "https://host.example/other") == []


def test_variable_that_nobody_sets_stays_as_it_is_and_one_that_names_itself_ends() -> None:
    declared = "FetchContent_Declare(a GIT_REPOSITORY https://h/a GIT_TAG ${TAG})"
    assert found(declared, "a") == [("https://h/a", "${TAG}")]
    assert found(f"set(TAG ${{TAG}})\n{declared}", "a") == [("https://h/a", "${TAG}")]


def test_addresses_of_submodules_are_read_and_relative_ones_left_out() -> None:
    text = (
        '[submodule "x"]\n\tpath = csrc/x\n\turl = https://h/x.git\n'
        '[submodule "y"]\n\turl = ../y\n\tpath = y\n'
    )
    reading = Reading(tree=None, links={}, texts={".gitmodules": text}, blobs={})
    assert reading.addresses == {"csrc/x": "https://h/x.git"}


@pytest.mark.parametrize(
    ("have", "before", "after", "wanted"),
    [
        (["a==1", "b"], ["a ==1", "b"], ["a==2", "b"], ["a==2", "b"]),
        (["a==1", "b"], ["a==1", "b"], ["b"], ["b"]),
        (["b"], ["b"], ["b", "c>2"], ["b", "c>2"]),
        (["b"], ["a==1", "b"], ["a==2", "b"], ["b"]),
        (["b"], ["torch==1"], ["torch==2", "b"], ["b"]),
        (["a; python_version < '4'"], ['a; python_version<"4"'], ["a"], ["a"]),
        (["a==2"], ["a==1"], ["a==2"], ["a==2"]),
        (["a"], ["a"], ['a; python_version<"4"'], ["a; python_version<'4'"]),
    ],
    ids=["changed", "gone", "new", "left out", "own", "marker", "there already", "quotes"],
)
def test_upstreams_change_is_made_to_the_stacks_list(
    have: list[str], before: list[str], after: list[str], wanted: list[str]
) -> None:
    lines, notes = requirements.moved(have, before=before, after=after, own={"torch"})
    assert (list(lines), notes) == (wanted, ())


def test_what_the_stack_writes_otherwise_than_upstream_stays_and_is_said() -> None:
    lines, notes = requirements.moved(
        ["a==1.5", "b<2"], before=["a==1", "b"], after=["a==2"], own=()
    )
    assert lines == ("a==1.5", "b<2")
    assert notes == (
        "upstream asks for a==2; the stack keeps a==1.5",
        "upstream asks for no b any more; the stack keeps b<2",
    )


def test_another_torch_is_said_only_where_the_stacks_would_not_do() -> None:
    assert requirements.torch_note(["torch>=2", "torch==2.11.0"], "2.11.0") == ""
    assert requirements.torch_note(["torch == 2.13.0"], "2.11.0") == (
        "upstream asks for torch == 2.13.0; the stack has torch 2.11.0"
    )
    assert requirements.torch_note(["torch==2.10.0.dev20251016"], "2.11.0+cu130") != ""
    other = 'torch==9; sys_platform == "win32"'
    assert requirements.torch_note([other], "2.11.0") == ""


def test_requirement_files_are_read_with_those_that_they_include(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "a.txt").write_text(
        "-r b.txt\n--extra-index-url https://h\nx==1 # why\n", encoding="utf-8"
    )
    (tmp_path / "r" / "b.txt").write_text("-r a.txt\ny\n", encoding="utf-8")
    assert requirements.file_lines(tmp_path, ["r/a.txt", "none.txt"]) == ["x==1", "y"]


def test_newest_release_is_final_and_a_post_release_is_one() -> None:
    known = git_tags.releases(
        {"v1.0": "a", "1.0": "b", "v1.0.post1": "c", "v2rc1": "d", "fa4-v9": "e"}
    )
    assert known[Version("1.0")] == "v1.0"
    assert git_tags.newest(known) == Version("1.0.post1")
    assert git_tags.newest([Version("2.0.dev1")]) is None


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, "invoke pin toy 1.2 --stack mine"),
        ({"newest": "1.0"}, "the newest"),
        ({"newest": ""}, "no answer"),
        ({"tag": "1.1"}, "no tag of it, the newest is 1.1; invoke pin toy 1.1 --stack mine"),
        ({"tag": "1.0"}, "no tag of it, the newest is 1.0; newer"),
        ({"what": "torch", "tag": ""}, "newer"),
        (
            {"patches": (("a", "dropped"), ("b", "kept"))},
            "1 of 2 patches taken; invoke pin toy 1.2 --stack mine",
        ),
    ],
)
def test_line_of_a_pin_names_the_command_only_where_it_would_do(
    changes: dict[str, Any], wanted: str
) -> None:
    row = outdated.Row(what="toy", stacks=("mine",), pinned="1.0", newest="1.2", tag="1.2")
    assert outdated.state(replace(row, **changes)) == wanted
