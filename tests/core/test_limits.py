"""A program that is fed what strangers wrote ends: in time, in memory, and on the disk."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import pytest

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
