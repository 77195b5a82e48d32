"""Own records: one reader; another form, a cut file, or depth without an end is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel

from blackwheel.core import records
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.records import Count, Name, NotARecordError, Seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Toy:
    name: Name
    size: Count
    took: Seconds = 0.0
    parts: tuple[str, ...] = ()


class Line(BaseModel):
    model_config = records.OPEN

    source: Name


RIGHT = b'{"name": "a", "size": 3, "took": 1.5, "parts": ["b"]}'
WRONG = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"name": "a"}',
    b'{"name": 3, "size": 3}',
    b'{"name": "a", "size": "3"}',
    b'{"name": "a", "size": true}',
    b'{"name": "a", "size": -1}',
    b'{"name": "a", "size": 1e999}',
    b'{"name": "a", "size": 3, "took": NaN}',
    b'{"name": "a", "size": ' + b"9" * 5_000 + b"}",
    b'{"name": "a\\nb", "size": 3}',
    b'{"name": "\\u001b[31m", "size": 3}',
    b'{"name": "\\ud800", "size": 3}',
    b'{"name": "a", "size": 3, "parts": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"name": "\xff", "size": 3}',
]


def test_right_record_is_read() -> None:
    assert records.parsed(RIGHT, Toy) == Toy(name="a", size=3, took=1.5, parts=("b",))


@pytest.mark.parametrize("data", WRONG)
def test_another_form_is_no_record(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(NotARecordError) as caught:
        records.parsed(data, Toy)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 620
    assert records.kept(path, Toy) is None
    assert records.lines(path, Toy) == []


def test_record_that_is_needed_is_a_named_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"name": "a"}')
    with pytest.raises(BlackwheelError) as caught:
        records.read(path, Toy)
    assert caught.value.code == Exit.MACHINE
    assert str(caught.value) == (
        "error: bad-record\n"
        "  this file is not as blackwheel writes it: size: Field required\n"
        f"  where: {path}\n"
        f"  fix:   rm '{path}', then the same command again: it is made anew"
    )
    with pytest.raises(BlackwheelError, match="No such file"):
        records.read(tmp_path / "none.json", Toy)


def test_cut_and_foreign_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"source": "a.cu", "more": 1}\n{"source": 3}\n\xff\n[]\n{"sou')
    found = records.lines(path, Line)
    assert [one.model_dump() for one in found] == [{"source": "a.cu", "more": 1}]
    assert records.lines(tmp_path / "none", Line) == []


def test_file_without_an_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_BYTES", len(RIGHT))
    path = tmp_path / "a.json"
    path.write_bytes(RIGHT)
    assert records.kept(path, Toy)
    path.write_bytes(RIGHT + b" ")
    assert records.kept(path, Toy) is None
    assert records.lines(path, Toy) == []


def test_value_without_an_end_is_no_record() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotARecordError):
        records.checked({"name": "a", "size": 3, "parts": deep}, Toy)
    with pytest.raises(NotARecordError, match="size"):
        records.checked({"name": "a", "size": None}, Toy)


def test_answer_is_the_last_line_of_a_process() -> None:
    said = f"warning: noise\n{RIGHT.decode()}\n"
    assert records.last_of(said, Toy).name == "a"
    for other in ("", "\n", said + "bye\n"):
        with pytest.raises(NotARecordError):
            records.last_of(other, Toy)
