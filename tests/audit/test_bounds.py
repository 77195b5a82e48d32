"""An audit ends: in time, in memory, without a file left behind, and never in a traceback."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from elfwright import cubin, elf, entry, fat_binary
from wheelwright import ARCHS, INFO, NAME, SO, TOY, held_files, make_wheel, native, record_row

from blackwheel.audit.audit import inspect
from blackwheel.audit.contents import Reading
from blackwheel.audit.cuobjdump import Patience
from blackwheel.audit.dist_info import info_findings
from blackwheel.audit.wheel import unpack
from blackwheel.core.errors import BlackwheelError, Exit

MIB = 1 << 20
PROGRAM = """
import re, resource, sys
from pathlib import Path
from blackwheel.audit.audit import inspect
from blackwheel.core.archs import parse_list
report = inspect(Path(sys.argv[1]), archs=parse_list("12.0a"))
own = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) // 1024)
print(len(report.findings))
"""


def measured(wheel: Path) -> tuple[int, int, float]:
    """Audit in a process of its own: MiB, findings, seconds."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, wheel], check=True, capture_output=True, text=True
    )
    memory, findings = map(int, done.stdout.split())
    return memory, findings, time.monotonic() - began


def many(count: int, body: bytes = b"x = 1\n") -> dict[str, bytes]:
    return {f"toy/m{number}.py": body for number in range(count)}


@pytest.mark.parametrize(
    "files",
    [
        many(20_000),
        {f"toy/{n}.cubin": cubin("k", arch=90) for n in range(3_000)},
        {"toy/_x.so": elf(rodata=fat_binary(*[entry(cubin("k", arch=90))] * 3_000))},
        {"toy/_x.so": elf(exports=[f"symbol_{n}" for n in range(200_000)])},
        {f"{INFO}/licenses/{n}": b"" for n in range(5_000)},
    ],
    ids=["files", "cubins", "entries", "symbols", "licenses"],
)
def test_large_wheels_take_neither_memory_nor_time(tmp_path: Path, files: dict[str, bytes]) -> None:
    memory, _, seconds = measured(make_wheel(tmp_path, files))
    assert memory < 200
    assert seconds < 120  # with other work on the machine; 500 calls of cuobjdump at most


def test_large_library_takes_no_memory(tmp_path: Path) -> None:
    noise = bytes(range(256)) * 4096
    wheel = make_wheel(tmp_path, {"toy/_x.so": elf(rodata=noise * 100)})  # 100 MiB
    memory, _, _ = measured(wheel)
    assert memory < 120


def test_record_of_many_lines_is_read_in_time(tmp_path: Path) -> None:
    row = record_row("toy/gone.py", b"")
    rows = "".join(row.replace("gone", f"gone{n}") for n in range(100_000))
    memory, findings, seconds = measured(make_wheel(tmp_path, record=lambda text: text + rows))
    assert memory < 200
    assert findings < 200
    assert seconds < 60


@pytest.mark.parametrize(
    "text",
    [
        '"' * 1_000_000,
        "," * 1_000_000,
        "a,sha256=x," + "9" * 5_000 + "\n",
        "a,sha256=x,-1\n",
        "a,sha256=x,٦٧\n",
        "a,sha256=x,1_0\n",
        "a,=,\n",
        "a,sha256,1\n",
        '"a\nb,sha256=x,1\n',
        "a\0b,,\n",
        "x" * 200_000 + ",,\n",
    ],
)
def test_record_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    wheel = make_wheel(tmp_path, {SO: native()}, record=lambda right: right + text)
    report = inspect(wheel, archs=ARCHS, expected=TOY)
    known = {"bad-record", "missing-file", "unreadable-text", "no-record"}
    assert {one.name for one in report.fatal} <= known
    assert report.fatal


def test_many_libraries_are_not_read_for_ever(tmp_path: Path) -> None:
    """Each is a call of cuobjdump; what lies there as it is, is read without one."""
    squeezed = entry(cubin("k", arch=90), arch=90, flags=0x2011)
    files = {f"toy/_{n}.so": native() for n in range(4)}
    files |= {f"toy/_x{n}.so": elf(rodata=fat_binary(squeezed)) for n in range(4)}
    reading = Reading(archs=ARCHS, patience=Patience(calls=2))
    wheel = unpack(make_wheel(tmp_path, files), reading)
    told = {one.path: one.unreadable for one in wheel.libraries}
    assert [told[f"toy/_{n}.so"] for n in range(4)] == [""] * 4
    assert "reading on would take for ever" in told["toy/_x3.so"]


@pytest.mark.parametrize("name", ["METADATA", "WHEEL", "RECORD", "entry_points.txt"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xff\xfe",
        b"\x7fELF",
        b":" * 10_000,
        b"[" * 10_000,
        b"=\n" * 1_000,
        b"\n\n\n",
        "\u2028\x85".encode() * 100,
        b"a: b\r\r\n" * 100,
        b"Tag: \nRoot-Is-Purelib\n",
    ],
)
def test_text_of_the_dist_info_folder_that_is_none_is_named(
    tmp_path: Path, name: str, data: bytes
) -> None:
    wheel = make_wheel(tmp_path / "right", {SO: native()})
    held = held_files(wheel) | {f"{INFO}/{name}": data}
    with zipfile.ZipFile(tmp_path / NAME, "w") as archive:
        for path, body in held.items():
            archive.writestr(path, body)
    report = inspect(tmp_path / NAME, archs=ARCHS, expected=TOY)
    assert report.fatal or (name == "entry_points.txt" and not data.strip())


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("wait", [0.4, 1.0])
def test_killed_audit_leaves_nothing_behind(tmp_path: Path, wait: float) -> None:
    """At any moment: while it unpacks, and while cuobjdump reads."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    noise = os.urandom(MIB) * 12
    code = fat_binary(*[entry(cubin("k", arch=90))] * 3_000)
    wheel = make_wheel(tmp_path, {"toy/_x.so": elf(rodata=noise + code), "toy/data.bin": noise})
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, wheel],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
    )
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert leftovers(temporary) == []


def test_audit_leaves_nothing_behind_and_no_file_open(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    wheel = make_wheel(tmp_path, {SO: native(), "toy/x.bin": bytes(range(256))})
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(temporary))
        inspect(wheel, archs=ARCHS, expected=TOY)
        patch.undo()
    assert leftovers(temporary) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_folder_without_room_is_a_named_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(tmp_path, {"toy/x.bin": bytes(range(256)) * 40_000})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    try:
        with pytest.raises(BlackwheelError) as caught:
            inspect(wheel, archs=ARCHS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.name, caught.value.code) == ("no-room", Exit.MACHINE)
    assert caught.value.fix == "TMPDIR=/a/folder/with/room, and the same command again"


@pytest.mark.parametrize("line", ["x\n", "a = b\n", " \n", "x" * 50 + "\n"])
def test_entry_points_without_an_end_are_not_read(line: str) -> None:
    """configparser copies all bad lines for each one more: a megabyte of them took minutes."""
    text = b"[console_scripts]\n" + line.encode() * 100_000
    began = time.process_time()
    found = list(info_findings({"entry_points.txt": text}, [], ["toy"]))
    assert time.process_time() - began < 2
    assert [one.name for one in found] == ["bad-entry-points"]
    assert found[0].fact == "is longer than 64 KiB or 2,000 lines"
