"""The short form: each parser on right inputs, on a few wrong ones, and on those that failed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from random import Random

import fuzz_campaign as campaign
import judge
import pytest
from mutators import changed_tree, json_files, texts
from target import CHECKOUT, Target, folder, written

from blackwheel.core.errors import BlackwheelError

INPUTS = 12
"""Of each target; `nox -s fuzz` judges 20,000."""
FAILED = json.loads((Path(__file__).parent / "failed.json").read_text(encoding="utf-8"))
"""By target: inputs that ended in an exception once, in hexadecimal."""


@pytest.fixture(scope="module")
def targets() -> dict[str, Target]:
    return {one.name: one for one in campaign.all_targets()}


def test_each_target_takes_right_inputs(targets: dict[str, Target]) -> None:
    """A parser that refuses everything would pass every other test."""
    for one in targets.values():
        for right in one.seeds:
            one.parse(right)


def test_wrong_inputs_end_in_a_named_error(targets: dict[str, Target]) -> None:
    faults = {}
    for one in targets.values():
        found = campaign.run(one, INPUTS)
        assert found.inputs == INPUTS
        faults |= {f"{one.name}: {kind}": told for kind, told in found.faults.items()}
    assert faults == {}


def test_inputs_that_failed_once_do_not_fail_again(targets: dict[str, Target]) -> None:
    assert set(FAILED) <= set(targets)
    faults = [
        f"{name}: {fault}"
        for name, inputs in FAILED.items()
        for data in inputs
        if (fault := judge.judged(targets[name].parse, bytes.fromhex(data), targets[name].named))
    ]
    assert faults == []


def test_an_input_is_named_by_its_number(targets: dict[str, Target]) -> None:
    one = targets["receipt"]
    first, again, other = (one.inputs(Random(f"x {n}")) for n in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("parse", "kind"),
    [
        (lambda data: {}[data], "KeyError, outside"),
        (lambda data: _busy(2.5), "slow"),
        (lambda data: _busy(60), "does not end, outside"),
        (lambda data: bytearray(220 << 20).count(1), "large"),
    ],
    ids=["exception", "slow", "endless", "large"],
)
def test_each_wrong_end_is_seen(parse: object, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "_HARD_SECONDS", 3.0)
    fault = judge.judged(parse, b"x")  # type: ignore[arg-type]
    assert fault is not None
    assert fault.kind == kind


def _busy(seconds: float) -> None:
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


def test_named_error_and_result_are_right_ends() -> None:
    def refused(data: bytes) -> None:
        raise BlackwheelError("bad-thing", "it is bad")

    assert judge.judged(refused, b"x") is None
    assert judge.judged(len, b"x") is None
    assert judge.judged(int, b"x", (ValueError,)) is None


def test_fault_is_found_and_made_small() -> None:
    """A parser with a defect: the campaign finds it, and Hypothesis the least that shows it."""

    def parse(data: bytes) -> object:
        value = json.loads(data)
        return value["size"] + 1 if isinstance(value, dict) and "size" in value else None

    right = {"size": 1, "names": ["a", "b"], "other": {"c": 2}}
    one = Target(
        name="planted",
        parse=parse,
        seeds=[json.dumps(right).encode()],
        inputs=json_files([right]),
        covers=(campaign.run,),
        named=(ValueError, RecursionError),
    )
    found = campaign.run(one, 400)
    (kind,) = found.faults
    assert kind == "TypeError, outside"
    small = campaign.smallest(one, kind)
    assert judge.judged(parse, small, one.named)
    assert {**json.loads(small), "size": 1} == right  # the one edit that matters, and no other


def test_stopped_run_goes_on_at_its_portion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two portions and a short one: all inputs count, each once, and a kept one is not run."""

    def parse(data: bytes) -> object:
        if len(data) > 30:
            raise KeyError(data)
        return None

    one = Target(name="planted", parse=parse, seeds=[b"a"], inputs=_numbered, covers=(judge,))
    monkeypatch.setattr(campaign, "PORTION", 10)
    whole = campaign._apart(one, 25, 3, tmp_path)
    assert (whole.inputs, whole.faults.keys()) == (25, {"KeyError, outside"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"planted-{first}.json" for first in (13, 23, 3)
    ]
    ran = []
    monkeypatch.setattr(campaign, "_forked", lambda *words, **_: ran.append(words[1:]))
    again = campaign._apart(one, 25, 3, tmp_path, resume=True)
    assert ran == []
    assert again == whole
    (small,) = whole.smallest.values()
    assert len(bytes.fromhex(small)) == 31, "the shortest of all portions"


def _numbered(dice: Random) -> bytes:
    return b"x" * dice.randint(29, 40)


def test_edits_reach_every_place() -> None:
    right = {"a": [1, {"b": "text"}], "c": 2.5}
    changed = [changed_tree(Random(n), [right]) for n in range(300)]
    assert any(isinstance(one, dict) and one.get("a", [0])[:1] == [1] for one in changed)
    assert any(isinstance(one, dict) and "c" not in one for one in changed)
    assert any(not isinstance(one, dict) for one in changed)
    assert len({texts([b"a\nb\n"])(Random(n)) for n in range(100)}) > 50


def test_scratch_is_outside_of_the_checkout() -> None:
    path = written(folder("own") / "a", b"x")
    assert not path.is_relative_to(CHECKOUT)
