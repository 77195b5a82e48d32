"""Rows for a CI engine, and the workflow of docs/cluster.md that takes them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from blackwheel.commands import matrix
from blackwheel.core import site
from blackwheel.stacks import loader

ROOT = Path(__file__).parents[2]


def test_matrix_has_one_row_for_each_stack_python_and_project(tmp_path: Path) -> None:
    here = site.here({"BLACKWHEEL_HOME": str(tmp_path)})
    wanted = {
        (name, python, project)
        for name in loader.names(here.constraints)
        for python in loader.load(name, here.constraints).python
        for project in loader.load(name, here.constraints).build
    }
    rows = matrix.rows(here)
    assert len(rows) == len(wanted)
    assert {(row["stack"], row["python"], row["project"]) for row in rows} == wanted
    assert matrix.rows(here, "quickstart")[0]["command"] == (
        "invoke build-wheels --stack quickstart --python 3.11 --only flash-attn"
    )


def test_planning_step_of_the_documented_workflow_gives_what_its_other_job_asks_for(
    tmp_path: Path,
) -> None:
    text = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    workflow = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0]
    (step,) = re.findall(r"(?m)^ *run: (.* >> \"\$GITHUB_OUTPUT\")$", workflow)
    output = tmp_path / "output"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "GITHUB_OUTPUT": str(output)}
    subprocess.run(["bash", "-euc", step], cwd=ROOT, env=environment, check=True)
    name, _, value = output.read_text(encoding="utf-8").partition("=")
    assert f"${{{{ steps.plan.outputs.{name} }}}}" in workflow
    rows = json.loads(value)["include"]
    assert [row["python"] for row in rows] == ["3.11", "3.12", "3.13"]
    asked = set(re.findall(r"matrix\.(\w+)", workflow))
    assert asked == {"command", "python"}
    assert all(asked <= row.keys() for row in rows)
