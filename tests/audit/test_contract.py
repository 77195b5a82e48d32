"""What a contract asks for must be there; a wheel that holds nothing proves nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from elfwright import elf
from wheelwright import ARCHS, SO, TOY, make_wheel, native, require

from blackwheel.audit.audit import AuditedWheel, AuditReport, Expected, expectation, inspect
from blackwheel.audit.contract import object_findings
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.stacks import loader
from blackwheel.stacks.key import key
from blackwheel.stacks.records import Contract
from blackwheel.stacks.request import Request

ROOT = Path(__file__).parents[2]


def said(wheel: Path, *contracts: Contract) -> list[str]:
    report = inspect(wheel, archs=ARCHS, expected=replace(TOY, contracts=contracts))
    return [str(one) for one in report.fatal]


def test_wheel_without_the_library_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"toy/__init__.py": b"scale = abs\n"})
    assert said(wheel, Contract(library="toy/_C*.so")) == [
        "missing-library: toy/_C*.so: the contract asks for this library,"
        " and the wheel holds none of that name"
    ]
    assert said(wheel, Contract(library="toy/_C*.so", optional=True)) == []


def test_stack_without_a_contract_asks_for_something_too(tmp_path: Path) -> None:
    require(make_wheel(tmp_path), "missing-library", "", expected=replace(TOY, contracts=()))
    wheel = make_wheel(tmp_path / "host", {SO: elf()})
    assert said(wheel) == [
        "missing-kernels: *: no kernels are there, the contract asks for at least 1"
    ]
    assert said(make_wheel(tmp_path / "right", {SO: native()})) == []


def test_library_of_host_code_alone_is_refused(tmp_path: Path) -> None:
    """An upstream that leaves its device sources out builds a wheel that is whole."""
    wheel = make_wheel(tmp_path, {SO: elf(exports=["PyInit__C"])})
    line = Contract(library="toy/_C*.so")
    assert [one.split(":")[0] for one in said(wheel, line)] == ["missing-kernels"]
    assert said(wheel, replace(line, kernels=0)) == []


def test_fewer_kernels_than_asked_for_are_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {SO: native("a", "b", "c")})
    assert said(wheel, Contract(library="toy/_C*.so", kernels=3)) == []
    assert said(wheel, Contract(library="toy/_C*.so", kernels=4)) == [
        "missing-kernels: toy/_C*.so: 3 kernels are there, the contract asks for at least 4"
    ]


def test_kernels_are_counted_over_all_that_a_line_names(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {SO: native("a"), "toy/_D.so": native("b"), "toy/_E.so": elf()})
    assert said(wheel, Contract(library="toy/*.so", kernels=2)) == []
    first = Contract(library="toy/_C*.so", kernels=1)
    assert said(wheel, first, Contract(library="toy/*.so", kernels=2)) == [
        "missing-kernels: toy/*.so: 1 kernel is there, the contract asks for at least 2"
    ]


@pytest.mark.parametrize(
    ("entry", "there"),
    [
        ("scale", True),
        ("PyInit__C", True),
        ("tripled", True),
        ("add", False),
        ("cale", False),
        ("ripled", False),
        ("PyInit_", False),
    ],
)
def test_entry_point_must_be_there(tmp_path: Path, entry: str, there: bool) -> None:
    wheel = make_wheel(tmp_path, {SO: native("scale", "_ZN3toy7tripledILi3EEEvPf")})
    faults = said(wheel, Contract(library="toy/_C*.so", entry_points=("scale", entry)))
    fact = f"missing-entry-point: toy/_C*.so: no kernel and no exported symbol is called {entry}"
    assert faults == ([] if there else [fact])


def test_library_that_no_line_names_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {SO: native(), "toy/_evil.so": elf()})
    assert said(wheel, Contract(library="toy/_C*.so")) == [
        "undeclared-library: toy/_evil.so: no line of the contract names it"
    ]
    host = Contract(library="toy/*.so", kernels=0)
    assert said(wheel, Contract(library="toy/_C*.so"), host) == []


@dataclass
class Plan:
    request: Request


@dataclass
class Built:
    """As much of a BuiltWheel as the count of its objects takes."""

    plan: Plan
    objects: tuple[dict[str, Any], ...]


def built(count: int, *, objects: int = 3, **how: Any) -> Built:
    stack = loader.load("torch211-quick", ROOT / "constraints")
    pin = replace(stack.projects["flash-attn"], objects=objects)
    stack = replace(stack, projects={"flash-attn": pin})
    request = Request(
        stack=stack, project="flash-attn", python="3.12", **{"archs": stack.archs, **how}
    )
    return Built(plan=Plan(request), objects=({},) * count)


def report() -> AuditReport:
    return AuditReport(path=Path("toy.whl"), sha256="0" * 64, size=1)


def test_as_many_objects_as_planned_pass() -> None:
    assert AuditedWheel(report=report(), built=built(3)).findings == ()  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_audited_wheel_cannot_be_made_of_other_objects(count: int) -> None:
    with pytest.raises(BlackwheelError) as caught:
        AuditedWheel(report=report(), built=built(count))  # type: ignore[arg-type]
    assert caught.value.code == Exit.AUDIT
    assert str(caught.value) == "\n".join(
        [
            "error: wheel-refused",
            "  toy.whl:",
            f"  other-objects: {count} objects were compiled, the stack counts 3",
            "  where: toy.whl",
            "  fix:   correct what is named above and build again; nothing was shelved",
        ]
    )


@pytest.mark.parametrize(
    ("how", "count", "fine"),
    [
        ({"without": ("x",)}, 3, True),
        ({"without": ("x",)}, 2, True),
        ({"without": ("x",)}, 4, False),
        ({"without": ("x",)}, 0, False),
        ({"archs": ("9.0",)}, 5, True),
        ({"archs": ("9.0",)}, 1, True),
        ({"archs": ("9.0",)}, 0, False),
    ],
)
def test_other_archs_and_parts_left_out_change_the_count(
    how: dict[str, Any], count: int, fine: bool
) -> None:
    found = object_findings(built(count, **how))  # type: ignore[arg-type]
    assert (found == ()) == fine


def test_objects_that_nobody_counted_are_a_note() -> None:
    (note,) = object_findings(built(7, objects=0))  # type: ignore[arg-type]
    assert (note.name, note.fatal) == ("objects-not-counted", False)


def test_every_stack_says_what_must_be_there() -> None:
    for name in loader.names(ROOT / "constraints"):
        stack = loader.load(name, ROOT / "constraints")
        for project in stack.build:
            lines = stack.projects[project].contract
            assert sum(line.kernels for line in lines) > 1, (name, project)


def test_contract_is_no_part_of_the_key() -> None:
    stack = loader.load("torch211-quick", ROOT / "constraints")
    pin = stack.projects["flash-attn"]
    other = replace(pin, contract=(Contract(library="x"),), data=("*.npy",), objects=99)
    keys = {
        key(
            Request(
                stack=replace(stack, projects={"flash-attn": one}),
                project="flash-attn",
                python="3.12",
                archs=stack.archs,
            ),
            patches=(),
            constraints=ROOT / "constraints",
            isolation="namespaces",
        ).digest
        for one in (pin, other)
    }
    assert len(keys) == 1


def test_other_archs_are_held_to_what_is_there() -> None:
    stack = loader.load("torch211", ROOT / "constraints")

    def asked(*archs: str) -> Expected:
        return expectation(
            Request(stack=stack, project="flash-attn", python="3.12", archs=archs or stack.archs)
        )

    assert asked().contracts == stack.projects["flash-attn"].contract
    (line,) = asked("9.0").contracts
    assert (line.kernels, line.entry_points, line.optional) == (1, (), True)
