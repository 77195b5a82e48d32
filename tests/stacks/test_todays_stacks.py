"""The stacks of this repository hold together, whichever versions a pin moved them to."""

from __future__ import annotations

from pathlib import Path

import pytest

from blackwheel.core.errors import BlackwheelError
from blackwheel.pytorch import identity
from blackwheel.stacks import loader
from blackwheel.stacks.records import Stack

CONSTRAINTS = Path(__file__).parents[2] / "constraints"
STACKS = [loader.load(name, CONSTRAINTS) for name in loader.names(CONSTRAINTS)]
LOCKED = [stack for stack in STACKS if stack.torch.wheels]
KEPT = {"torch211": "stable", "torch211-quick": "quickstart", "report-2025-10": "nightly"}


def locks(stack: Stack, kind: str) -> list[tuple[str, Path]]:
    return [
        (f"cp{tag}", CONSTRAINTS / stack.locks / f"{kind}-{project}-py{tag}.txt")
        for project in stack.build
        for tag in (python.replace(".", "") for python in stack.python)
    ]


@pytest.mark.parametrize("stack", LOCKED, ids=lambda stack: stack.name)
def test_every_lock_accepts_the_torch_and_the_family_of_its_stack(stack: Stack) -> None:
    """A torch.toml that moved without its locks is seen here before a build sees it."""
    for tag, lock in (*locks(stack, "build"), *locks(stack, "run")):
        torch = identity.locked_torch(stack, tag)
        identity.require_in_lock(torch, lock, stack=stack.name)
        for one in torch.family:
            digests = identity.locked_digests(lock, one.name.partition("-")[0])
            assert not digests or one.sha256 in digests, f"{lock.name}: {one.name}"


def test_lock_of_another_torch_of_the_registry_is_refused(tmp_path: Path) -> None:
    stack = next(stack for stack in LOCKED if stack.torch.source == "registry")
    tag, lock = locks(stack, "build")[0]
    torch = identity.locked_torch(stack, tag)
    other = tmp_path / lock.name
    other.write_text(lock.read_text("utf-8").replace(torch.sha256, "0" * 64), encoding="utf-8")
    with pytest.raises(BlackwheelError, match="lock-of-another-torch"):
        identity.require_in_lock(torch, other, stack=stack.name)


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_recipe_is_the_newest_but_for_stacks_that_keep_their_wheels(stack: Stack) -> None:
    assert (stack.formerly, stack.recipe) == (
        KEPT.get(stack.name, ""),
        2 + (stack.name not in KEPT),
    )


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_wheel_that_nobody_has_had_has_an_address_and_the_stack_says_so(stack: Stack) -> None:
    wheels = [one for torch in stack.torch.wheels.values() for one in (torch, *torch.family)]
    told = [one for one in wheels if one.told_by]
    assert all(one.url and one.requires_python for one in told)
    assert bool(told) == any("nobody here has had the bytes" in line for line in stack.remarks)
    assert all(one.size for one in wheels if not one.told_by)


def test_quickstart_is_of_the_torch_of_stable() -> None:
    by_name = {stack.name: stack for stack in STACKS}
    assert by_name["quickstart"].torch == by_name["stable"].torch
    assert by_name["quickstart"].locks == "stable"
