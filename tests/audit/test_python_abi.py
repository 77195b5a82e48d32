"""Which Python a module serves: by its name, by libpython, and by what it calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from elfwright import elf
from wheelwright import ARCHS, BARE, NAME, make_wheel, require, verdicts

from blackwheel.audit.audit import inspect

ABI3 = NAME.replace("cp312-cp312", "cp38-abi3")
ANY_PYTHON = replace(BARE, python="cp312")


@pytest.mark.parametrize("tag", ["cpython-310", "cpython-313", "cpython-312t", "cpython-312d"])
def test_module_of_another_python_is_named(tmp_path: Path, tag: str) -> None:
    path = f"toy/_x.{tag}-x86_64-linux-gnu.so"
    wheel = make_wheel(tmp_path, {path: elf(exports=["PyInit__x"])})
    require(wheel, "other-python-extension", "note", expected=BARE)


@pytest.mark.parametrize("path", ["toy/_x.cpython-312-x86_64-linux-gnu.so", "toy/_x.so"])
def test_module_of_this_python_is_no_finding(tmp_path: Path, path: str) -> None:
    wheel = make_wheel(tmp_path, {path: elf(exports=["PyInit__x"])})
    assert inspect(wheel, archs=ARCHS, expected=BARE).findings == ()


def test_abi3_wheel_may_hold_modules_of_several_pythons(tmp_path: Path) -> None:
    """One for each, as wheels of the registry do; a stack builds its own for one."""
    files = {f"toy/_x.cpython-3{n}-x86_64-linux-gnu.so": elf() for n in (10, 12)}
    wheel = make_wheel(tmp_path, files, name=ABI3)
    assert "other-python-extension" not in verdicts(wheel).noted
    assert "other-python-extension" in verdicts(wheel, BARE).own


@pytest.mark.parametrize(
    ("needed", "name", "foreign"),
    [
        ("libpython3.9.so.1.0", "other-libpython", "fatal"),
        ("libpython3.13.so.1.0", "other-libpython", "fatal"),
    ],
)
def test_library_of_another_python_is_refused(
    tmp_path: Path, needed: str, name: str, foreign: str
) -> None:
    wheel = make_wheel(tmp_path, {"toy/_x.so": elf(names=[("NEEDED", needed)])})
    require(wheel, name, foreign, expected=BARE)


def test_library_of_this_python_is_a_note(tmp_path: Path) -> None:
    data = elf(names=[("NEEDED", "libpython3.12.so.1.0")])
    report = inspect(make_wheel(tmp_path, {"toy/_x.so": data}), archs=ARCHS, expected=BARE)
    assert [(one.name, one.fatal) for one in report.findings] == [("libpython", False)]


@pytest.mark.parametrize(
    ("called", "name"),
    [
        (["PyObject_Call", "PyList_New"], ""),
        (["PyDict_GetItemRef"], "new-limited-api"),  # 3.13
        (["PyCode_New"], "not-limited-api"),
        (["_PyObject_GC_Malloc"], "not-limited-api"),
        (["PyEval_EvalFrameEx", "PyUnstable_Code_New"], "not-limited-api"),
    ],
)
def test_abi3_module_calls_the_limited_api_alone(
    tmp_path: Path, called: list[str], name: str
) -> None:
    files = {"toy/_x.abi3.so": elf(wanted=called)}
    wheel = make_wheel(tmp_path, files, name=ABI3)
    if name:
        require(wheel, name, "note", expected=ANY_PYTHON)
    else:
        assert inspect(wheel, archs=ARCHS, expected=ANY_PYTHON).findings == ()


def test_stacks_python_may_be_newer_than_the_tag(tmp_path: Path) -> None:
    """The wheel serves the Python that it is built for; the tag says more, which is a note."""
    files = {"toy/_x.abi3.so": elf(wanted=["PyBuffer_Release"])}  # 3.11
    report = inspect(make_wheel(tmp_path, files, name=ABI3), archs=ARCHS, expected=ANY_PYTHON)
    assert [(one.name, one.fatal) for one in report.findings] == [("new-limited-api", False)]
    assert report.findings[0].fact == (
        "is for Python 3.8 on, and calls what came later: PyBuffer_Release (3.11)"
    )


def test_module_that_is_not_named_abi3_calls_what_it_likes(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, {"toy/_x.so": elf(wanted=["PyCode_New"])})
    assert "not-limited-api" not in verdicts(wheel).noted
