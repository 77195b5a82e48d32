"""docs/publishing.md, from laptop to index: its lines are taken from the page and run in order."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import proved
import pytest

from blackwheel.commands.program import Program
from blackwheel.core import site as sites
from blackwheel.shelf import index, readback

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "publishing.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## From laptop to index\n")[2].partition("\n## ")[0]


def lines(step: int) -> list[str]:
    """The command lines of one step: those of its shell block, or what its CI recipe runs."""
    text = SECTION.partition(f"\n{step}. ")[2].partition(f"\n{step + 1}. ")[0]
    found = [
        line.strip().removeprefix("- run: ")
        for kind, block in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
        if kind == "sh" or line.strip().startswith("- run: ")
    ]
    assert found, f"step {step} has no lines"
    return found


class Person:
    """Types the page's lines: the toy for stable, folders of a test for the places of the page."""

    def __init__(self, checkout: Path, home: Path) -> None:
        self.checkout, self.home, self.revision = checkout, home, 0
        self.site = proved.site_of(checkout)
        self.code = proved.library(home)

    def published(self, project: str = "toy") -> list[int]:
        """Revisions of a project that the index lists."""
        found = index.shelved(self.home / "wheels" / "toy")
        return sorted(
            int(one.version.rpartition(".")[2]) for one in found if one.project == project
        )

    def types(self, line: str, **words: str) -> str:
        """Run one line; return what it printed, and fail for an exit code."""
        places = {
            "https://wheels.example/stable/simple/": f"{self.home.as_uri()}/wheels/toy/simple/",
            "/srv/wheels": str(self.home / "wheels"),
            "/etc/blackwheel/": "",
            "--python 3.12": f"--python {proved.PYTHON}",
            "stable": "toy",
            **words,
        }
        for old, new in places.items():
            line = line.replace(old, new)
        if not line.startswith("invoke "):
            subprocess.run(["sh", "-c", line], cwd=self.home, check=True)
            return ""
        verb, *rest = shlex.split(line, comments=True)[1:]
        if verb == "build-wheels":
            self.builds(rest)
            return ""
        self.site = proved.site_of(self.checkout)
        with pytest.raises(SystemExit) as ended:
            Program(name="blackwheel", binary="blackwheel", binary_names=["blackwheel"]).run(
                ["blackwheel", "--search-root", str(ROOT), verb, *rest]
            )
        said = proved.said(self.site)
        assert ended.value.code == 0, f"{line}\n{said}"
        return said

    def builds(self, rest: list[str]) -> None:
        """Stand in for hours of compiling: shelve the next revision, signed where it is asked."""
        toml = self.site.constraints / "toy.toml"
        text = toml.read_text(encoding="utf-8")
        before, self.revision = self.revision or 1, self.revision + 1
        toml.write_text(
            text.replace(f"revision = {before}\n", f"revision = {self.revision}\n"), "utf-8"
        )
        for name in proved.PROJECTS:
            folder = self.home / "built"
            wheel = proved.make_wheel(folder, name, self.code, revision=self.revision)
            proved.shelve(self.site, wheel)
        if "--sign" in rest:
            self.types(f"invoke sign toy --key {rest[rest.index('--sign') + 1]}")


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    made = Person(proved.new_checkout(tmp_path / "checkout").checkout, tmp_path)
    monkeypatch.setattr(sites, "here", lambda: made.site)
    monkeypatch.setattr(sites, "adopt", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # a command's, and this is none
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(readback, "install", lambda *_, **__: ())  # other tests make it
    monkeypatch.setenv("INVOKE_BLACKWHEEL_STACK", "toy")
    monkeypatch.chdir(tmp_path)
    return made


def test_each_line_of_the_page_does_what_the_page_says(person: Person) -> None:
    for line in lines(1):
        told = person.types(line)
    assert "nothing was published; --yes publishes it" in told
    assert not (person.home / "wheels").exists()

    for line in lines(2):
        told = person.types(line)
    assert person.published() == [1]
    assert (person.home / "wheels" / "signers.pub").is_file()

    recipe = [line for line in lines(3) if "pip install" not in line]
    assert [line.split()[1] for line in recipe] == ["build-wheels", "publish", "prune"]
    for _ in range(4):
        for line in recipe:
            person.types(line)
    assert person.published() == person.published("other") == [3, 4, 5]

    file = person.home / f"requirements-toy-py{proved.PYTHON.replace('.', '')}.txt"
    for line in lines(4):
        person.types(line)
    assert f"toy==1.0+{proved.LABEL}.5 \\\n    --hash=sha256:" in file.read_text(encoding="utf-8")

    dry, real = lines(5)
    person.types(dry, **{"--keep 3": "--keep 2"})
    assert person.published() == [3, 4, 5]
    person.types(real, **{"--keep 3": "--keep 2"})
    assert person.published() == [4, 5]

    back, away = lines(6)
    person.types(back, **{"--revision 1": "--revision 4"})
    assert f"toy==1.0+{proved.LABEL}.4 \\\n" in file.read_text(encoding="utf-8")
    (bad,) = (p.name for p in (person.home / "wheels" / "toy").glob("toy-*.5-*.whl"))
    person.types(away, FILENAME=bad)
    assert person.published() == [4]
    assert person.published("other") == [4, 5]


def test_index_with_a_policy_takes_no_wheel_that_ci_did_not_sign(person: Person) -> None:
    for step in (1, 2):
        for line in lines(step):
            person.types(line)
    build, publish, _ = [line for line in lines(3) if "pip install" not in line]
    person.types(build.partition(" --sign")[0])
    with pytest.raises(AssertionError, match="assert 15 == 0"):
        person.types(publish)
    assert person.published() == [1]
