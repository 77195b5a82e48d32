"""What doctor tries: a store that takes programs, a compiler that links as the audit wants it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blackwheel.core import entry
from blackwheel.core.errors import BlackwheelError
from blackwheel.doctor import tried
from blackwheel.toolchain.host_compiler import host_compiler, require_shared_runtime

HERE = {"PATH": os.environ["PATH"], "LC_ALL": "C"}


def test_a_store_that_takes_programs_is_well_and_nothing_is_left(tmp_path: Path) -> None:
    assert tried.store_check(tmp_path / "not" / "there").ok
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_written_is_a_lack() -> None:
    check = tried.store_check(Path("/proc/1/blackwheel"))
    assert check.ok is False
    assert "cannot be written" in check.fact
    assert "BLACKWHEEL_HOME" in check.cure


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_store_on_noexec_is_a_lack(tmp_path: Path) -> None:
    code = "from pathlib import Path; from blackwheel.doctor.tried import store_check; "
    code += f"print(store_check(Path('{tmp_path}')))"
    mount = f'mount -t tmpfs -o noexec tmpfs {tmp_path} && exec python3 -c "{code}"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount.replace("python3", sys.executable)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(done.stderr)
    assert "ok=False" in done.stdout, done.stderr
    assert "noexec" in done.stdout


def test_a_compiler_that_links_the_runtime_statically_is_refused_at_once(tmp_path: Path) -> None:
    wrapper = tmp_path / "g++"
    wrapper.write_text('#!/bin/sh\nexec /usr/bin/g++ -static-libstdc++ -static-libgcc "$@"\n')
    wrapper.chmod(0o755)
    given = {**HERE, "CXX": str(wrapper)}
    with pytest.raises(BlackwheelError) as error:
        require_shared_runtime(host_compiler(given, cuda="13.0.2"), given)
    assert error.value.name == "static-runtime"
    assert tried.link_check(given, cuda="13.0.2").ok is False
    assert tried.link_check(HERE, cuda="13.0.2").ok


def test_a_full_disk_names_the_folder_and_tmpdir() -> None:
    error = entry._machine_error(OSError(28, "No space left on device"))
    assert error.name == "disk-full"
    assert "TMPDIR" in error.fix
    assert error.where
