"""A program that is fed what strangers wrote ends: in time, in memory, and on the disk."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from blackwheel.core import process
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import Limits, capture_into

LIMITS = Limits(seconds=1, memory=512 << 20, output=1 << 20)


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("print('said')", 0),
        ("while True: pass", 128 + 9),
        ("import time; time.sleep(60)", 128 + 15),
        ("import sys\nwhile True: sys.stdout.write('x' * 65536)", None),
        ("x = bytearray(1 << 30)", 1),
    ],
)
def test_program_is_held_to_its_limits(program: str, code: int | None) -> None:
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        done = capture_into(
            output.fileno(),
            [sys.executable, "-I", "-S", "-c", program],
            environment={"PATH": "/usr/bin:/bin"},
            cwd=Path("/"),
            limits=LIMITS,
        )
        size = output.seek(0, 2)
    assert done.code == code if code is not None else done.code != 0
    assert size <= LIMITS.output
    assert (size > 0) == (program.startswith(("print", "import sys")))
    assert time.monotonic() - began < 30


def test_program_that_somebody_kills_is_no_defect_of_ours(tmp_path: Path) -> None:
    with pytest.raises(BlackwheelError) as raised:
        process.capture(["sh", "-c", "kill -TERM $$"], environment=dict(os.environ), cwd=tmp_path)
    assert str(raised.value) == (
        "error: program-killed\n"
        "  sh -c kill -TERM $$\n"
        "  ended with signal 15\n"
        f"  where: in {tmp_path}\n"
        "  fix:   the same command again; a kill for want of memory is in the kernel's log"
    )
    assert raised.value.code == Exit.MACHINE
