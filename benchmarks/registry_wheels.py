"""Audits the wheels of registry-wheels.toml one after another: downloads, reads, deletes.

    python benchmarks/registry_wheels.py OUT.jsonl         # all that OUT does not have yet
    python benchmarks/registry_wheels.py OUT.jsonl torch   # of these projects
    python benchmarks/registry_wheels.py --table OUT.jsonl # for docs/registry-wheels.md

A wheel whose sha256 the file does not name yet is read all the same; the line tells it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from blackwheel.audit import audit, environments
from blackwheel.audit.verdict import closing
from blackwheel.core import archs
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site, here
from blackwheel.core.units import size
from blackwheel.sources import package_index

WANTED = archs.parse_list("12.0a")
FILE = Path(__file__).with_name("registry-wheels.toml")


def seen(site: Site, one: dict[str, str]) -> dict[str, Any]:
    """Download one wheel, audit it, delete it; return what it came to."""
    line: dict[str, Any] = {"name": one["name"], "version": one["version"]}
    try:
        path = package_index.wheel_of(one["name"], Version(one["version"]), site=site)
    except BlackwheelError as error:
        return {**line, "error": f"{error.name}: {error.fact}"}
    try:
        began, cpu = time.monotonic(), _cpu()
        report = audit.inspect(path, archs=WANTED)
        line |= {"seconds": time.monotonic() - began, "cpu": _cpu() - cpu}
        if one.get("sha256") not in (None, report.sha256):
            return {**line, "error": f"sha256 is {report.sha256}, the file names {one['sha256']}"}
        requires = environments.requirements(path)
        count = [library.kernels for library in report.libraries]
        return {
            **line,
            "file": path.name,
            "sha256": report.sha256,
            "size": report.size,
            "libraries": len(report.libraries),
            "kernels": sum(each.total for each in count),
            **{
                kind: sum(getattr(each, kind) for each in count)
                for kind in ("native", "family", "ptx", "missing")
            },
            "unread": [one.path for one in report.libraries if one.unreadable],
            "fatal": [str(finding) for finding in report.fatal],
            "notes": [str(finding) for finding in report.findings if not finding.fatal],
            "files": dict(report.files),
            "closing": closing(report, WANTED, requires, buildable=False),
        }
    finally:
        path.unlink()


def _cpu() -> float:
    taken = os.times()
    return taken.user + taken.system + taken.children_user + taken.children_system


def table(lines: list[dict[str, Any]]) -> str:
    """Return the table of the page."""
    head = "| wheel | size | files with code | kernels | natively | family | PTX | not at all |"
    head += " notes | CPU |\n|---|---|---|---|---|---|---|---|---|---|"
    rows = [head]
    for one in sorted(lines, key=lambda line: (canonicalize_name(line["name"]), line["version"])):
        names = sorted({note.split(":")[0] for note in one["notes"]} - {"constructors"})
        fatal = ["**FATAL** " + text.split(":")[0] for text in one["fatal"]]
        cells = [
            f"{one['name']} {one['version']}",
            size(one["size"]),
            f"{one['libraries']:,}",
            *(f"{one[kind]:,}" for kind in ("kernels", "native", "family", "ptx", "missing")),
            ", ".join([*fatal, *names]) or "none",
            f"{one['cpu']:.0f} s",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main(words: list[str]) -> int:
    """Read the wheels that are asked for; one that is FATAL makes the exit code 8."""
    as_table = words[0] == "--table"
    out = Path(words[-1] if as_table else words[0])
    known = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    if as_table:
        print(table([line for line in known if "error" not in line]))  # noqa: T201
        return 0
    done = {(line["name"], line["version"]) for line in known}
    site, only = here(), set(words[1:])
    for one in tomllib.loads(FILE.read_text(encoding="utf-8"))["wheel"]:
        if (one["name"], one["version"]) in done or (only and one["name"] not in only):
            continue
        line = seen(site, one)
        with out.open("a", encoding="utf-8") as sink:
            sink.write(json.dumps(line) + "\n")
        site.console.say(f"{one['name']} {one['version']}: {line.get('error') or line['closing']}")
        known.append(line)
    return 8 if any(line.get("fatal") for line in known) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
