"""The launcher holds a compiler that ends well to an object that is whole."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from launching import LAUNCHER

from blackwheel.builder.inside.launcher import NO_OBJECT

SPOILS = {
    "half": 'head -c $(($(wc -c <"$2") / 2)) "$2" >"$2.x"; mv "$2.x" "$2"',
    "zeros": 'head -c "$(wc -c <"$2")" /dev/zero >"$2.x"; mv "$2.x" "$2"',
    "empty": ': >"$2"',
    "folder": 'rm "$2"; mkdir -p "$2/deep"',
    "link": 'rm "$2"; ln -s /etc/passwd "$2"',
    "text": 'echo "int x;" >"$2"',
}


def compiled(folder: Path, spoil: str = "") -> subprocess.CompletedProcess[str]:
    compiler = folder / "cc"
    compiler.write_text(f'#!/bin/sh\ngcc -c "$4" -o "$2" || exit 1\nset -- x "$2"\n{spoil}\n')
    compiler.chmod(0o755)
    (folder / "x.c").write_text("int x(void) { return 1; }\n")
    argv = [*LAUNCHER, str(compiler), "-o", str(folder / "x.o"), "-c", str(folder / "x.c")]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("spoil", SPOILS)
def test_object_that_is_not_whole_is_an_error_and_goes(tmp_path: Path, spoil: str) -> None:
    done = compiled(tmp_path, SPOILS[spoil])
    assert done.returncode == NO_OBJECT
    assert done.stderr == (
        f"{tmp_path}/x.c: error: the compiler ended well and left no whole object\n"
    )
    assert not (tmp_path / "x.o").exists()
    assert not (tmp_path / "x.o").is_symlink()
    assert compiled(tmp_path).returncode == 0


def test_whole_object_passes(tmp_path: Path) -> None:
    done = compiled(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "x.o").read_bytes()[:4] == b"\x7fELF"
