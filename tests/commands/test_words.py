"""The words behind a verb: what is taken, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from blackwheel.commands import words
from blackwheel.commands.verbs import Ask, Option, _ask
from blackwheel.core.errors import BlackwheelError, Exit

OPTIONS = {
    "what": Option(help="a thing", word="WHAT", place=True, required=True),
    "stack": Option(help="which stack", setting="stack"),
    "only": Option(help="which projects", several=True, to="projects", old=("projects",)),
    "jobs": Option(help="how many", counts="compilers", fix="--jobs 2"),
    "dry_run": Option(help="only tell", default=False),
}


def read(*typed: str) -> dict[str, Any] | None:
    return words.read("invoke", "make", OPTIONS, typed)


def asked(**typed: Any) -> Ask:
    given = {name: option.default for name, option in OPTIONS.items()} | typed
    return _ask(OPTIONS, given, {"stack": "stable"})


def test_options_by_name_by_letter_and_at_their_place() -> None:
    assert read("a", "-s", "stable", "--jobs=4", "--dry-run") == {
        "what": "a",
        "stack": "stable",
        "jobs": "4",
        "dry_run": True,
    }
    assert read("-j4", "--what", "a") == read("--jobs", "4", "a")
    assert read("--", "-odd") == {"what": "-odd"}


def test_option_that_comes_again_adds_up_and_an_old_name_is_taken() -> None:
    assert read("a", "--only", "x", "-o", "y,z", "--projects", "v") == {
        "what": "a",
        "only": "x,y,z,v",
    }
    assert asked(only="x,y z").projects == ("x", "y", "z")


@pytest.mark.parametrize("typed", [["--help"], ["-h"], ["a", "-h"], ["--dry-run", "--help"]])
def test_help_is_help_wherever_it_stands(typed: list[str]) -> None:
    assert read(*typed) is None


@pytest.mark.parametrize(
    ("typed", "name", "fact"),
    [
        (["a", "--stak", "x"], "unknown-option", "make has no --stak; did you mean '--stack'?"),
        (["a", "-r"], "unknown-option", "make has no -r"),
        (["a", "b"], "word-too-many", "make has no place for 'b'; one command at a time"),
        ([], "word-missing", "make needs WHAT: a thing"),
        (["a", "-s"], "value-missing", "-s needs a value: which stack"),
        (["a", "-s", "--dry-run"], "value-missing", "-s needs a value: which stack"),
        (["a", "--dry-run=x"], "no-value", "--dry-run takes no value, and was given 'x'"),
        (["a", "-s", "x", "-s", "y"], "given-twice", "-s was given as 'x' and as 'y'"),
    ],
)
def test_what_cannot_be_meant_is_refused(typed: list[str], name: str, fact: str) -> None:
    with pytest.raises(BlackwheelError) as caught:
        read(*typed)
    assert str(caught.value) == (
        f"error: {name}\n  {fact}\n  where: invoke make\n  fix:   invoke make --help"
    )
    assert caught.value.code == Exit.USAGE


def test_setting_holds_where_nothing_was_typed() -> None:
    assert asked().stack == "stable"
    assert asked(stack="quickstart").given["stack"] == "quickstart"


@pytest.mark.parametrize("jobs", ["x", "-3", "0", "1.5", "1_0", "²"])
def test_number_that_is_none(jobs: str) -> None:
    assert asked(jobs="04").jobs == 4
    assert asked().jobs == 0
    with pytest.raises(BlackwheelError) as caught:
        asked(jobs=jobs)
    assert str(caught.value) == (
        f"error: bad-number\n  '{jobs}' is no number of compilers\n"
        "  where: --jobs\n  fix:   --jobs 2"
    )
