"""Logs of real compilers, with a header of torch that moved."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from blackwheel.builder import compile_fault
from blackwheel.builder.compile_fault import first_fault


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
