"""A project's own script of look-ups, run in an environment of uv's beside a wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.smoke import lookups
from blackwheel.smoke.checks import runner

NOTHING = "said nothing: a check that is content with nothing is none"
WHEEL = Path("toy-1.0+cu130.sm120a.1-cp312-cp312-linux_x86_64.whl")
ASKS = """\
import json, os, shutil, sys
request = json.loads(sys.argv[1])
print("not this line")
print(request["stand_in"], request["archs"], request["variables"], os.environ["CUDA_HOME"][-11:],
      shutil.which("nvcc"), "HTTPS_PROXY" in os.environ)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("lookups") / "env"
    argv = [find_uv_bin(), "venv", "--quiet", "--python", sys.executable, str(place)]
    subprocess.run(argv, check=True)
    return place


def look_up(script: Path, text: str, environment: Path, **given: str) -> str:
    script.write_text(text, encoding="utf-8")
    return lookups.look_up(
        script,
        WHEEL,
        environment=environment,
        variables=runner.variables_of(given, str(environment)),
        driver=Path("/stub/libcuda.so"),
        archs=("12.0a",),
        told={"SETS": "one"},
    )


def test_script_is_told_of_its_wheel_and_sees_no_compiler(
    environment: Path, tmp_path: Path
) -> None:
    script = tmp_path / "toy" / "lookups.py"
    script.parent.mkdir()
    said = look_up(script, ASKS, environment, PATH="/usr/local/cuda/bin", HTTPS_PROXY="http://x")
    assert said == "/stub/libcuda.so ['12.0a'] {'SETS': 'one'} /no-toolkit None False"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise SystemExit('it lacks topk')", "ended with code 1\n  it lacks topk"),
        ("", NOTHING),
        (
            "print('found'); print(' ')",
            NOTHING,
        ),
    ],
)
def test_script_that_fails_or_says_nothing_keeps_the_wheel_off_the_shelf(
    environment: Path, tmp_path: Path, text: str, words: str
) -> None:
    script = tmp_path / "toy" / "lookups.py"
    script.parent.mkdir()
    with pytest.raises(BlackwheelError) as caught:
        look_up(script, text, environment)
    assert str(caught.value) == (
        "error: lookup-failed\n"
        f"  lookups.py of toy, beside {WHEEL.name}, {words}\n"
        f"  where: {script}\n"
        "  fix:   the wheel stays off the shelf: it lacks what its users look up, or a name changed"
    )
    assert caught.value.code == Exit.SMOKE


def test_script_that_hangs_is_stopped(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "SECONDS", 0.5)
    with pytest.raises(BlackwheelError, match=r"hung: 0\.5 s went by"):
        look_up(tmp_path / "lookups.py", "import time; time.sleep(60)", environment)


def test_last_line_is_one_line_of_bounded_length(environment: Path, tmp_path: Path) -> None:
    said = look_up(tmp_path / "lookups.py", "print('a\\x1b' * 4000)", environment)
    assert len(said) == lookups.SHOWN
    assert "\x1b" not in said
