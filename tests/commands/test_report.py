from __future__ import annotations

from pathlib import Path

import pytest

from blackwheel.commands import report
from blackwheel.core import site
from blackwheel.core.errors import BlackwheelError


def test_report_of_a_stack_that_was_never_built_says_how_to_build_it(tmp_path: Path) -> None:
    here = site.here({"BLACKWHEEL_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    with pytest.raises(BlackwheelError) as caught:
        report.show_report(here, "quickstart", project="", python="3.11", out="")
    assert str(caught.value) == (
        "error: no-records\n"
        "  nothing of quickstart was compiled here for Python 3.11\n"
        f"  where: {tmp_path}/builds/quickstart\n"
        "  fix:   invoke build-wheels --stack quickstart"
    )


def test_report_of_another_python_names_the_one_that_was_built(tmp_path: Path) -> None:
    here = site.here({"BLACKWHEEL_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    (tmp_path / "builds/quickstart/flash-attn/cp312").mkdir(parents=True)
    with pytest.raises(BlackwheelError) as caught:
        report.show_report(here, "quickstart", project="", python="3.11", out="")
    assert str(caught.value).endswith("\n  fix:   invoke report --stack quickstart --python 3.12")
