"""Distributions that compile kernels on the machine that serves, in folders made by hand."""

from __future__ import annotations

from pathlib import Path

from blackwheel.audit.run_time import compiled_there


def test_one_is_named_with_its_version_and_with_what_it_wants(tmp_path: Path) -> None:
    (tmp_path / "triton-3.7.1.dist-info").mkdir()
    (tmp_path / "numpy-2.0.dist-info").mkdir()
    assert compiled_there([tmp_path, tmp_path]) == (
        "At run time, for the card that is there: Triton (triton 3.7.1; wants gcc and Python.h)"
        " compiles kernels. No file holds these, so that they are not counted here is no lack."
    )


def test_names_are_compared_as_installers_do(tmp_path: Path) -> None:
    (tmp_path / "FlashInfer_Python-0.6.16.dist-info").mkdir()
    assert "FlashInfer (flashinfer-python 0.6.16; wants nvcc and ninja)" in compiled_there(
        [tmp_path]
    )


def test_nothing_is_said_where_none_is_there(tmp_path: Path) -> None:
    (tmp_path / "triton.dist-info").mkdir()
    (tmp_path / "triton_kernels-1.dist-info").mkdir()
    assert compiled_there([tmp_path / "gone"]) == ""
    assert "triton_kernels" not in compiled_there([tmp_path])
