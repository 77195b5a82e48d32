"""Compares leaves that a receipt says twice, and names those that nothing else says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from blackwheel.receipts.document import TIME, Section
from blackwheel.shelf.verify_pages import Check, compared, compared_all
from blackwheel.shelf.wheel_facts import NOT_RUN

SAID: Final[tuple[tuple[str, str], ...]] = (
    ("stack.driver", "the driver that the stack named then: it changes no byte, and no label"),
    ("stack.blackwheel", "the version of blackwheel that built it"),
    ("sources.reason", "why the sdist stood in for git: nobody can ask again"),
    ("patches.tree", "the tree after the patches, where the store has it no more"),
    ("command.variables.MAX_JOBS", "how many compilers might queue: the machine's affair"),
    ("environment.installed.*", "packages of an installed torch, which no lock names"),
    ("run.metadata.*", "when the build began and ended"),
    ("objects.jobs", "how many compilers ran at once"),
    ("objects.last_run_seconds", "how long the last run took"),
    ("objects.each.*", "which compilers ran, how long, in how much memory, what they reused"),
    ("objects.peak_bytes", "the most memory that one of them took"),
    ("audit.findings.*", "notes of the audit as it was then; verify tells today's faults"),
    ("smoke.device", "on which GPU it was smoked"),
    ("smoke.driver", "with which driver"),
    ("smoke.kernels.*", "the words on what ran; publish asks the store or a signer"),
    ("smoke.checks.*", "each kernel check, its error and time, and the seed"),
    ("smoke.imports.*", "how long each import took"),
    ("smoke.libraries.*", "how each library loaded beside torch, and the guard's words"),
    ("smoke.environment.*", "how the set fitted together, and what its commands answered"),
)
"""What is said, not proved, in an unsigned receipt of a wheel that this store did not shelve: at
most twenty, each with its reason; SECURITY.md has the same list."""
_OF_THE_BUILD: Final = {"wheel_sha256", "source", "built_for"}
"""Of a torch, told where the wheel was built, not where it was smoked."""
_OF_SMOKE: Final = {
    "torch of smoke": "torch",
    "smoked wheels": "together",
    "smoked libraries": "libraries",
    "imports": "imports",
}
"""What is compared of the section `smoke`, and the leaf that says it."""
_ONLY_IMPORTED: Final = "import only"


def said_checks(proved_by: str) -> Iterator[Check]:
    """List the leaves that are said; proved where something besides the receipt says them too."""
    for what, why in SAID:
        if proved_by:
            yield Check(what=f"said {what}", ok=True, found=proved_by)
        else:
            yield Check(what=f"said {what}", ok=None, found=f"not proved: {why}")


def twice_checks(
    wheel: Path,
    held: Mapping[str, Section],
    parts: Mapping[str, str],
    modules: Sequence[str] | None,
) -> Iterator[Check]:
    """Yield a fault for each two places of a receipt that say the same and differ."""
    yield from filter(lambda check: not check.ok, _twice(wheel, held, parts, modules))


def _twice(
    wheel: Path,
    held: Mapping[str, Section],
    parts: Mapping[str, str],
    modules: Sequence[str] | None,
) -> Iterator[Check]:
    stack, torch, smoke = held["stack"], held["torch"], held.get("smoke")
    run = held["run"]
    yield compared("builder", run["builder"].get("id", ""), "urn:blackwheel:builder")
    version = run["builder"].get("version", {}).get("blackwheel", "")
    yield compared("version of blackwheel", version, stack.get("blackwheel", "the same"))
    yield from _time_checks(run["metadata"])
    yield compared("environment python", held["environment"]["python"], parts["python"])
    yield from _object_checks(held["objects"])
    yield from _not_held("findings", held["audit"], "findings")
    fatal = [one["name"] for one in held["audit"].get("findings", []) if one["fatal"]]
    yield compared_all("fatal findings", fatal, [])
    if smoke is None:
        return
    for what, name in _OF_SMOKE.items():
        yield from _not_held(what, smoke, name)
    if beside := smoke.get("torch"):
        for name in sorted({*beside, *torch} - _OF_THE_BUILD):
            yield compared(f"torch {name} of smoke", beside.get(name), torch.get(name))
        yield compared("torch wheels of smoke", beside.get("wheel_sha256"), [])
    if "together" in smoke:
        there = wheel.name in smoke["together"]
        yield compared("smoked wheels", wheel.name if there else "others", wheel.name)
    if "libraries" in smoke:
        loaded = sorted(one["library"] for one in smoke["libraries"])
        inside = [_installed(one["path"]) for one in held["audit"]["libraries"]]
        strange = [name for name in loaded if name not in inside]
        yield compared_all("smoked libraries", strange, [])
    if str(smoke.get("device", "")).startswith(_ONLY_IMPORTED):
        yield compared("checks without a GPU", smoke.get("checks", []), [])
        yield compared("seed without a GPU", smoke.get("seed", 0), 0)
        ran = [words for words in smoke["kernels"].values() if not words.startswith(NOT_RUN)]
        yield compared_all("kernels without a GPU", ran, [])
    archs = sorted(smoke.get("kernels", {}))
    yield compared_all("smoked archs", archs, sorted(parts["archs"].split(";")))
    if modules is not None and "imports" in smoke:
        yield compared_all("imports", sorted(smoke["imports"]), sorted(modules))


def _installed(path: str) -> str:
    """Return where an installer puts a file of the wheel's data folder."""
    for scheme in (".data/purelib/", ".data/platlib/"):
        _, found, rest = path.partition(scheme)
        if found:
            return rest
    return path


def _time_checks(metadata: Mapping[str, Any]) -> Iterator[Check]:
    """Hold the times of a build to their form and order."""
    if not metadata:
        yield from _not_held("times of the build", metadata, "startedOn")
        return
    times = [datetime.strptime(metadata[name], TIME) for name in ("startedOn", "finishedOn")]
    if any(later < earlier for earlier, later in pairwise(times)):
        yield compared("end of the build", metadata["finishedOn"], "after its start")


def _object_checks(objects: Section) -> Iterator[Check]:
    """Hold the sums over a build's objects to what each of them says."""
    each = objects.get("each")
    if each is None:
        yield from _not_held("objects", objects, "each")
        return
    yield compared("objects count", objects["count"], len(each))
    total = sum(one["cpu_seconds"] for one in each)
    peak = max((one["peak_bytes"] for one in each), default=0)
    if abs(objects["cpu_seconds"] - total) > 0.1:
        yield compared("objects cpu_seconds", objects["cpu_seconds"], round(total, 1))
    yield compared("objects peak_bytes", objects["peak_bytes"], peak)
    for one in each:
        if one.get("exit", 0) != 0:
            yield compared(f"{one['source']} exit", one["exit"], 0)


def _not_held(what: str, section: Mapping[str, Any], leaf: str) -> Iterator[Check]:
    """Tell what a receipt lacks, and so nothing can be compared with."""
    if leaf not in section:
        why = f"not held: the receipt has no `{leaf}`, as those of earlier versions"
        yield Check(what=what, ok=None, found=why)
