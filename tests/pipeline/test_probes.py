"""The probes beside a series, and the headers that a patch keeps out of sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.pipeline.probes import effects, probes, refuse_includes
from blackwheel.sources.series import Patch, Series, load_series

PATCHES = Path(__file__).parents[2] / "patches"
NAME = "0001-do-this.patch"
KEPT_OUT = f'["{NAME}"]\ninputs = "src/*.cu"\nwithout = ["ATen/", "c10/"]\nwhy = "it moves"\n'


def a_series(folder: Path) -> Series:
    (folder / "toy" / "1.0").mkdir(parents=True)
    patch = Patch(name=NAME, line=1, content=b"")
    return Series(folder=folder / "toy" / "1.0", patches=(patch,))


def test_series_needs_no_probes(tmp_path: Path) -> None:
    assert probes(a_series(tmp_path)) == {}


def test_probe_of_an_unknown_patch_and_outside_the_tree_is_refused(tmp_path: Path) -> None:
    series = a_series(tmp_path)
    (series.folder / "probes.toml").write_text(
        '["0001-do-this.patch"]\nfiles = ["../x"]\nwhy = "x"\n'
        '["0001-do-that.patch"]\nfiles = []\nwhy = "x"\n'
    )
    with pytest.raises(BlackwheelError) as caught:
        probes(series)
    assert caught.value.code == Exit.CONFIG
    assert str(caught.value) == (
        "error: bad-probes\n"
        "  0001-do-that.patch: not in the series; did you mean '0001-do-this.patch'?\n"
        "  0001-do-this.patch: '../x' leaves the tree\n"
        "  0001-do-that.patch: `files`, `untried` or `inputs`, exactly one of them\n"
        "  where: patches/toy/1.0/probes.toml\n"
        "  fix:   name patches of the series, each with `why`, and `files`, `untried`, or"
        " `inputs` and `without`"
    )


@pytest.mark.parametrize(
    "path", sorted(PATCHES.glob("*/*/probes.toml")), ids=lambda path: "-".join(path.parts[-3:-1])
)
def test_probes_of_the_repository_hold(path: Path) -> None:
    assert probes(load_series(path.parent))


def test_patch_without_which_everything_would_compile_is_not_tried() -> None:
    folder = PATCHES / "vllm" / "0.11.0"
    (name,) = [name for name, probe in probes(load_series(folder)).items() if probe.untried]
    assert name == "0005-pass-cmake-args-on.patch"


def with_probes(folder: Path, text: str) -> Series:
    series = a_series(folder)
    (series.folder / "probes.toml").write_text(text)
    return series


def a_tree(root: Path, deep: str) -> Path:
    """Write two sources, of which one reads `deep` by way of a header."""
    for name, text in {
        "src/a.cu": '#include "a.h"\n#include <vector>\n',
        "src/b.cu": "// #include <ATen/b.h>\n",
        "src/api.cpp": "#include <torch/python.h>\n#include <ATen/api.h>\n",
        "src/unused.h": "#include <ATen/unused.h>\n",
        "include/a.h": f"#pragma once\n#include <a.h>\n{deep}",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ('inputs = "*.cu"\nwithout = ["a"]\nuntried = true', "exactly one of them"),
        ('inputs = "*.cu"\nwithout = ["a"]\nfiles = ["a"]', "exactly one of them"),
        ('untried = true\nfiles = ["a"]', "exactly one of them"),
        ('inputs = ""\nwithout = ["a"]', "exactly one of them"),
        ('inputs = "*.cu"', "`inputs` and `without` go together"),
        ('untried = true\nwithout = ["a"]', "`inputs` and `without` go together"),
        ('inputs = "*.cu"\nwithout = ["a", ""]', "`without` has an empty text"),
        ('inputs = "/*.cu"\nwithout = ["a"]', "'/*.cu' leaves the tree"),
        ('inputs = "../*.cu"\nwithout = ["a"]', "'../*.cu' leaves the tree"),
    ],
)
def test_probe_with_a_bad_combination_of_keys_is_refused(
    tmp_path: Path, keys: str, fault: str
) -> None:
    series = with_probes(tmp_path, f'["{NAME}"]\nwhy = "x"\n{keys}\n')
    with pytest.raises(BlackwheelError) as caught:
        probes(series)
    assert caught.value.name == "bad-probes"
    assert fault in str(caught.value)


def test_header_that_a_patch_is_to_keep_out_is_named_with_the_file_that_includes_it(
    tmp_path: Path,
) -> None:
    series = with_probes(tmp_path, KEPT_OUT)
    tree = a_tree(tmp_path / "tree", '# include "c10/two.h"\n#include <ATen/one.h>\n')
    with pytest.raises(BlackwheelError) as caught:
        refuse_includes(series, probes(series), tree)
    assert caught.value.code == Exit.PATCH
    assert str(caught.value) == (
        "error: kept-out-header\n"
        "  include/a.h includes ATen/one.h\n"
        "  include/a.h includes c10/two.h\n"
        f"  where: patches/toy/1.0/{NAME}\n"
        "  fix:   take the include out in the patch: it moves"
    )


def test_many_headers_are_named_up_to_a_bound(tmp_path: Path) -> None:
    series = with_probes(tmp_path, KEPT_OUT)
    many = "".join(f"#include <ATen/{number}.h>\n" for number in range(23))
    with pytest.raises(BlackwheelError) as caught:
        refuse_includes(series, probes(series), a_tree(tmp_path / "tree", many))
    assert str(caught.value).count(" includes ") == 20
    assert "\n  and 3 more\n" in str(caught.value)


def test_pattern_that_matches_no_source_is_refused(tmp_path: Path) -> None:
    series = with_probes(tmp_path, KEPT_OUT.replace("*.cu", "**gone/*.cu"))
    with pytest.raises(BlackwheelError) as caught:
        refuse_includes(series, probes(series), a_tree(tmp_path / "tree", ""))
    assert (caught.value.name, caught.value.code) == ("bad-probes", Exit.CONFIG)
    assert f"{NAME}: 'src/**gone/*.cu' matches no file of the tree" in str(caught.value)


def test_effect_is_what_only_the_tree_without_the_patch_includes(tmp_path: Path) -> None:
    series = with_probes(tmp_path, KEPT_OUT)
    (probe,) = probes(series).values()
    whole = a_tree(tmp_path / "whole", "")
    refuse_includes(series, probes(series), whole)
    without = a_tree(tmp_path / "without", "#include <ATen/one.h>\n#include <torch/all.h>\n")
    assert effects(probe, whole, without) == ("include only without it: include/a.h: ATen/one.h",)
    assert effects(probe, whole, whole) == (), "stale"
    assert effects(probe, without, without) == (), "another patch's"
