from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from blackwheel.core.console import Console, Quiet
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.progress import fitting, seconds_left
from blackwheel.core.units import counted, duration, size

ERROR = BlackwheelError("stale-patch", "0002 does not apply", where="series", fix="refresh")
PRELUDE = """
import os, sys, time
from blackwheel.core.console import Console
from blackwheel.core.errors import BlackwheelError
console = Console(environment=os.environ)
"""


class Clock:
    """The one fake: time moves when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def on_terminal(
    script: str, *, columns: int = 100, answer: str = "", out: bool = True, **variables: str
) -> tuple[str, str, int]:
    """What a script writes to a real terminal and to a pipe for stdout, and its exit code."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    seen: list[bytes] = []

    def read() -> None:
        while True:
            try:
                data = os.read(master, 4096)
            except OSError:  # the terminal's last writer left
                return
            seen.append(data)

    child = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script],
        stdin=slave,
        stderr=slave,
        stdout=slave if out else subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", **variables},
        cwd=Path(__file__).parents[2],
    )
    os.close(slave)
    reader = threading.Thread(target=read)
    reader.start()
    os.write(master, answer.encode())
    piped, _ = child.communicate(timeout=60)
    reader.join()
    os.close(master)
    text = b"".join(seen).decode().replace("\r\n", "\n")
    return text, (piped or b"").decode(), child.returncode


def without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


BUILD = """
with console.stage("flash-attn", "compile") as stage:
    for done in range(12, 15):
        stage.update(done, 73, "4 jobs, 9.1 GiB [bold]")
        time.sleep(0.4)
    console.say("flash-attn: [red] a line")
    stage.conclude("73 objects")
"""


# Words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (491, "8 min 11 s"),
        (3599.6, "1 h 00 min"),
        (5100, "1 h 25 min"),
    ],
)
def test_duration_is_as_exact_as_a_person_needs(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1638, "1.6 KiB"),
        (183 << 20, "183 MiB"),
        (14 << 30, "14 GiB"),
        (5000 << 30, "5000 GiB"),
    ],
)
def test_size_has_a_binary_unit(count: int, text: str) -> None:
    assert size(count) == text


def test_time_left_follows_the_pace_of_this_run_not_of_what_was_done_before() -> None:
    assert seconds_left(done=50, total=73, began_at=40, elapsed=100) == 230
    assert seconds_left(done=40, total=73, began_at=40, elapsed=100) is None
    assert seconds_left(done=3, total=0, began_at=0, elapsed=100) is None


def test_parts_that_do_not_fit_are_left_out_from_the_end() -> None:
    assert fitting(["12/73", "", "16 %", "42 s left"], 11) == "12/73  16 %"
    assert fitting(["12/73", "16 %", "42 s left"], 10) == "12/73"
    assert fitting(["12/73"], 4) == ""


def test_names_of_files_are_cut_and_not_left_out() -> None:
    parts = ["0/5", "fwd_hdim128_bf16.cu 12 s, fwd_hdim64_bf16.cu 9 s"]
    assert fitting(parts, 30) == "0/5  fwd_hdim128_bf16.cu 12 s…"
    assert fitting(parts, 31) == "0/5  fwd_hdim128_bf16.cu 12 s…"
    assert fitting(parts, 13) == "0/5"
    assert fitting(parts, 60) == "  ".join(parts)


# Pipes


def test_stage_on_a_pipe_says_start_tenths_and_end(clock: Clock) -> None:
    console = Quiet(clock=clock)
    with console.stage("flash-attn", "compile") as stage:
        for done in range(74):
            clock.now += 1
            stage.update(done, 73, "4 jobs")
        stage.conclude("73 objects")
    assert console.lines[:3] == [
        "flash-attn: compile",
        "flash-attn: compile: 8/73, 10 %, 1 min 13 s left, 4 jobs",
        "flash-attn: compile: 15/73, 20 %, 1 min 02 s left, 4 jobs",
    ]
    assert console.lines[-1] == "flash-attn: compile: done in 1 min 14 s, 73 objects"
    assert len(console.lines) == 11


def test_slow_stage_on_a_pipe_speaks_every_minute(clock: Clock) -> None:
    console = Quiet(clock=clock)
    with console.stage("vllm", "compile") as stage:
        for _ in range(190):
            clock.now += 1
            stage.update(1, 700)
    assert len(console.lines) == 2 + 3


def test_fast_stage_on_a_pipe_says_start_and_end_alone(clock: Clock) -> None:
    console = Quiet(clock=clock)
    with console.stage("torch", "download") as stage:
        for done in range(8250):
            clock.now += 0.0005
            stage.update(done, 8249, "KiB")
    assert console.lines == ["torch: download", "torch: download: done in 4.1 s"]


def test_bytes_are_told_in_their_unit(clock: Clock) -> None:
    console = Quiet(clock=clock)
    with console.stage("torch", "download") as stage:
        stage.update(0, 8249, "KiB, torch.whl")
        clock.now += 10
        stage.update(831, 8249, "KiB, torch.whl")
    assert console.lines[1] == (
        "torch: download: 831 KiB of 8.1 MiB, 10 %, 1 min 29 s left, torch.whl"
    )


# GitHub Actions


def test_stages_are_groups_and_the_summary_has_what_took_time(clock: Clock, tmp_path: Path) -> None:
    said, file = io.StringIO(), tmp_path / "summary.md"
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(file)}
    console = Console(environment=environment, err=said, out=io.StringIO(), clock=clock)
    with console.stage("vllm", "compile <x>"):
        with console.stage("flash-attn", "compile"):
            clock.now += 1
        console.say("still there")
        clock.now += 100
    with pytest.raises(BlackwheelError), console.stage("vllm", "smoke"):
        raise ERROR
    console.table("", ("wheel", "state"), [("a|b.whl", "new")])
    console.summary("wheel  a.whl")
    console.error(ERROR)
    assert said.getvalue().splitlines()[:-4] == [
        "::group::vllm: compile <x>",
        "vllm: compile <x>",
        "flash-attn: compile",
        "flash-attn: compile: done in 1.0 s",
        "still there",
        "::endgroup::",
        "vllm: compile <x>: done in 1 min 41 s",
        "::group::vllm: smoke",
        "vllm: smoke",
        "::endgroup::",
        "vllm: smoke: failed after 0.0 s",
    ]
    assert file.read_text(encoding="utf-8") == (
        "- \N{WHITE HEAVY CHECK MARK} vllm: compile \\<x\\>: done in 1 min 41 s\n"
        "- \N{CROSS MARK} vllm: smoke: failed after 0.0 s\n"
        "\n| wheel | state |\n| --- | --- |\n| a\\|b.whl | new |\n\n"
        "\n```text\nwheel  a.whl\n```\n\n"
        "\n```text\nerror: stale-patch\n  0002 does not apply\n"
        "  where: series\n  fix:   refresh\n```\n\n"
    )


def test_no_group_elsewhere_and_a_summary_that_cannot_be_written_stops_nothing(
    clock: Clock, tmp_path: Path
) -> None:
    for environment in ({"CI": "true"}, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "/"}):
        said = io.StringIO()
        console = Console(environment=environment, err=said, out=io.StringIO(), clock=clock)
        with console.stage("vllm", "compile"):
            clock.now += 9
        assert ("::group::" in said.getvalue()) == ("GITHUB_ACTIONS" in environment)


def test_known_time_left_goes_before_the_pace(clock: Clock) -> None:
    console = Quiet(clock=clock)
    with console.stage("vllm", "compile") as stage:
        stage.update(0, 10)
        clock.now = 5
        stage.update(1, 10, left=600)
    assert console.lines[1] == "vllm: compile: 1/10, 10 %, 10 min 00 s left"


def test_stage_without_a_total_says_start_and_end(clock: Clock) -> None:
    console = Quiet(clock=clock)
    with console.stage("vllm", "fetch") as stage:
        stage.update(0, 0, "1.6 KiB")
        clock.now = 2
    assert console.lines == ["vllm: fetch", "vllm: fetch: done in 2.0 s"]


@pytest.mark.parametrize(
    ("exception", "verb"), [(ERROR, "failed"), (KeyboardInterrupt(), "stopped")]
)
def test_stage_that_breaks_off_says_how_far_it_came(
    clock: Clock, exception: BaseException, verb: str
) -> None:
    console = Quiet(clock=clock)
    with pytest.raises(type(exception)), console.stage("vllm", "compile") as stage:
        stage.update(1, 10)
        clock.now = 12
        raise exception
    assert console.lines[-1] == f"vllm: compile: {verb} after 12 s, at 1/10"


def test_results_go_to_stdout_and_progress_to_stderr(tmp_path: Path) -> None:
    console = Quiet()
    console.say("vllm: fetch")
    console.error(ERROR)
    console.result("done")
    console.json({"path": tmp_path, "word": "größer"})
    assert console.lines == ["vllm: fetch", *str(ERROR).splitlines()]
    head, _, document = console.results.partition("\n")
    assert head == "done"
    assert json.loads(document) == {"path": str(tmp_path), "word": "größer"}
    assert "größer" in document


def test_table_on_a_pipe_is_plain_and_as_wide_as_it_must_be() -> None:
    console = Quiet()
    console.table("Wheels", ("project", "file"), [("[red]vllm", "x" * 300), ("flash-attn", "")])
    assert console.results.splitlines() == [
        "Wheels",
        "project     file",
        "[red]vllm   " + "x" * 300,
        "flash-attn",
    ]


def test_nobody_at_a_pipe_says_yes() -> None:
    assert Quiet().ask("delete?") is False


def test_reader_that_left_is_no_fault() -> None:
    script = PRELUDE + "for _ in range(20000): console.result('x' * 100)\nconsole.say('end')"
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None and child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == b"end\n"
    assert child.wait() == 0


def test_terminal_of_another_encoding_gets_what_it_can_show(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as sink:
        Console(environment={}, out=sink, err=sink).say("größer ━")
    assert (tmp_path / "out").read_bytes() == b"gr??er ?\n"


def imported(script: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script + "\nprint('rich' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return done.stdout.endswith("True\n")


def test_run_without_bar_or_table_does_not_import_rich() -> None:
    assert not imported(BUILD.replace("0.4", "0") + "console.result('nothing changed')")
    assert imported("console.table('', ('a',), [('b',)])")


# Terminals


def test_terminal_shows_a_bar_between_the_first_and_the_last_line() -> None:
    text, _, code = on_terminal(BUILD)
    assert code == 0
    lines = without_codes(text).replace("\r", "\n").splitlines()
    assert "flash-attn: compile" not in lines, "the bar says it"
    bar = r"flash-attn [━╸╺]+ 1[34]/73  1[79] %  .* left  .* s  4 jobs, 9\.1 GiB \[bold\]"
    assert any(re.fullmatch(bar, line) for line in lines), lines
    assert "flash-attn: [red] a line" in lines
    assert re.fullmatch(r"✓ flash-attn: compile: done in .*, 73 objects", lines[-1])
    assert "\x1b[?25l" not in text.rpartition("\x1b[?25h")[2], "the cursor stays hidden"


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_bar_takes_one_line_of_a_narrow_terminal(columns: int) -> None:
    text, _, code = on_terminal(BUILD, columns=columns)
    assert code == 0
    bars = [
        line
        for line in without_codes(text).replace("\r", "\n").splitlines()
        if "━" in line or "╺" in line
    ]
    assert bars
    assert [line for line in bars if len(line) > columns] == []
    assert [
        line for line in bars if "…" in line and not re.search(r" s  4 jobs, 9.*…$", line)
    ] == []
    assert columns < 40 or all(re.search(r" 1[234]/73( |$)", line) for line in bars)


def test_cursor_is_never_left_hidden_by_a_kill() -> None:
    text, _, code = on_terminal(
        'with console.stage("vllm", "compile"):\n    time.sleep(0.5)\n    os.kill(os.getpid(), 9)'
    )
    assert code == -9
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


def test_two_stages_at_once_show_two_bars() -> None:
    text, _, _ = on_terminal(
        'with console.stage("flash-attn", "fetch") as a, console.stage("vllm", "fetch") as b:\n'
        "    a.update(1, 4); b.update(3, 4); time.sleep(0.6)\n"
        'with console.stage("flash-attn", "fetch") as a:\n'
        '    with console.stage("vllm", "fetch"): pass\n'
        "    a.update(2, 4); time.sleep(0.6)"
    )
    plain = without_codes(text)
    assert "flash-attn" in plain.rpartition(" 2/4")[0].splitlines()[-1]
    assert re.search(r"flash-attn ━.* 1/4 .*\n.*vllm ━.* 3/4 ", plain)


def test_error_is_coloured_on_a_terminal_only_and_not_with_no_color() -> None:
    script = 'console.error(BlackwheelError("stale-patch", "fact"))'
    assert on_terminal(script)[0] == "\x1b[1;31merror:\x1b[0m\x1b[1m stale-patch\x1b[0m\n  fact\n"
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert on_terminal(script, **variables)[0] == "error: stale-patch\n  fact\n"


def test_force_color_colours_a_pipe_and_no_color_goes_before_it() -> None:
    for environment, coloured in (({"FORCE_COLOR": "1"}, True), ({}, False)):
        for more, kept in (({}, coloured), ({"NO_COLOR": "1"}, False)):
            said = io.StringIO()
            Console(environment={**environment, **more}, err=said).error(ERROR)
            assert ("\x1b[" in said.getvalue()) == kept


def test_mark_of_a_step_above_a_bar_is_coloured_too() -> None:
    script = (
        'with console.stage("vllm", "build"):\n  console.step("vllm: fetch: done in 1 s", "done")'
    )
    said = on_terminal(script)[0]
    assert re.search("\x1b\\[[0-9;]*32m\N{CHECK MARK}\x1b\\[0m vllm: fetch: done in 1 s", said)
    plain = on_terminal(script, NO_COLOR="1")[0]
    assert "\N{CHECK MARK} vllm: fetch: done in 1 s" in plain
    assert "32m" not in plain


def test_no_color_keeps_the_bar_and_drops_its_colours() -> None:
    text = on_terminal(BUILD, NO_COLOR="1")[0]
    assert "━" in text
    assert re.findall(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", text) == []
    assert re.findall(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", on_terminal(BUILD)[0]) != []


def test_dumb_terminal_gets_plain_lines() -> None:
    script = "from blackwheel.core import progress\nprogress.LEAST_SECONDS = 0\n"
    script += 'with console.stage("vllm", "compile") as s:\n  for n in range(3): s.update(n, 3)'
    lines = on_terminal(script, TERM="dumb")[0].splitlines()
    assert lines[0] == "vllm: compile"
    assert lines[1].startswith("vllm: compile: 1/3, 33 %, ")
    assert len(lines) == 4


TABLE = 'console.table("Wheels", ("project", "file"), [("vllm", "w" * 50), ("flash-attn", "")])'


def test_table_that_fits_a_terminal_is_a_table() -> None:
    text = without_codes(on_terminal(TABLE)[0])
    assert [line.rstrip() for line in text.splitlines()] == [
        "Wheels",
        "project     file",
        "vllm        " + "w" * 50,
        "flash-attn",
    ]


def test_table_too_wide_for_a_terminal_becomes_blocks() -> None:
    assert on_terminal(TABLE, columns=40)[0].splitlines() == [
        "Wheels",
        "",
        "project: vllm",
        "file: " + "w" * 50,
        "",
        "project: flash-attn",
    ]


def test_indented_name_is_not_cut_by_what_it_is_indented_by() -> None:
    row = f'("  {"n" * 20}", "words that may break")'
    text = on_terminal(f'console.table("", ("a", "b"), [{row}])', columns=36)[0]
    assert f"  {'n' * 20}" in text and "…" not in text


def test_sentences_break_between_words_on_a_terminal_and_nowhere_on_a_pipe() -> None:
    script = 'console.prose("one two three four five six seven\\n\\na-long-word-that-stays")'
    lines = on_terminal(script, columns=20)[0].splitlines()
    assert lines == ["one two three four", "  five six seven", "", "a-long-word-that-stays"]
    assert on_terminal(script, columns=20, out=False)[1].splitlines()[0].endswith(" six seven")


def test_table_that_does_not_fit_is_what_its_command_makes_of_it() -> None:
    more = 'console.table("", ("a", "b"), [("x" * 30, "y" * 30)], narrow=lambda w: [f"{w} wide"])'
    assert on_terminal(more, columns=40)[0].splitlines() == ["40 wide"]
    assert on_terminal(more, out=False)[1].splitlines()[1].split() == ["x" * 30, "y" * 30]


def test_result_can_be_piped_while_the_bar_stays() -> None:
    text, piped, _ = on_terminal(BUILD + 'console.result("wheel")', out=False)
    assert piped == "wheel\n"
    assert "━" in text


@pytest.mark.parametrize(
    ("answer", "meant"),
    [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("\x04", False)],
)
def test_only_yes_is_yes(answer: str, meant: bool) -> None:
    text, piped, _ = on_terminal(
        'console.result(str(console.ask("delete?")))', answer=answer, out=False
    )
    assert piped == f"{meant}\n"
    assert "delete? [y/N] " in text


def test_a_name_from_elsewhere_moves_no_cursor() -> None:
    console = Quiet()
    evil = "lib\x1b[2J\x1b]0;owned\x07\r\u202e.so"
    console.say(evil)
    console.result(evil)
    console.table("", ["library"], [[evil]])
    console.error(BlackwheelError("x", evil, where=evil))
    told = "\n".join(console.lines) + console.results
    assert not set("\x1b\x07\r\u202e") & set(told)
    assert told.count("\\u001b[2J") == 5  # say, result, table, and an error's fact and place


def test_cells_break_between_words_before_a_table_becomes_blocks() -> None:
    script = 'console.table("", ("stack", "builds"), [("stable", "flash-attn 2.8, vllm 0.28")])'
    lines = on_terminal(
        f"sys.stdout = sys.stderr\nconsole = Console(environment=os.environ)\n{script}", columns=30
    )[0]
    shown = [line.rstrip() for line in without_codes(lines).splitlines()]
    assert shown == ["stack   builds", "stable  flash-attn 2.8, vllm", "        0.28"]


def test_things_are_counted_in_english() -> None:
    assert [counted(n, "wheel") for n in (0, 1, 2)] == ["0 wheels", "1 wheel", "2 wheels"]
    assert [counted(n, "patch", "patches") for n in (1, 2)] == ["1 patch", "2 patches"]
