"""Driver branches against a stack: which run its wheels, and which compile PTX of its toolkit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import proved
import pytest

from blackwheel.commands import stack_list, views
from blackwheel.doctor import for_building, machine_checks
from blackwheel.doctor.check import Check
from blackwheel.stacks import loader
from blackwheel.stacks.records import Stack

NOTE = "its torch was never seen here"


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """A stack of CUDA 13.2, whose PTX wants a newer driver than its SASS."""
    site = proved.new_checkout(tmp_path)
    toy = site.constraints / "toy.toml"
    text = toy.read_text("utf-8").replace('cuda = "13.0.2"', 'cuda = "13.2.2"')
    toy.write_text(f'driver_ptx = 595\nnote = "{NOTE}"\n{text}', encoding="utf-8")
    return loader.load("toy", site.constraints)


@pytest.mark.parametrize(
    ("driver", "runs", "ptx"),
    [("579.9", None, []), ("580.65.06", True, [None]), ("594", True, [None]), ("595", True, [])],
)
def test_ptx_wants_the_driver_of_its_own_toolkit(
    stack: Stack, driver: str, runs: bool | None, ptx: list[bool | None]
) -> None:
    assert machine_checks.driver_check(stack, driver).ok is runs
    assert [check.ok for check in machine_checks.ptx_checks(stack, driver)] == ptx


def test_driver_that_runs_sass_alone_is_told_what_fails(stack: Stack) -> None:
    assert list(machine_checks.ptx_checks(stack, "580.126.09")) == [
        Check(
            name="driver, PTX",
            ok=None,
            fact="driver 580.126.09 runs the wheels; PTX of CUDA 13.2, compiled at run time, fails",
            cure="driver 595 takes it (docs/gpus-and-drivers.md says who makes PTX)",
        )
    ]
    assert list(machine_checks.ptx_checks(replace(stack, driver_ptx=0), "580")) == []
    assert list(machine_checks.ptx_checks(None, "580")) == []
    assert list(machine_checks.ptx_checks(stack, "")) == []


def test_note_of_a_stack_is_said_by_doctor_stacks_and_plan(stack: Stack, tmp_path: Path) -> None:
    site = proved.site_of(tmp_path)
    checks = for_building.examine(stack, for_building.place(site), network=False)
    assert checks[0] == Check(name="stack", ok=None, fact=NOTE)
    stack_list.show_stacks(site)
    views.show_plan(site, "toy")
    said = proved.said(site)
    assert said.count(f"toy: {NOTE}") == 2
    assert "≥ 580, PTX 595" in said
