"""Logs of real compilers, with a header of torch that moved."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from blackwheel.builder import build, compile_fault
from blackwheel.builder.compile_fault import first_fault
from blackwheel.builder.plan import BuildPlan
from blackwheel.core.errors import BlackwheelError, Exit


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "build.log"


def compiled(tmp_path: Path, header: str, source: str) -> str:
    """The words of a real g++ about a source that reads a header of a toy torch."""
    place = tmp_path / "packages" / "torch" / "include" / "c10" / "toy.h"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(header, encoding="utf-8")
    between = place.with_name("between.h")
    between.write_text("#pragma once\n#include <c10/toy.h>\n", encoding="utf-8")
    (tmp_path / "one.cpp").write_text(source, encoding="utf-8")
    include = f"-I{place.parents[1]}"
    argv = ["g++", include, "-c", "one.cpp", "-o", "one.o"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode
    return f"[1/3] c++ two.o\nFAILED: [code=1] /src/build/one.o \n{' '.join(argv)}\n{done.stderr}"


def test_error_inside_a_header_of_torch_names_that_header(tmp_path: Path, log: Path) -> None:
    text = compiled(tmp_path, "#error C++20 please\n", "#include <c10/between.h>\n")
    log.write_text(f"warm up\n{text}[2/3] c++ other.o\nninja: build stopped\n", encoding="utf-8")
    fault = first_fault(log)
    assert fault
    assert (fault.object, fault.header) == ("/src/build/one.o", "c10/toy.h")
    assert fault.place.endswith("/c10/toy.h:1") and "C++20 please" in fault.error


def test_error_in_the_source_names_what_is_missed(tmp_path: Path, log: Path) -> None:
    header = "namespace c10 { int devices(); }\n"
    source = "#include <c10/toy.h>\nint main() { return c10::device_count(); }\n"
    log.write_text(compiled(tmp_path, header, source), encoding="utf-8")
    fault = first_fault(log)
    assert fault
    assert (fault.place, fault.header) == ("one.cpp:2", "")
    assert "device_count" in fault.names


def test_nvcc_says_it_in_its_own_way(log: Path) -> None:
    log.write_text(
        "FAILED: [code=2] /src/build/flash.o\n/usr/bin/nvcc -c flash.cu\n"
        "/env/lib/python3.12/site-packages/torch/include/ATen/core/Tensor.h(41): error: identifier"
        ' "flip" is undefined\n\n1 error detected in the compilation of "flash.cu".\n',
        encoding="utf-8",
    )
    fault = first_fault(log)
    assert fault
    assert (fault.header, fault.names) == ("ATen/core/Tensor.h", ("flip",))


def test_logs_without_an_object_and_of_one_that_was_killed(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert first_fault(log) is None
    log.write_text("error: metadata-generation-failed\n", encoding="utf-8")
    assert first_fault(log) is None
    log.write_text("FAILED: [code=137] /src/one.o\ng++ -c one.cpp\nKilled\n", encoding="utf-8")
    fault = first_fault(log)
    assert fault and (fault.place, fault.error, fault.names) == ("", "Killed", ())
    monkeypatch.setattr(compile_fault, "MOST", 5)
    assert first_fault(log) is None, "the end of a log alone is read"


def test_words_of_the_next_object_are_not_those_of_the_failed_one(log: Path) -> None:
    killed = ["FAILED: [code=137] /src/one.o", "g++ -c one.cpp", "Killed"]
    later = ["[2/3] c++ two.o", "two.cpp:1: error: of another object", "FAILED: /src/two.o"]
    log.write_text("\n".join([*killed, *later]), encoding="utf-8")
    fault = first_fault(log)
    assert fault and (fault.object, fault.place, fault.error) == ("/src/one.o", "", "Killed")
    assert compile_fault.block(["[1/3] c++", *killed, *later]) == killed
    assert compile_fault.block(later[:2]) == []


REPORTED = {
    "nvcc": 'FAILED: [code=2] /src/a.o\nnvcc -c a.cu\na.cu(14): error: identifier "x" is undefined',
    "numbered": "FAILED: /src/a.o\nnvcc -c a.cu\na.cu(14): error #20: identifier is undefined",
    "ptxas": "FAILED: /src/a.o\nnvcc -c a.cu\nptxas fatal   : Unresolved extern function 'f'",
    "arch": "FAILED: /src/a.o\nnvcc\nnvcc fatal   : Unsupported gpu architecture 'compute_130'",
    "header": "FAILED: /src/a.o\ng++ -c a.cpp\na.cpp:1:10: fatal error: no.h: No such file",
    "linker": "FAILED: /src/_C.so\ng++ -shared\na.o: in function `f': undefined reference to `g()'",
    "cmake": "-- Found CUDA\nCMake Error at CMakeLists.txt:3 (message):\n  no such part",
    "python": "running build_ext\nModuleNotFoundError: No module named 'ninja'",
}
CRASHED = {
    "nvcc": "FAILED: /src/a.o\nnvcc -c a.cu\nnvcc error   : 'cicc' died due to signal 11",
    "g++": "FAILED: /src/a.o\ng++ -Werror -c a.cpp\na.cpp:1: internal compiler error: in f",
    "killed": "FAILED: /src/a.o\ng++\ng++: fatal error: Killed signal terminated program cc1plus",
    "ninja": "CalledProcessError: Command '['ninja']' died with <Signals.SIGKILL: 9>.",
    "silent": "FAILED: [code=1] /src/a.o\ng++ -Werror -Wno-error=all -L/a:/b -c a.cpp",
}


def failure(log: Path, words: str, code: int = 1) -> BlackwheelError:
    log.write_text(f"{words}\n", encoding="utf-8")
    request = SimpleNamespace(project="toy", pin=SimpleNamespace(version="1.0"))
    plan = cast("BuildPlan", SimpleNamespace(request=request))
    return build.failure(plan, log, code, noted=log.with_name("none"))


@pytest.mark.parametrize("words", REPORTED.values(), ids=REPORTED)
def test_what_a_compiler_reported_is_not_cured_by_the_same_command(log: Path, words: str) -> None:
    error = failure(log, words)
    assert (error.name, error.code) == ("build-failed", Exit.BUILD)
    assert error.fix == (
        "correct the patch or the flags named above, then the same command: nothing that compiled"
        " is lost"
    )


@pytest.mark.parametrize("words", CRASHED.values(), ids=CRASHED)
def test_what_crashed_is_tried_again(log: Path, words: str) -> None:
    error = failure(log, words)
    assert (error.name, error.code) == ("build-failed", Exit.BUILD)
    assert error.fix == (
        "run the same command again: it continues with the objects already compiled"
    )


def test_compiler_without_room_blames_the_disk_and_no_patch(log: Path) -> None:
    words = (
        "FAILED: /src/a.o\ng++ -c a.cpp\na.s: fatal error: error writing: No space left on device"
    )
    error = failure(log, words)
    assert (error.name, error.code, error.where) == ("disk-full", Exit.MACHINE, str(log.parent))
    assert error.fix == (
        "free space there, or export BLACKWHEEL_HOME=/a/larger/folder; then the same command:"
        " nothing that compiled is lost"
    )


def test_stopped_build_continues_whatever_its_log_says(log: Path) -> None:
    for words in (REPORTED["nvcc"], "a.s: No space left on device"):
        error = failure(log, words, code=143)
        assert (error.name, error.code) == ("build-stopped", Exit.STOPPED)
        assert error.fix.startswith("run the same command again")
