"""noxfile.py does as a session file says, and has one written for a session that a person types."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from blackwheel.core.errors import Exit

FILE = Path(__file__).parents[1] / "noxfile.py"
GROUPS = [
    {"stack": stack, "python": python, "where": where, "here": here, "wheels": [w], "locks": [lock]}
    for stack, python, where, here, w, lock in (
        ("stable", "3.11", "/a/python3.11", True, "one.whl", "run.txt"),
        ("stable", "3.12", "/a/python3.12", False, "two.whl", "run12.txt"),
        ("stable", "3.11", "/a/python3.11", True, "three.whl", "run.txt"),
        ("stable", "3.12", "/a/python3.12", False, "four.whl", "run12.txt"),
    )
]
BUILD = {"stack": "stable", "python": "/a/python3.11", "project": "vllm", "lock": "/build.txt"}
SMOKE = {"stack": "stable", "python": "/a/python3.11", "groups": GROUPS}


class Session:
    """What nox hands to a session, which only writes down what is run."""

    venv_backend = "uv"
    virtualenv = SimpleNamespace(location="/env")

    def __init__(self, *posargs: str, resolved: dict[str, Any] | None = None) -> None:
        self.posargs = list(posargs)
        self.resolved = resolved
        self.ran: list[str] = []

    def run(self, *words: str, **_: Any) -> None:
        if "--exec" in words:  # isolation.py lets the command end with this process
            words = words[words.index("--exec") + 2 :]
        if words[3:4] == ("resolve",):
            Path(words[4]).write_text(json.dumps(self.resolved), encoding="utf-8")
        self.ran.append(" ".join(word.replace(sys.executable, "python") for word in words))

    def install(self, *words: str) -> None:
        self.ran.append(" ".join(("install", *words)))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLACKWHEEL_HOME", str(tmp_path / "store"))
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    return tmp_path / "store"


def loaded(monkeypatch: pytest.MonkeyPatch, *words: str) -> ModuleType:
    """The noxfile as `nox -s … -- WORDS` loads it."""
    monkeypatch.setattr("nox.registry._REGISTRY", {})
    monkeypatch.setattr(sys, "argv", ["nox", "--", *words])
    spec = importlib.util.spec_from_file_location("noxfile_under_test", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def handed(folder: Path, order: dict[str, Any]) -> str:
    path = folder / "order.json"
    path.write_text(json.dumps(order), encoding="utf-8")
    return str(path)


def test_build_that_was_handed_a_file_reads_no_stack_and_resolves_nothing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = handed(tmp_path, BUILD)
    monkeypatch.setenv("BLACKWHEEL_STACK", "nightly")
    monkeypatch.setattr("tomllib.loads", lambda _: pytest.fail("a stack file was read"))
    module = loaded(monkeypatch, "--session-file", path)
    assert (module.STACK, module.PYTHON) == ("stable", "/a/python3.11")
    assert module._projects() == ["vllm"]
    session = Session("--session-file", path)
    module._in_environment(session, "build", "vllm")
    assert session.ran == [
        f"python -m blackwheel sync {path} --environment /env --locks /build.txt",
        f"python -m blackwheel build {path} --environment /env",
    ]


def test_build_that_a_person_typed_has_its_file_written_and_removed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = loaded(monkeypatch, "--stack", "quickstart")
    assert module.STACK == "quickstart"
    session = Session("--stack", "quickstart", resolved=BUILD)
    module._in_environment(session, "build", "vllm")
    resolve, sync, build = session.ran
    path = resolve.split()[4]
    assert resolve == f"python -m blackwheel resolve {path} build vllm --stack quickstart"
    assert sync.endswith("/build.txt")
    assert build == f"python -m blackwheel build {path} --environment /env"
    assert Path(path).parent == store / "sessions"
    assert list((store / "sessions").iterdir()) == []


def test_option_with_an_equals_sign_is_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, "--stack=quickstart", "--python=3.12").STACK == "quickstart"


def test_environments_of_a_python_at_a_long_path_have_a_short_name_of_their_own(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CI workspace has paths that are longer than a name of a file may be."""
    places = []
    for last in ("3.11", "3.12"):
        python = "/ci/" + "workspace/" * 30 + f"python{last}"
        module = loaded(monkeypatch, "--stack", "quickstart", "--python", python)
        places.append(Path(module.nox.options.envdir))
    assert {place.parent for place in places} == {store / "nox"}
    assert len({place.name for place in places}) == 2
    assert all(len(place.name) < 255 for place in places)


@pytest.mark.parametrize("name", ["../../x", "/etc", ".", "..", "a/b"])
def test_name_of_a_stack_makes_no_folder_outside_of_the_store(
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    with pytest.raises(SystemExit) as stopped:
        loaded(monkeypatch, "--stack", name)
    assert stopped.value.code == int(Exit.USAGE)
    assert capsys.readouterr().err.startswith("error: unknown-stack\n")
    assert not store.exists()


def test_help_of_a_session_ends_it_without_a_file(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Session):
        def run(self, *words: str, **_: Any) -> None:
            """Write no file, as the package does where help is asked for."""

        def skip(self, why: str) -> None:
            raise InterruptedError(why)

    module = loaded(monkeypatch, "--help")
    with pytest.raises(InterruptedError, match="help was asked for"):
        module.smoke(Asked("--help"))


def smoked(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    module = loaded(monkeypatch, *words)
    session = Session(*words, resolved=SMOKE)
    module.smoke(session)
    return session.ran


def test_each_other_python_is_smoked_by_one_session_of_its_own(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, *here, other = smoked(monkeypatch, "--require-gpu")
    assert [line.split("--wheels ")[1] for line in here if " sync " in line] == [
        "one.whl",
        "three.whl",
    ]
    assert [line.split("--group ")[1] for line in here if "--group" in line] == [
        "0 --environment /env",
        "2 --environment /env",
    ]
    path = other.split()[7]
    assert other == (
        f"python -m nox -s smoke -- --session-file {path} --stack stable --python /a/python3.12"
    )
    there = smoked(monkeypatch, *other.replace(path, handed(tmp_path, SMOKE)).split()[6:])
    assert [line.split("--group ")[1].split()[0] for line in there if "--group" in line] == [
        "1",
        "3",
    ]
    assert not [line for line in there if "-m nox" in line], "it starts no other one"


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_file_that_is_none_is_an_error_and_no_traceback(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = tmp_path / "order.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match="error: bad-session-file\n"):
        loaded(monkeypatch, "--session-file", str(path))


def test_nox_ends_with_the_code_of_the_command_that_failed() -> None:
    nox = [sys.executable, "-m", "nox", "--noxfile", str(FILE), "--session"]
    away = {**os.environ, "BLACKWHEEL_HOME": "/dev/null/store"}
    for words, environment, name, code in (
        (["lock", "--", "nosuch"], os.environ, "unknown-stack", Exit.USAGE),
        (["pins", "--", "-s", "x"], os.environ, "unknown-stack", Exit.USAGE),
        (["pins", "--", "-s", "quickstart"], away, "machine-refused", Exit.MACHINE),
    ):
        done = subprocess.run(
            [*nox, *words], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, name in done.stderr + done.stdout) == (code, True), done.stderr
