"""Lock files have one reader, and a file that is none has a named error."""

from __future__ import annotations

from pathlib import Path

import pytest

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.stacks import locks


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "toy" / "build-toy-py312.txt"
    path.parent.mkdir()
    path.write_text("torch==2.11.0\n", encoding="utf-8")
    return path


def test_lock_is_read(lock: Path) -> None:
    assert locks.lock_text(lock) == "torch==2.11.0\n"


def test_missing_lock_is_named(lock: Path) -> None:
    lock.unlink()
    with pytest.raises(BlackwheelError) as caught:
        locks.lock_text(lock)
    assert str(caught.value) == (
        "error: no-lock-file\n"
        "  there are no hashed pins of this environment\n"
        "  where: constraints/toy/build-toy-py312.txt\n"
        "  fix:   nox -s lock"
    )


def test_file_that_is_no_text_is_named(lock: Path) -> None:
    lock.write_bytes(b"torch==2.11.0\n\xff")
    with pytest.raises(BlackwheelError) as caught:
        locks.lock_text(lock)
    assert caught.value.code == Exit.CONFIG
    assert str(caught.value) == (
        "error: bad-lock-file\n"
        "  these hashed pins are no lock file: it is no text: invalid start byte at byte 14\n"
        "  where: constraints/toy/build-toy-py312.txt\n"
        "  fix:   git checkout of the file, or: nox -s lock"
    )


def test_folder_and_endless_file_are_named(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BlackwheelError, match="cannot be read: Is a directory"):
        locks.lock_text(lock.parent)
    monkeypatch.setattr(locks, "MOST_BYTES", 5)
    with pytest.raises(BlackwheelError, match="more than 5 bytes"):
        locks.lock_text(lock)


def test_pins_are_read_with_their_hashes_and_nothing_else_is() -> None:
    a, b = "a" * 64, "b" * 64
    one = f"Dep.Two[extra]==2.0 ; python_version < '3.13' \\\n    --hash=sha256:{a}\n"
    two = f"torch @ https://nightly.invalid/torch-3%2Bcu134.whl#sha256={b} \\\n"
    two += f"    --hash=sha256:{b} \\\n    --hash=sha256:{a}\n"
    found = locks.pins(f"# dep==1.0\n{one}    # via torch==9\n--index-url x\n{two}\nend==1")
    assert [(pin.name, pin.version, pin.words) for pin in found] == [
        ("dep-two", "2.0", "Dep.Two[extra]==2.0"),
        ("torch", "", f"torch @ https://nightly.invalid/torch-3%2Bcu134.whl#sha256={b}"),
        ("end", "1", "end==1"),
    ]
    assert [pin.text for pin in found] == [one, two, "end==1"]
    assert [pin.sha256 for pin in found] == [{a}, {a, b}, set()]
