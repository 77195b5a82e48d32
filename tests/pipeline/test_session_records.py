from __future__ import annotations

from pathlib import Path

import pytest

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.pipeline.session_records import (
    Ended,
    Made,
    Progress,
    Reader,
    Recorder,
    Said,
    StageBegan,
    StageEnded,
    append,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.jsonl").touch()
    return tmp_path / "a.jsonl"


def test_records_come_once_and_in_order_while_the_file_grows(path: Path) -> None:
    reader = Reader(path)
    assert reader.read() == []
    steps = [Progress(done=n, total=900, note="2 jobs", left=1.5) for n in range(900)]
    for step in steps:
        append(path, step)
    assert path.stat().st_size > 1 << 16, "more than is read at once"
    assert reader.read() == steps
    append(path, Made(wheel=Path("/a.whl")))
    append(path, Ended(code=7))
    assert reader.read() == [Made(wheel=Path("/a.whl")), Ended(code=7)]
    assert reader.read() == []


def test_line_is_read_when_it_is_whole(path: Path) -> None:
    reader = Reader(path)
    for text, read in (('{"record": "ended"', 0), (', "code": 3', 0), ("}\n{", 1)):
        with path.open("a", encoding="utf-8") as sink:
            sink.write(text)
        assert len(reader.read()) == read


@pytest.mark.parametrize(
    "line",
    [
        "compile: 3/4, 75 %",
        '{"record": "other"}',
        '{"done": 1}',
        '{"record": "ended", "code": "all"}',
        '{"record": "ended", "code": 1, "more": 2}',
        "\xff",
        "x" * 20_000,
    ],
)
def test_line_that_is_no_record_is_refused(path: Path, line: str) -> None:
    path.write_bytes(line.encode("latin-1") + b"\n" * (len(line) < 20_000))
    with pytest.raises(BlackwheelError, match="bad-session-record"):
        Reader(path).read()


def test_nobody_reads_a_file_that_is_not_there(tmp_path: Path) -> None:
    append(tmp_path / "none.jsonl", Ended(code=1))
    assert list(tmp_path.iterdir()) == []


def test_what_a_console_would_show_goes_to_the_records_and_results_do_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "records.jsonl"
    path.touch()
    console = Quiet()
    console.relay = Recorder(path)
    with console.stage("toy", "compile") as stage:
        stage.update(1, 3, "2 jobs", left=9.0)
        stage.conclude("3 objects")
    console.say("a line\nand another")
    console.error(BlackwheelError("no-room", "x" * 9000, where="w", fix="f", code=Exit.MACHINE))
    console.result("a result")
    assert (console.lines, console.results) == ([], "a result\n")
    began, moved, ended, one, two, name, fact, *_ = Reader(path).read()
    assert (began, moved) == (
        StageBegan(text="compile"),
        Progress(done=1, total=3, note="2 jobs", left=9.0),
    )
    assert isinstance(ended, StageEnded)
    assert (ended.verb, ended.line.startswith("toy: compile: done in ")) == ("done", True)
    assert [one, two, name] == [
        Said(line="a line"),
        Said(line="and another"),
        Said(line="error: no-room"),
    ]
    assert isinstance(fact, Said)
    assert len(fact.line) == 2000
