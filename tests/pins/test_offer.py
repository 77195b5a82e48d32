"""A build whose pinned torch is gone offers to move the pin: asked at a terminal, a line in CI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import persons_environment
from nightly_index import PLATFORM
from todays_index import CHANNEL, TAG, Today, serving_today, stack_file

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.http import Patience
from blackwheel.core.site import Site
from blackwheel.pins import move_torch, offer
from blackwheel.pytorch.nightly_index import WheelLostError
from blackwheel.stacks import loader

ONCE = Patience(tries=1, connect=1, read=1, pause=lambda _: None)
OLD, NEW = (f"2.16.0.dev202610{day}+{CHANNEL}" for day in ("06", "09"))


class Person(Quiet):
    """A console with somebody at it, who answers every question alike."""

    def __init__(self, answer: bool) -> None:
        super().__init__()
        self.answer = answer
        self.questions: list[str] = []

    def ask(self, question: str) -> bool:
        self.questions.append(question)
        return self.answer


@pytest.fixture
def index() -> Iterator[Today]:
    with serving_today() as index:
        index.nightly(6)
        index.nightly(9)
        yield index


@pytest.fixture
def site(tmp_path: Path, index: Today) -> Site:
    """Stack `mine`, pinned to the older of two nights; `child` has its torch."""
    constraints = tmp_path / "constraints"
    stack_file(constraints, index, OLD)
    (constraints / "child.toml").write_text('extends = "mine"\nlocks = "mine"\n', encoding="utf-8")
    made = Site(
        checkout=tmp_path,
        store=tmp_path / "store",
        environment=persons_environment(),
        console=Quiet(),
    )
    move_torch.pin_torch(made, "mine", OLD, patience=ONCE)
    return made


def lost() -> WheelLostError:
    return WheelLostError("torch-gone", "torch is gone", where="there", fix="pin another")


def version(site: Site) -> str:
    return loader.load("mine", site.constraints).torch.version


def notes(error: BlackwheelError) -> list[str]:
    return list(getattr(error, "__notes__", []))


LINE = (
    f"to move the pin to {NEW}, the newest that the index lists:"
    " invoke pin torch latest --stack mine"
)


@pytest.mark.parametrize("name", ["mine", "child"])
def test_person_is_asked_and_a_yes_moves_the_stack_that_has_the_torch(
    site: Site, name: str
) -> None:
    person = Person(answer=False)
    asking, error = replace(site, console=person), lost()
    assert not offer.move_first(asking, name, error, patience=ONCE)
    assert person.questions == [f"{error}\nMove torch of stack 'mine' to {NEW}, and lock it?"]
    assert (version(site), notes(error)) == (OLD, [LINE])
    person.answer = True
    assert offer.move_first(asking, name, lost(), patience=ONCE)
    assert version(site) == NEW


def test_ci_is_not_asked_and_gets_the_line(site: Site) -> None:
    person, error = Person(answer=True), lost()
    unattended = replace(site, console=person, environment={**site.environment, "CI": "1"})
    assert not offer.move_first(unattended, "mine", error, patience=ONCE)
    assert (person.questions, version(site), notes(error)) == ([], OLD, [LINE])


def test_nothing_newer_is_not_offered(site: Site, index: Today) -> None:
    del index.files[f"/whl/nightly/{CHANNEL}/torch-{NEW}-{TAG}-{TAG}-{PLATFORM}.whl"]
    person, error = Person(answer=True), lost()
    assert not offer.move_first(replace(site, console=person), "mine", error, patience=ONCE)
    assert person.questions == []
    assert notes(error) == ["the index lists no newer build of its channel"]


def test_index_that_is_away_leaves_the_command(site: Site, index: Today) -> None:
    index.answers["/torch/"] = [500]
    error = lost()
    assert not offer.move_first(
        replace(site, console=Person(answer=True)), "mine", error, patience=ONCE
    )
    (note,) = notes(error)
    assert note.startswith("to move the pin: invoke pin torch latest --stack mine\n")
    assert "no-answer" in note


def test_other_errors_are_not_answered_with_a_move(site: Site) -> None:
    person = Person(answer=True)
    error = BlackwheelError("disk-full", "full")
    assert not offer.move_first(replace(site, console=person), "mine", error, patience=ONCE)
    assert (person.questions, notes(error)) == ([], [])
