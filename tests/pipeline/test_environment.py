"""What uv refuses while an environment is synced: by name, with its words, and a code."""

from __future__ import annotations

import venv
from pathlib import Path

import pytest

from blackwheel.core import caller
from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pipeline import environment


@pytest.mark.parametrize(
    ("code", "said", "name", "kind"),
    [
        (1, "error: Hash mismatch for `a==1`", "wrong-sha256", Exit.SOURCE),
        (
            2,
            "error: Failed to fetch: `http://x/a/`\n Caused by: HTTP status server error (503"
            " Service Unavailable)",
            "no-answer",
            Exit.AWAY,
        ),
        (
            2,
            "error: failed to write: No space left on device (os error 28)",
            "disk-full",
            Exit.MACHINE,
        ),
        (137, "", "program-killed", Exit.MACHINE),
        (2, "error: Couldn't parse requirement", "environment-refused", Exit.CONFIG),
    ],
)
def test_what_uv_says_has_a_name_and_a_code(code: int, said: str, name: str, kind: Exit) -> None:
    error = environment.refused(code, said, where="a lock")
    assert (error.name, error.code) == (name, kind)
    assert said.splitlines()[-1:] == [] or said.splitlines()[-1].strip() in error.fact
    assert error.fix


def test_a_torch_backend_of_the_person_does_not_reach_uv_and_an_index_that_is_down_is_away(
    tmp_path: Path,
) -> None:
    variables = {"UV_TORCH_BACKEND": "cu128", "UV_REQUIRE_HASHES": "1", "HOME": str(tmp_path)}
    variables |= {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "PATH": "/usr/bin:/bin"}
    variables |= {"UV_CACHE_DIR": str(tmp_path / "cache"), "UV_HTTP_RETRIES": "0"}
    lock = tmp_path / "lock.txt"
    lock.write_text(f"toy==1 --hash=sha256:{'0' * 64}\n")
    site = Site(
        checkout=tmp_path, store=tmp_path, environment=caller.chosen(variables), console=Quiet()
    )
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    with pytest.raises(BlackwheelError) as error:
        environment.sync(site, tmp_path / "env", [str(lock)])
    assert (error.value.name, error.value.code) == ("no-answer", Exit.AWAY), str(error.value)
    lock.write_text("")
    environment.sync(site, tmp_path / "env", [str(lock)])
