"""docs/commands.md, docs/json.md and docs/configuration.md name what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_scripts import script

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
commands = script("commands")
VARIABLE = re.compile(r"\bBLACKWHEEL_[A-Z]+(?:_[A-Z]+)*\b")
INNER = {
    "REST_OF",
    *(
        "EXPECTED",
        "FIXED",
        "FOLDER",
        "NAME",
        "NATIVE",
        "NUMBER",
        "NVCC",
        "OLDER",
        "OWN_NUMBERS",
        "PLAN",
    ),
    *("PYTHON", "RECORDS", "REST_OF", "SOURCE_TIME", "STEPS"),
}
"""What blackwheel tells its own launcher and nox; no person sets it."""


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("mark", "made"), list(commands.parts()), ids=lambda one: one[:9])
def test_page_of_commands_says_what_the_code_says(mark: str, made: str) -> None:
    assert commands.listed(mark, text("commands.md")) == made, "python3 docs/make/commands.py"


def test_command_without_a_group_is_refused() -> None:
    found = {**commands.tasks(), "dance": None}
    with pytest.raises(ValueError, match=r"in no group of docs/make/commands\.py: \['dance'\]"):
        commands.commands(found)


def test_every_command_with_json_is_on_the_page_of_json() -> None:
    with_json = [
        name
        for name, task in commands.tasks().items()
        if any(option.name == "json" for option in task.get_arguments())
    ]
    assert len(with_json) >= 8
    page = text("json.md")
    rows = set(re.findall(r"^\| `invoke ([\w-]+)[^|]* --json` \|", page, re.MULTILINE))
    assert not set(with_json) ^ rows


def test_every_variable_of_the_code_is_on_the_page_of_configuration() -> None:
    sources = [*(ROOT / "blackwheel").rglob("*.py"), ROOT / "noxfile.py", ROOT / "tasks.py"]
    found = {
        name.removeprefix("BLACKWHEEL_")
        for path in sources
        for name in VARIABLE.findall(path.read_text(encoding="utf-8"))
    }
    assert {"HOME", "CACHE", *INNER} <= found
    page = text("configuration.md")
    assert not [name for name in sorted(found - INNER) if f"`BLACKWHEEL_{name}`" not in page]
