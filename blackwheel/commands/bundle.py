"""Packs one archive for a bug report, without secrets and names (`invoke report --bundle`)."""

from __future__ import annotations

import gzip
import io
import platform
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from blackwheel import __version__
from blackwheel.builder import timeline
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.machine import read_machine
from blackwheel.core.process import capture_within
from blackwheel.core.redact import Redactor
from blackwheel.core.site import Site
from blackwheel.core.units import size
from blackwheel.doctor import for_building, for_serving
from blackwheel.doctor.check import Check
from blackwheel.shelf import index
from blackwheel.stacks import loader, records

LOG_LINES: Final = 400
"""The end of a build's log: what failed, and what it was doing."""
SMI: Final = (
    "nvidia-smi",
    "--query-gpu=index,name,driver_version,compute_cap,memory.total,memory.used,pstate",
    "--format=csv",
)
"""No serial numbers, no UUIDs, and not what else runs on the card."""
ABOUT: Final = """\
Written by `invoke report --bundle`. Read it before you send it: every file in it is text.

Taken out: values of variables that hold secrets, user names and passwords in addresses, queries of
addresses, tokens that are known by their form; hosts of your own that the environment or git's
configuration names, and this machine's name (HOST); your home folder (~), your user name (USER).
The environment is not in it.
"""


def show_bundle(site: Site, stack_name: str, folder: Path) -> Path:
    """Write the bundle into a folder, and list its members."""
    stack = loader.load(stack_name, site.constraints)
    clean = redactor(site)
    texts = {
        name: clean.document(text) if name.endswith(".json") else clean(text)
        for name, text in members(site, stack)
    }
    path = folder.absolute() / f"blackwheel-report-{stack.name}.tar.gz"
    path.write_bytes(packed(texts))
    for name, text in texts.items():
        site.console.result(f"{size(len(text.encode())):>10}  {name}")
    site.console.result(f"\n{path}")
    site.console.say("read it before you send it; README.txt in it says what was taken out")
    return path


def redactor(site: Site) -> Redactor:
    """Return the redactor of this machine's and this person's names."""
    here = site.environment
    told = _said(site, ("git", "config", "--get-regexp", r"^url\."))
    return Redactor(
        environment=here,
        home=here.get("HOME", ""),
        user=here.get("USER") or here.get("LOGNAME") or Path(here.get("HOME", "")).name,
        host=platform.node().removeprefix("localhost"),
        mirrors=tuple(each for each in told.split() if each.startswith("url.")),
    )


def packed(texts: dict[str, str]) -> bytes:
    """Pack texts with one owner and one time, so that neither tells who packed them."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, text in texts.items():
            held = tarfile.TarInfo(f"blackwheel-report/{name}")
            held.size, held.mode = len(text.encode()), 0o644
            archive.addfile(held, io.BytesIO(text.encode()))
    return gzip.compress(plain.getvalue(), mtime=0)


def members(site: Site, stack: records.Stack) -> Iterator[tuple[str, str]]:
    """Yield name and text of each member; a receipt or record that is absent is left out."""
    machine = read_machine()
    yield "README.txt", ABOUT
    yield "versions.txt", versions(site, stack)
    yield "nvidia-smi.txt", _said(site, SMI)
    yield "doctor.txt", listed(for_building.examine(stack, for_building.place(site), network=False))
    shelf = site.wheels / stack.name
    served = for_serving.examine(stack, site.patches, site.environment, machine, shelf=shelf)
    yield "doctor-serve.txt", listed(served)
    for wheel in index.shelved(site.wheels / stack.name):
        if wheel.receipt.is_file():
            yield f"receipts/{wheel.receipt.name}", wheel.receipt.read_text(encoding="utf-8")
    for path in sorted((site.store / "smoke").glob("*.json")):
        yield f"smoke/{path.name}", path.read_text(encoding="utf-8")
    yield from _builds(site, stack)


def _builds(site: Site, stack: records.Stack) -> Iterator[tuple[str, str]]:
    for log in sorted((site.store / "builds").glob("*/*/*/build.log")):
        name = "-".join(log.parent.relative_to(site.store / "builds").parts)
        if log.parents[2].name.partition("-less-")[0] != stack.name:
            continue
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        yield f"builds/{name}.log", "\n".join(lines[-LOG_LINES:]) + "\n"
        found = timeline.records(log.parent / "work" / "objects.jsonl")
        if found:
            run = timeline.drawn(found)
            rows = [*timeline.told(run), *map(timeline.row, timeline.slowest(run))]
            yield f"builds/{name}.txt", "\n".join(rows) + "\n"


def versions(site: Site, stack: records.Stack) -> str:
    """Return the versions of blackwheel, stack and system."""
    commit = _said(site, ("git", "describe", "--always", "--dirty")).strip()
    lines = [
        f"blackwheel {__version__}, {commit}",
        f"stack {stack.name}, archs {', '.join(stack.archs)}",
        f"torch {stack.torch.version}",
        *(f"{name} {stack.projects[name].version}" for name in stack.build),
        f"Python {platform.python_version()}",
        f"{platform.system()} {platform.release()} {platform.machine()}, "
        f"{' '.join(platform.libc_ver())}",
    ]
    return "\n".join(lines) + "\n"


def listed(checks: Sequence[Check]) -> str:
    """Return the checks of doctor, a line each."""
    marks = {True: "ok", False: "LACKS", None: "note"}
    rows = [f"{marks[check.ok]:5}  {check.name}: {check.fact}" for check in checks]
    return "\n".join(rows) + "\n"


def _said(site: Site, argv: Sequence[str]) -> str:
    """Return what a program says, or why it says nothing: either is a finding."""
    try:
        done = capture_within(30, argv, environment=site.environment, cwd=site.checkout)
    except BlackwheelError as error:
        return f"{argv[0]}: {error.fact}\n"
    if done.hung:
        return f"{argv[0]}: no answer\n"
    return done.stdout or done.stderr or f"{argv[0]}: exit code {done.code}\n"
