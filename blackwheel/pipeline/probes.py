"""Reads how each patch of a series is proved, and finds the headers that a patch keeps out."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blackwheel.builder.arch_plan import read_texts
from blackwheel.core.errors import BlackwheelError, Exit, nearest
from blackwheel.sources.series import Series
from blackwheel.stacks.faults import FaultsError, record_of, table_of

FILE: Final = "probes.toml"
_SHOWN: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """Help for a patch that plans of the pinned tree alone do not prove."""

    why: str
    files: tuple[str, ...] = ()
    """Empty files to put into the tree with and without the patch."""
    untried: bool = False
    """No plan is made without the patch: it is what lets a plan compile nothing."""
    inputs: str = ""
    """A pattern of sources, which include no header of `without`: compared instead of plans."""
    without: tuple[str, ...] = ()
    """Beginnings of header names, as `#include` gives them."""


def probes(series: Series) -> dict[str, Probe]:
    """Read `probes.toml` beside a series, which needs none; raise `bad-probes`.

    Not in the patches: their bytes are in the key, and how one is checked changes no wheel.
    """
    path = series.folder / FILE
    if not path.exists():
        return {}
    faults = []
    known: dict[str, Probe] = {}
    try:
        known = record_of(dict[str, Probe], table_of(path))
    except FaultsError as error:
        faults = list(error.faults)
    names = [patch.name for patch in series.patches]
    faults += [
        f"{name}: not in the series{nearest(name, names)}" for name in set(known) - set(names)
    ]
    for name, probe in known.items():
        faults += [f"{name}: {fault}" for fault in _faults(probe)]
    if faults:
        raise _bad_probes(series, faults)
    return known


def _faults(probe: Probe) -> list[str]:
    faults = []
    if [bool(probe.files), probe.untried, bool(probe.inputs)].count(True) != 1:
        faults.append("`files`, `untried` or `inputs`, exactly one of them")
    if bool(probe.inputs) != bool(probe.without):
        faults.append("`inputs` and `without` go together")
    if "" in probe.without:
        faults.append("`without` has an empty text, which every header begins with")
    outside = [f for f in (*probe.files, probe.inputs) if f.startswith("/") or ".." in f.split("/")]
    return faults + [f"'{file}' leaves the tree" for file in outside]


def refuse_includes(series: Series, known: Mapping[str, Probe], root: Path) -> None:
    """Check that no source of the patched tree includes a header that a patch keeps out.

    Raises `kept-out-header`, and `bad-probes` where a pattern matches no source.
    """
    for name, probe in known.items():
        if not probe.inputs:
            continue
        if not _sources(probe, root):
            raise _bad_probes(series, [f"{name}: '{probe.inputs}' matches no file of the tree"])
        if found := sorted(_includes(probe, root)):
            raise BlackwheelError(
                "kept-out-header",
                "\n".join(_bounded([f"{file} includes {header}" for file, header in found])),
                where=f"patches/{series.project}/{series.version}/{name}",
                fix=f"take the include out in the patch: {probe.why}",
                code=Exit.PATCH,
            )


def effects(probe: Probe, whole: Path, without: Path) -> tuple[str, ...]:
    """Return the includes that only the tree without the patch has; none: the patch is stale."""
    found = sorted(_includes(probe, without) - _includes(probe, whole))
    return tuple(_bounded([f"include only without it: {file}: {name}" for file, name in found]))


def _sources(probe: Probe, root: Path) -> list[str]:
    found = glob.glob(probe.inputs, root_dir=root, recursive=True)  # noqa: PTH207  Path.glob raises
    return [path for path in found if (root / path).is_file()]


def _includes(probe: Probe, root: Path) -> set[tuple[str, str]]:
    return {
        (path, name)
        for path, _, names in read_texts(root, _sources(probe, root))
        for name in names
        if name.startswith(probe.without)
    }


def _bounded(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"and {more} more"] if more > 0 else lines


def _bad_probes(series: Series, faults: list[str]) -> BlackwheelError:
    return BlackwheelError(
        "bad-probes",
        "\n".join(faults),
        where=f"patches/{series.project}/{series.version}/{FILE}",
        fix="name patches of the series, each with `why`, and `files`, `untried`, or `inputs` and"
        " `without`",
        code=Exit.CONFIG,
    )
