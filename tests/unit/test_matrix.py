from __future__ import annotations

from pathlib import Path

from blackwheel import matrix, site, stacks


def test_matrix_has_one_row_for_each_stack_python_and_project(tmp_path: Path) -> None:
    here = site.here({"BLACKWHEEL_HOME": str(tmp_path)})
    wanted = {
        (name, python, project)
        for name in stacks.names(here.constraints)
        for python in stacks.load(name, here.constraints).python
        for project in stacks.load(name, here.constraints).build
    }
    rows = matrix.rows(here)
    assert len(rows) == len(wanted)
    assert {(row["stack"], row["python"], row["project"]) for row in rows} == wanted
    assert matrix.rows(here, "quickstart")[0]["command"] == (
        "invoke build-wheels --stack quickstart --python 3.11 --only flash-attn"
    )
