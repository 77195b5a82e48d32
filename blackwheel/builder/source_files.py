"""Compares the source files of a build tree with its patched tree, before and after a build."""

from __future__ import annotations

from fnmatch import fnmatchcase

from blackwheel.builder.plan import BuildPlan
from blackwheel.builder.workspace import Workshop
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.sources.tree import Rows, differing, few, row

_FIX = "run the same command again: the files are written anew"


def require_patched(plan: BuildPlan, workshop: Workshop, wanted: Rows) -> Rows:
    """Return the files that are about to be built; raise `sources-changed`.

    Only the requirement files and the readme that the stack sets may differ from the patched tree.
    """
    pin = plan.request.pin
    own = {edit.file for edit in pin.requires} | {pin.readme}
    found = _found(workshop, wanted)
    other = [path for path in differing(found, wanted) if path not in own]
    if other:
        raise _changed(plan, f"are not those of the patched tree: {few(other)}", workshop, _FIX)
    return found


def require_untouched(plan: BuildPlan, workshop: Workshop, before: Rows) -> None:
    """Raise `sources-changed` where a source file is another after the build than before it.

    Nobody knows then what was compiled. Files that the build itself writes are known by name.
    """
    writes = plan.known.build.writes
    changed = differing(_found(workshop, before), before)
    other = [path for path in changed if not any(fnmatchcase(path, one) for one in writes)]
    if other:
        fix = f"{_FIX}\nor, where the build itself writes them: name them in build.writes of"
        fix += f" patches/{plan.request.project}/project.toml"
        raise _changed(plan, f"changed while it was built: {few(other)}", workshop, fix)


def _found(workshop: Workshop, wanted: Rows) -> Rows:
    return {path: row(workshop.src / path) for path in wanted}


def _changed(plan: BuildPlan, what: str, workshop: Workshop, fix: str) -> BlackwheelError:
    return BlackwheelError(
        "sources-changed",
        f"source files of {plan.request.project} {plan.request.pin.version} {what}",
        where=str(workshop.src),
        fix=fix,
        code=Exit.SOURCE,
    )
