"""Stack files that extend others, and what contradicts itself in one."""

from __future__ import annotations

from pathlib import Path

import proved
import pytest

from blackwheel.core.errors import BlackwheelError
from blackwheel.stacks import loader

OWN = """\
version = "2.15.0"
runtime = "2.15.0+cu132"
cuda = "13.2"
"""
TOOLCHAIN = '[toolchain]\nsource = "registry"\ncuda = "13.2.2"\n'
WHEEL = f"""\
[wheels.{proved.TAG}]
name = "torch-2.15.0-{proved.TAG}-{proved.TAG}-manylinux_2_28_x86_64.whl"
sha256 = "{"b" * 64}"
"""


@pytest.fixture
def constraints(tmp_path: Path) -> Path:
    """A stack `toy`, whose torch has one locked wheel."""
    folder = proved.new_checkout(tmp_path).constraints
    (folder / "toy" / "torch.toml").write_text(
        f"{WHEEL.replace('2.15.0', '2.11.0')}size = 1\n", encoding="utf-8"
    )
    return folder


def write(constraints: Path, text: str, torch: str = "") -> None:
    (constraints / "new.toml").write_text(f'extends = "toy"\n{text}', encoding="utf-8")
    if torch:
        (constraints / "new").mkdir(exist_ok=True)
        (constraints / "new" / "torch.toml").write_text(torch, encoding="utf-8")


def faults(constraints: Path) -> list[str]:
    with pytest.raises(BlackwheelError, match="bad-stack") as caught:
        loader.load("new", constraints)
    return caught.value.fact.splitlines()[1:]


def test_git_source_without_a_tree_is_refused_where_no_sdist_is_pinned(
    constraints: Path,
) -> None:
    toy = constraints / "toy.toml"
    text = toy.read_text("utf-8")
    assert text.count(', tree = "') == 2
    toy.write_text(text.replace(f', tree = "{"7" * 40}"', "", 1), encoding="utf-8")
    write(constraints, "")
    assert faults(constraints) == [
        "projects.toy.source.tree: missing, and no sdist is pinned instead:"
        f" git rev-parse {'c' * 12}^{{tree}}"
    ]


def test_torch_of_a_stack_may_lie_in_a_file_of_its_own(constraints: Path) -> None:
    write(constraints, '[torch]\nsource = "registry"\n', OWN + WHEEL + "size = 3\n")
    torch = loader.load("new", constraints).torch
    assert (torch.version, torch.wheels[proved.TAG].size) == ("2.15.0", 3)


def test_own_torch_leaves_nothing_of_the_parents_and_takes_no_foreign_locks(
    constraints: Path,
) -> None:
    write(constraints, f'[torch]\nsource = "registry"\n{OWN}')
    stack = loader.load("new", constraints)
    assert (stack.torch.git_version, dict(stack.torch.wheels)) == (None, {})
    assert stack.locks == "new"
    write(constraints, 'description = "as the other"\n')
    stack = loader.load("new", constraints)
    assert stack.torch == loader.load("toy", constraints).torch
    assert stack.locks == "new", "a stack's locks are its own unless its file or its parent's says"


def test_locks_that_the_parent_names_go_with_its_torch(constraints: Path) -> None:
    toy = constraints / "toy.toml"
    toy.write_text(f'locks = "shared"\n{toy.read_text("utf-8")}', encoding="utf-8")
    write(constraints, 'description = "as the other"\n')
    assert loader.load("new", constraints).locks == "shared"
    for text in (f'[torch]\nsource = "registry"\n{OWN}', TOOLCHAIN):
        write(constraints, text)
        assert loader.load("new", constraints).locks == "new"
    write(constraints, f'locks = "shared"\n{TOOLCHAIN}')
    assert loader.load("new", constraints).locks == "shared", "what the file itself says holds"


def test_old_name_of_a_stack_is_not_that_of_its_children(constraints: Path) -> None:
    toy = constraints / "toy.toml"
    toy.write_text(f'formerly = "old"\nnote = "known"\n{toy.read_text("utf-8")}', encoding="utf-8")
    write(constraints, 'description = "as the other"\n')
    stack = loader.load("new", constraints)
    assert (stack.formerly, stack.note) == ("", "known")


def test_own_toolkit_leaves_nothing_of_the_parents(constraints: Path) -> None:
    write(constraints, TOOLCHAIN)
    assert loader.load("new", constraints).toolchain.nvcc == ""


def test_wheel_without_a_size_is_one_that_somebody_else_published(constraints: Path) -> None:
    write(constraints, '[torch]\nsource = "registry"\n', OWN + WHEEL)
    assert faults(constraints) == [
        f"torch.wheels.{proved.TAG}.size: missing: only a wheel with told_by has none"
    ]
    write(constraints, '[torch]\nsource = "registry"\n', f'{OWN}{WHEEL}told_by = "somebody"\n')
    stack = loader.load("new", constraints)
    assert stack.remarks == (
        "its torch is locked as somebody published it: nobody here has had the bytes",
    )


def test_python_without_a_locked_wheel_of_the_registry_is_a_fault(constraints: Path) -> None:
    write(
        constraints,
        f'python = ["{proved.PYTHON}", "3.9"]\n[torch]\nsource = "registry"\n',
        OWN + WHEEL + "size = 3\n",
    )
    assert faults(constraints) == ["python: 3.9: torch.wheels has no wheel for it"]


def test_torch_of_another_channel_is_a_fault(constraints: Path) -> None:
    index = 'source = "index"\nindex = "https://index.invalid/nightly"\nchannel = "cu134"\n'
    write(constraints, f"[torch]\n{index}", OWN)
    assert faults(constraints) == ["torch.channel: torch 2.15.0 is not of 'cu134'"]
    write(constraints, f"[torch]\n{index}", OWN.replace('"2.15.0"', '"2.15.0+cu134"'))
    pages = loader.load("new", constraints).torch.pages
    root = "https://index.invalid/nightly"
    assert pages == (f"{root}/cu134", root)


def test_damaged_torch_file_is_named(constraints: Path) -> None:
    write(constraints, "", "version = \n")
    (fault,) = faults(constraints)
    assert fault.startswith("torch.toml: not TOML: ")
