"""What differs by release of CUDA is data, and a release that nobody wrote down is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.toolchain.host_compiler import host_compiler
from blackwheel.toolchain.releases import release, releases

KNOWN = ("12.8", "12.9", "13.0", "13.1", "13.2", "13.3", "13.4", "13.5")


def compiler(folder: Path, defines: str) -> dict[str, str]:
    """A compiler that says these macros of itself."""
    path = folder / "g++"
    path.write_text(f"#!/bin/sh\nprintf '{defines}'\n", encoding="utf-8")
    path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "CXX": str(path)}


@pytest.mark.parametrize("cuda", KNOWN)
def test_compiler_is_held_to_the_limits_of_each_release(tmp_path: Path, cuda: str) -> None:
    known = release(f"{cuda}.1")
    for kind, macro, newest in (("gcc", "GNUC", known.gcc), ("clang", "clang_major", known.clang)):
        line = "#define __{}__ {}\\n"
        taken = compiler(tmp_path, line.format(macro, newest))
        assert host_compiler(taken, cuda=cuda).kind == kind
        newer = compiler(tmp_path, line.format(macro, newest + 1))
        with pytest.raises(BlackwheelError, match="wrong-compiler") as raised:
            host_compiler(newer, cuda=cuda)
        assert raised.value.fact.endswith(f"nvcc {cuda} takes {kind} 9 to {newest}")


def test_releases_are_those_of_the_registry_from_the_first_that_knows_12_0() -> None:
    assert tuple(releases()) == KNOWN
    assert [one.driver for one in releases().values()] == [570, 575, *[580] * 6]
    assert [(one.gcc, one.clang) for one in releases().values()] == [
        *[(14, 19)] * 2,
        *[(15, 20), (15, 21), (15, 21), (15, 21)],
        *[(16, 22)] * 2,
    ], "as crt/host_config.h of each says"
    assert [name for name, one in releases().items() if one.runtime] == ["12.8", "12.9"]


def test_release_that_nobody_wrote_down_is_named() -> None:
    with pytest.raises(BlackwheelError) as raised:
        release("13.9.1")
    assert raised.value.code is Exit.CONFIG
    assert str(raised.value) == (
        "error: unknown-cuda-release\n"
        "  nothing is known of CUDA 13.9.1: which drivers run it, which compilers it takes\n"
        "  where: blackwheel/toolchain/releases.toml\n"
        "  fix:   write it down there; known are 12.8, 12.9, 13.0, 13.1, 13.2, 13.3, 13.4, 13.5"
    )
