"""Prints one row per stack, Python and project for a CI engine (`invoke plan --matrix`)."""

from __future__ import annotations

from blackwheel.core.site import Site
from blackwheel.stacks import loader


def rows(site: Site, only: str = "") -> list[dict[str, str]]:
    """Return a row of strings for each possible build: engines pass them on as variables."""
    found = []
    for name in [only] if only else loader.names(site.constraints):
        stack = loader.load(name, site.constraints)
        for python in stack.python:
            for project in stack.build:
                words = f"--stack {name} --python {python} --only {project}"
                found.append(
                    {
                        "stack": name,
                        "python": python,
                        "project": project,
                        "command": f"invoke build-wheels {words}",
                    }
                )
    return found


def show_matrix(site: Site, only: str, *, as_json: bool) -> None:
    """Print the rows: a table, or with `as_json` one document that `fromJSON` takes."""
    found = rows(site, only)
    if as_json:
        site.console.json({"include": found})
        return
    columns = ("stack", "python", "project", "command")
    site.console.table("", columns, [[row[name] for name in columns] for row in found])
