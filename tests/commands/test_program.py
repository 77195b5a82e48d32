"""`invoke …` and `blackwheel …` as a person types them: help everywhere, groups, errors."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from doc_scripts import script

from blackwheel.commands import program
from blackwheel.commands.verbs import GROUPS
from blackwheel.core.errors import Exit

ROOT = Path(__file__).parents[2]
BLACKWHEEL = ("-c", "from blackwheel.commands.program import main; main()")


def run(*words: str, by: tuple[str, ...] = ("-m", "invoke")) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, *by, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("words", [("audit", "--help"), ("pin", "-h"), ("--help", "verify")])
def test_each_verb_has_help(words: tuple[str, ...]) -> None:
    verb = next(word for word in words if not word.startswith("-"))
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: invoke {verb} ")
    assert "-h, --help" in out


@pytest.mark.parametrize("asked", ["", "1"])
def test_modules_are_compiled_once_unless_a_person_asks_for_none(
    tmp_path: Path, asked: str
) -> None:
    """Invoke switches that off for whatever it runs."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment |= {"PYTHONDONTWRITEBYTECODE": asked}
    argv = [sys.executable, "-m", "invoke", "--list"]
    subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, check=True)
    kept = [one for one in tmp_path.rglob("*.pyc") if ROOT.as_posix() in one.as_posix()]
    assert bool(kept) is (not asked)


@pytest.mark.parametrize("word", ["--list", "--help"])
def test_list_is_in_groups_and_quick(word: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code, out, _ = run(word, by=BLACKWHEEL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert code == 0
    assert [line for line in out.splitlines() if line in GROUPS] == list(GROUPS)
    assert "  build-wheels  " in out
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 0.6, "0.2 s on the machine that this was written on"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("build-weels",), "unknown-command"),
        (("status", "stacks"), "word-too-many"),
        (("build-wheels", "--json"), "unknown-option"),
        (("prune", "--keep", "x"), "bad-number"),
        (("lock-consumer", "--revision", "x"), "bad-number"),
        (("publish", "--minutes", "x"), "bad-number"),
    ],
)
def test_what_is_typed_wrong_has_a_name_and_exit_code_2(words: tuple[str, ...], name: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {name}\n")


def test_blackwheel_works_on_its_checkout_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *BLACKWHEEL, "stacks", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "quickstart" in [one["stack"] for one in json.loads(done.stdout)["stacks"]]


def test_copy_without_a_checkout_says_how_to_install_it(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "blackwheel", tmp_path / "blackwheel")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, *BLACKWHEEL, "status"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (Exit.MACHINE, "")
    assert done.stderr == (
        "error: no-checkout\n"
        "  this blackwheel is a copy without its stacks, patches and shelves\n"
        f"  where: {tmp_path}\n"
        "  fix:   in the clone: python3 -m pip install -e .\n"
    )


def test_status_of_one_stack_alone() -> None:
    code, out, err = run("status", "--stack", "quickstar")
    assert (code, out) == (2, "")
    assert err.startswith("error: unknown-stack\n  there is no stack 'quickstar'; did you mean")
    code, out, _ = run("status", "-s", "quickstart", "--json")
    assert code == 0
    assert {one["stack"] for one in json.loads(out)["wheels"]} <= {"quickstart"}


def test_list_imports_nothing_heavy() -> None:
    shown = "from blackwheel.commands.program import main"
    script = f"import sys\n{shown}\ntry: main()\nfinally: print('imported', *sys.modules)"
    code, out, _ = run("--list", by=("-c", script))
    assert code == 0
    imported = out.rpartition("imported ")[2].split()
    assert "blackwheel.core.site" in imported
    heavy = {"ctypes", "packaging", "pydantic", "requests", "rich", "tomllib", "urllib3", "uv"}
    assert heavy.isdisjoint(imported)


def test_status_of_an_empty_shelf_imports_no_http_client(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom blackwheel.commands import program\n"
        f"os.environ['BLACKWHEEL_HOME'] = {str(tmp_path)!r}\n"
        "try: program.main()\nfinally: print('imported', *sys.modules)"
    )
    code, out, _ = run("status", by=("-c", script))
    assert code == 0
    imported = out.rpartition("imported ")[2].split()
    assert "blackwheel.core.http" in imported
    assert {"requests", "urllib3"}.isdisjoint(imported)


def test_command_without_a_stack_names_the_default_that_the_list_marks() -> None:
    _, out, _ = run("stacks")
    (default,) = [line.split()[0] for line in out.splitlines() if " (default) " in line]
    code, out, err = run("plan", "--only", "flash-attn")
    assert err.startswith(f"stack {default}: the default (--stack names another)\n")
    assert code == 0
    for words in (("plan", "--stack", default, "--only", "flash-attn"), ("doctor", "--json")):
        assert "the default" not in run(*words)[2]


def test_groups_are_those_of_the_page_of_commands() -> None:
    pages = script("commands")
    groups = {name: task.group for name, task in pages.tasks().items()}
    assert groups == {n: g for g, names in pages.GROUPS.items() for n in names if n in groups}


@pytest.mark.parametrize(
    ("typed", "name"),
    [("plan --stack", "quickstart"), ("plan -s qu", "quickstart"), ("plan --only", "flash-attn")],
)
def test_completion_knows_stacks_and_projects(typed: str, name: str) -> None:
    assert name in program.completed(["invoke", *typed.split()])
    assert name not in program.completed(["invoke", "plan", "--stack", "quickstart", "--py"])
    code, out, _ = run("--complete", "--", "invoke", *typed.split())
    assert (code, name in out.splitlines()) == (0, True)
    code, out, _ = run("--complete", "--", "invoke", "plan", "--")
    assert (code, "--matrix" in out.splitlines()) == (0, True)


def test_json_names_its_schema() -> None:
    code, out, _ = run("stacks", "--json", by=BLACKWHEEL)
    document = json.loads(out)
    assert (code, document["schema"]) == (0, "blackwheel.stacks/1")
    assert "quickstart" in [one["stack"] for one in document["stacks"]]
    for verb in ("status", "doctor"):
        document = json.loads(run(verb, "--json")[1])
        assert document["schema"] == f"blackwheel.{verb}/1"


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (("--stac", "toy"), "there is no --stac; did you mean '--stack'?"),
        (("--stack",), "argument --stack: expected one argument"),
    ],
)
def test_session_takes_whole_options_alone(
    tmp_path: Path, words: tuple[str, ...], fact: str
) -> None:
    package = ("-m", "blackwheel")
    code, _, err = run("resolve", str(tmp_path / "file"), "smoke", *words, by=package)
    assert code == 2
    assert fact in err


@pytest.mark.parametrize(
    ("module", "begin"),
    [
        ("blackwheel.commands.program", "import tasks"),
        (
            "blackwheel.core.isolation",
            "import runpy; runpy.run_module('blackwheel', {}, '__main__')",
        ),
    ],
)
def test_an_interrupt_while_the_verbs_are_imported_says_no_traceback(
    module: str, begin: str
) -> None:
    code = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"{begin}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
