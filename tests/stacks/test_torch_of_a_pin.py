"""`torch = "abi"` in a project's pin: requirement, label, key, and what contradicts it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import proved
import pytest

from blackwheel.core.errors import BlackwheelError
from blackwheel.stacks import loader
from blackwheel.stacks.key import key
from blackwheel.stacks.records import Stack
from blackwheel.stacks.request import Request, build_variables, filled, oldest_torch

VARIABLES = '[projects.toy.variables]\nTOY_LABEL = "{label}"\nTOY_TORCH = "{torch}"\n'


@pytest.fixture
def constraints(tmp_path: Path) -> Path:
    return proved.new_checkout(tmp_path).constraints


def written(constraints: Path, text: str) -> Stack:
    (constraints / "new.toml").write_text(
        f'extends = "toy"\nlocks = "toy"\n{text}', encoding="utf-8"
    )
    return loader.load("new", constraints)


def request_of(stack: Stack) -> Request:
    return Request(stack=stack, project="toy", python=proved.PYTHON, archs=stack.archs)


def parts_of(stack: Stack, constraints: Path) -> dict[str, str]:
    made = key(request_of(stack), patches=(), constraints=constraints, isolation="namespaces")
    return dict(made.parts)


def test_wheel_of_the_stable_interface_requires_its_torch_or_a_later_one(
    constraints: Path,
) -> None:
    stack = written(constraints, f'[projects.toy]\ntorch = "abi"\n{VARIABLES}')
    asked = request_of(stack)
    assert asked.version == "1.0+cu130torch2.11.sm120a.1"
    variables = build_variables(asked, jobs=1)
    assert variables["TOY_TORCH"] == "torch>=2.11.0"
    assert variables["TOY_LABEL"] == "cu130torch2.11.sm120a.1"
    assert filled("{torch}", stack, asked.pin, proved.PYTHON) == "torch>=2.11.0"
    other = replace(asked, project="other")
    assert other.version == "1.0+cu130torch2.11.0.sm120a.1", "the other project stays exact"
    assert filled("{torch}", stack, other.pin, proved.PYTHON) == "torch===2.11.0"


def test_key_knows_it_and_the_default_is_no_part_of_a_key(constraints: Path) -> None:
    plain = parts_of(written(constraints, ""), constraints)
    said = parts_of(written(constraints, '[projects.toy]\ntorch = "exact"\n'), constraints)
    stable = parts_of(written(constraints, '[projects.toy]\ntorch = "abi"\n'), constraints)
    assert plain == said
    assert {name for name in stable if stable[name] != plain.get(name)} == {"torch", "label"}
    assert (oldest_torch(plain), oldest_torch(stable)) == ("", "2.11.0")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            '[projects.toy]\ntorch = "abi"\nlinks_torch = false\n',
            "projects.toy.torch: 'abi': links_torch is false, so it serves every torch already",
        ),
        (
            '[projects.toy]\ntorch = "abi"\n[torch]\nsource = "installed"\n',
            "projects.toy.torch: 'abi': only a release of the package registry has later ones of"
            " the same interface",
        ),
        (
            '[projects.toy]\ntorch = "abi"\n[torch]\nruntime = "2.12.0rc1+cu130"\n',
            "projects.toy.torch: 'abi': 2.12.0rc1 is a pre-release: its interface may still move",
        ),
        (
            '[projects.toy]\ntorch = "any"\n',
            "projects.toy.torch: input should be 'exact' or 'abi', not 'any'",
        ),
    ],
)
def test_pin_that_cannot_serve_later_torches_is_a_fault(
    constraints: Path, text: str, fault: str
) -> None:
    with pytest.raises(BlackwheelError, match=re.escape(fault)) as caught:
        written(constraints, text)
    assert caught.value.name == "bad-stack"
