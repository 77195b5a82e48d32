"""The stack file around a pin that moves: every comment and every other line stays."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from blackwheel.core.errors import BlackwheelError
from blackwheel.pins import stack_file
from blackwheel.stacks import loader
from blackwheel.stacks.records import LockedWheel, TorchPin, TorchWheel

CONSTRAINTS = Path(__file__).parents[2] / "constraints"
TEXT = (CONSTRAINTS / "report-2025-10.toml").read_text(encoding="utf-8")
FAMILY = LockedWheel(name="torchvision.whl", sha256="1" * 64, size=3, url="http://index/vision")
WHEEL = TorchWheel(
    name="torch.whl", sha256="2" * 64, size=4, url="http://index/torch", family=(FAMILY, FAMILY)
)


@pytest.fixture
def pin() -> TorchPin:
    torch = loader.load("report-2025-10", CONSTRAINTS).torch
    return replace(torch, git_version="3" * 40, wheels={"cp311": WHEEL})


def test_only_what_was_seen_is_added(pin: TorchPin) -> None:
    added = (
        f'git_version = "{"3" * 40}"\n\n'
        "[torch.wheels.cp311]\n"
        f'name = "torch.whl"\nsha256 = "{"2" * 64}"\nsize = 4\nurl = "http://index/torch"\n\n'
    )
    row = (
        "[[torch.wheels.cp311.family]]\n"
        f'name = "torchvision.whl"\nsha256 = "{"1" * 64}"\nsize = 3\nurl = "http://index/vision"\n\n'
    )
    head, tail = TEXT.split("\n[toolchain]")
    assert stack_file.edited(TEXT, pin) == f"{head}{added}{row}{row}[toolchain]{tail}"


def test_same_pin_again_changes_no_byte(pin: TorchPin) -> None:
    text = stack_file.edited(TEXT, pin)
    assert stack_file.edited(text, pin) == text


def test_comments_within_the_pin_stay_when_it_moves(pin: TorchPin) -> None:
    text = stack_file.edited(TEXT, pin)
    noted = text.replace("size = 4\n", "size = 4 # 912 MB\n# seen on a Friday\n")
    noted = noted.replace(
        'cuda = "12.8"\nsource = "index"', 'cuda = "12.8" # why\nsource = "index"'
    )
    moved = replace(pin, cuda="13.0", wheels={"cp311": replace(WHEEL, size=5, family=())})
    after = stack_file.edited(noted, moved)
    assert "size = 5 # 912 MB\n# seen on a Friday\n" in after
    assert 'cuda = "13.0" # why\n' in after
    assert "family" not in after


def test_description_names_the_build_that_is_pinned(pin: TorchPin) -> None:
    version = "2.10.0.dev20251018+cu128"
    after = stack_file.edited(TEXT, replace(pin, version=version, runtime=version))
    assert f'description = "torch {version}, host CUDA 12.8' in after


def test_file_that_would_not_hold_the_pin_is_not_written(tmp_path: Path, pin: TorchPin) -> None:
    path = tmp_path / "nightly.toml"
    path.write_text(TEXT, encoding="utf-8")
    with pytest.raises(BlackwheelError) as caught:
        stack_file.rewrite("nightly", tmp_path, replace(pin, source="registry"))
    assert str(caught.value) == (
        "error: cannot-write-pin\n"
        "  the stack file would not hold the torch that was seen\n"
        "  where: constraints/nightly.toml\n"
        "  fix:   write [torch] as one table of its own, as constraints/report-2025-10.toml does"
    )
    assert path.read_text(encoding="utf-8") == TEXT


def test_stack_file_behind_a_link_is_written_where_it_lies(tmp_path: Path, pin: TorchPin) -> None:
    real = tmp_path / "real" / "nightly.toml"
    real.parent.mkdir()
    real.write_text(TEXT, encoding="utf-8")
    real.chmod(0o640)
    folder = tmp_path / "constraints"
    folder.mkdir()
    (folder / "nightly.toml").symlink_to(real)
    stack_file.rewrite("nightly", folder, pin)
    assert (folder / "nightly.toml").is_symlink()
    assert loader.load("nightly", folder).torch == pin
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    """The stack `nightly`, whose torch lies in a file of its own, and the one that it extends."""
    for name in ("stable", "nightly"):
        (tmp_path / name).mkdir()
        shutil.copy2(CONSTRAINTS / f"{name}.toml", tmp_path)
        shutil.copy2(CONSTRAINTS / name / "torch.toml", tmp_path / name)
    return tmp_path


def test_torch_of_its_own_file_is_moved_there_and_the_rest_stays(apart: Path) -> None:
    torch = loader.load("nightly", apart).torch
    assert stack_file.rewrite("nightly", apart, torch) == ()
    (tag, wheel) = next(iter(torch.wheels.items()))
    version = f"9.0.dev20991231+{torch.channel}"
    seen = replace(wheel, size=5, told_by="", requires=("filelock", 'triton==1; os == "x"'))
    moved = replace(torch, version=version, runtime=version, wheels={tag: seen})
    before = (apart / "nightly.toml").read_bytes()
    head = (apart / "nightly" / "torch.toml").read_text(encoding="utf-8").partition("version")[0]
    (changed,) = stack_file.rewrite("nightly", apart, moved)
    assert changed.path == apart / "nightly" / "torch.toml"
    assert changed.after.startswith(head)
    table = changed.after.partition("[[")[0]
    assert f'version = "{version}"' in table
    assert "told_by = " not in table and "size = 5\n" in table
    assert 'requires = [\n    "filelock",\n    "triton==1; os == \\"x\\"",\n]' in table
    assert (apart / "nightly.toml").read_bytes() == before
    assert loader.load("nightly", apart).torch == moved


def test_torch_of_its_own_file_names_another_channel_only_where_it_is_another(apart: Path) -> None:
    torch = loader.load("nightly", apart).torch
    version = torch.version.replace(torch.channel, "cu999")
    moved = replace(torch, version=version, runtime=version, channel="cu999")
    (changed,) = stack_file.rewrite("nightly", apart, moved)
    assert 'channel = "cu999"\n' in changed.after and "index" not in changed.after
    (changed,) = stack_file.rewrite("nightly", apart, torch)
    assert "channel" not in changed.after.partition("[")[0]


def test_description_that_names_the_old_version_names_the_new_one(apart: Path) -> None:
    torch = loader.load("stable", apart).torch
    assert f"torch {torch.version}," in (apart / "stable.toml").read_text(encoding="utf-8")
    changed = stack_file.rewrite("stable", apart, replace(torch, version="9.9.9"))
    assert [one.path.name for one in changed] == ["torch.toml", "stable.toml"]
    assert loader.load("stable", apart).description.startswith("torch 9.9.9,")


def test_archive_of_a_nested_source_goes_when_its_commit_moves() -> None:
    text = (CONSTRAINTS / "stable.toml").read_text(encoding="utf-8")
    pin = loader.load("stable", CONSTRAINTS).projects["vllm"]
    assert stack_file.edited_project(text, "vllm", pin, pin, {}) == text
    moved = tuple(
        replace(one, commit="1" * 40, archive=None) if one.archive else one for one in pin.nested
    )
    after = stack_file.edited_project(text, "vllm", pin, replace(pin, nested=moved), {})
    assert "[projects.vllm.nested.archive]" in text and "nested.archive" not in after
    assert stack_file.loaded("stable", CONSTRAINTS, after).projects["vllm"].nested == moved
