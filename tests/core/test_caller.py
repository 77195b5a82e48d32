"""What of the caller's environment reaches uv, git and requests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blackwheel.core import caller
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import here
from blackwheel.doctor.tried import store_check

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "UV_TORCH_BACKEND",
            "UV_REQUIRE_HASHES",
            "UV_EXCLUDE_NEWER",
            "UV_PRERELEASE",
            "UV_PYTHON",
        ),
        *("UV_CONSTRAINT", "UV_OVERRIDE", "UV_NO_BINARY", "UV_CONFIG_FILE", "UV_SYSTEM_PYTHON"),
        *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"),
        *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CEILING_DIRECTORIES"),
        *("GIT_TRACE", "GIT_TEMPLATE_DIR", "GIT_ATTR_SOURCE"),
    ],
)
def test_what_changes_the_work_of_a_tool_does_not_reach_it(name: str) -> None:
    assert name not in caller.chosen({name: "1", "HOME": "/none"})


@pytest.mark.parametrize(
    "name",
    [
        *("UV_DEFAULT_INDEX", "UV_FIND_LINKS", "UV_CACHE_DIR", "UV_PUBLISH_TOKEN", "UV_LINK_MODE"),
        *("UV_INDEX_MINE_PASSWORD", "UV_HTTP_TIMEOUT", "UV_OFFLINE", "HTTPS_PROXY", "PATH"),
        *("GIT_SSH_COMMAND", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_KEY_0", "GIT_SSL_CAINFO"),
    ],
)
def test_how_a_tool_reaches_the_network_stays(name: str) -> None:
    assert caller.chosen({name: "1", "HOME": "/none"})[name] == "1"


def test_a_store_is_of_sha1_whatever_is_the_persons_default(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[init]\n\tdefaultObjectFormat = sha256\n")
    given = {**os.environ, "GIT_DEFAULT_HASH": "sha256", "GIT_WORK_TREE": "/"}
    given["GIT_CONFIG_GLOBAL"] = str(tmp_path / "config")
    subprocess.run(
        ["git", "init", "--quiet", "--bare", str(tmp_path / "x.git")],
        env=caller.chosen(given),
        check=True,
    )
    assert "sha256" not in (tmp_path / "x.git" / "config").read_text()
    asked = {"GIT_DEFAULT_REF_FORMAT": "reftable", "HOME": "/none"}  # git 2.45 and newer read it
    assert caller.chosen(asked)["GIT_DEFAULT_REF_FORMAT"] == "files"


def test_uvs_own_file_tells_where_packages_come_from_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text(
        'find-links = ["/a", "/b"]\nindex = [{name = "m", url = "https://m/s", default = true}]\n'
        '[pip]\ntorch-backend = "cu128"\nrequire-hashes = true\n'
    )
    found = caller.chosen({"XDG_CONFIG_HOME": str(tmp_path)}, ())
    assert found.pop("UV_DEFAULT_INDEX") == "m=https://m/s"
    assert found.pop("UV_FIND_LINKS") == "/a,/b"
    assert found["UV_NO_CONFIG"] == "1"
    assert not [name for name in found if "TORCH" in name or "HASHES" in name]
    assert caller.chosen({**found, "UV_DEFAULT_INDEX": "x"}, ())["UV_DEFAULT_INDEX"] == "x"


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_one_file_of_certificates_serves_uv_and_requests(tmp_path: Path, name: str) -> None:
    mine, system = tmp_path / "mine.pem", tmp_path / "system.pem"
    mine.touch()
    system.touch()
    found = caller.chosen({name: str(mine), "HOME": "/none"}, (str(system),))
    assert {found["SSL_CERT_FILE"], found["REQUESTS_CA_BUNDLE"]} == {str(mine)}
    found = caller.chosen({"HOME": "/none"}, (str(system),))
    assert {found["SSL_CERT_FILE"], found["REQUESTS_CA_BUNDLE"]} == {str(system)}
    assert caller.chosen(found, ()) == found


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(BlackwheelError) as error:
        here({})
    assert error.value.name == "no-home"
    assert here({"BLACKWHEEL_HOME": "/mine"}).store == Path("/mine")
    assert here({"XDG_CACHE_HOME": "/c"}).store == Path("/c/blackwheel")


def test_a_home_that_takes_no_store_names_the_folder_and_the_cure(tmp_path: Path) -> None:
    """As of a user whose home is / or does not exist: root itself may not write below /proc."""
    given = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "apply-patches", "--stack", "quickstart"],
        cwd=ROOT,
        env={**given, "HOME": "/proc/1", "TMPDIR": str(tmp_path), "PIP_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "error: machine-refused" in done.stderr
    assert "where: /proc/1/.cache" in done.stderr
    assert "invoke doctor" in done.stderr
    check = store_check(Path("/proc/1/.cache/blackwheel"))  # and doctor does not call it well
    assert (check.ok, "BLACKWHEEL_HOME" in check.cure) == (False, True)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["-m invoke --list", "-m invoke status"])
def test_closed_streams_are_no_fault_of_a_verb(closed: str, words: str) -> None:
    """Invoke's own Program prints before `entry.run` has a say: its streams are open by then."""
    line = f'exec "{sys.executable}" {words} {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert (done.returncode, "Traceback" in said, "ignored" in said) == (0, False, False), said


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(closed: str) -> None:
    code = "from blackwheel.core import entry; "
    code += "raise SystemExit(entry.run(lambda site: site.console.result('x')))"
    line = f'exec "{sys.executable}" -c "{code}" {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
