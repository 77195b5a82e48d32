"""What doctor tries: a store that takes programs, a compiler that links as the audit wants it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from blackwheel.core import entry
from blackwheel.core.errors import BlackwheelError
from blackwheel.doctor import tried
from blackwheel.toolchain.host_compiler import host_compiler, require_shared_runtime

HERE = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
ROOT = Path(__file__).parents[2]


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
    check = tried.link_check(given, cuda="13.0.2")
    assert check.ok is False
    assert check.cure == "name a compiler that links libstdc++.so: export CXX=/usr/bin/g++"
    assert tried.link_check(HERE, cuda="13.0.2").ok


def test_a_compiler_that_links_nothing_is_a_lack_with_its_words(tmp_path: Path) -> None:
    wrapper = tmp_path / "g++"
    wrapper.write_text(
        '#!/bin/sh\ncase "$*" in *-shared*) echo "cannot find -lstdc++" >&2; exit 1;; esac\n'
        'exec /usr/bin/g++ "$@"\n'
    )
    wrapper.chmod(0o755)
    check = tried.link_check({**HERE, "CXX": str(wrapper)}, cuda="13.0.2")
    assert check.ok is False
    assert "cannot find -lstdc++" in check.fact


TMP = """
from blackwheel.core import entry
from blackwheel.doctor.tried import link_check, temporary_check

def act(site):
    for check in (temporary_check(site.environment), link_check(site.environment, cuda="13.0.2")):
        print(check.ok, check.name, check.fact, check.cure, sep="|")

raise SystemExit(entry.run(act))
"""


def tried_with(folder: Path, tmp: Path, options: str = "") -> list[list[str]]:
    """What doctor says with this TMPDIR, on a disk of its own with these options."""
    (folder / "code.py").write_text(TMP, encoding="utf-8")
    mount = f"mount -t tmpfs -o {options} tmpfs {tmp} && " if options else ""
    start = [sys.executable, "-W", "error", str(folder / "code.py")]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{mount}exec "$0" "$@"', *start],
        env={**os.environ, "TMPDIR": str(tmp), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split("|") for line in done.stdout.splitlines()]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_tmpdir_that_runs_no_program_is_no_lack(tmp_path: Path) -> None:
    """Nothing of ours is started there: compilers put their files there, and no program."""
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    told = tried_with(tmp_path, tmp, "noexec,size=2g")
    assert [one[:2] for one in told] == [["True", "temporary files"], ["True", "link"]]
    assert str(tmp) in told[0][2]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_small_tmpdir_is_told_with_what_an_audit_needs(tmp_path: Path) -> None:
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    told = tried_with(tmp_path, tmp, "size=8m")
    assert [one[:2] for one in told] == [["None", "temporary files"], ["True", "link"]]
    assert told[0][2] == f"8.0 MiB free at {tmp}; the audit of a large wheel takes 1 GiB"
    assert told[0][3].startswith("export TMPDIR=")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_full_tmpdir_is_a_lack_of_both_and_no_traceback(tmp_path: Path) -> None:
    """Python takes a folder in which five bytes can be written; a library needs more."""
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    told = tried_with(tmp_path, tmp, "size=4k,nr_inodes=8")
    assert [one[:2] for one in told] == [["False", "temporary files"], ["False", "link"]]
    assert "No space left" in told[0][2]
    assert {one[3] for one in told} == {"export TMPDIR=/path (a folder of yours with 1 GiB free)"}


@pytest.mark.skipif(os.geteuid() != 0, reason="unshare")
def test_a_tmpdir_that_is_missing_is_told_with_the_folder_that_is_used(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    told = tried_with(tmp_path, missing)
    assert [one[:2] for one in told] == [["None", "temporary files"], ["True", "link"]]
    assert told[0][2].startswith(f"TMPDIR={missing} takes no file: they go to /")


def test_no_temporary_file_anywhere_is_a_lack_and_names_tmpdir(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    for check in (tried.temporary_check(HERE), tried.link_check(HERE, cuda="13.0.2")):
        assert check.ok is False
        assert "No usable temporary directory" in check.fact
        assert check.cure.startswith("export TMPDIR=")
    with pytest.raises(FileNotFoundError) as error:
        tempfile.mkdtemp()
    assert entry._machine_error(error.value).fix.startswith("export TMPDIR=")


def test_a_full_disk_names_the_folder_and_tmpdir() -> None:
    error = entry._machine_error(OSError(28, "No space left on device"))
    assert error.name == "disk-full"
    assert "TMPDIR" in error.fix
    assert error.where
