"""Plans the objects of a project before and after its pin moves, with the real build."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from blackwheel.builder.arch_diff import archs_text
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import TAIL_LINES, capture
from blackwheel.core.scratch import scratch
from blackwheel.core.site import Site
from blackwheel.pins.move_project import Move
from blackwheel.sources import rebase

_CODE: Final = ("blackwheel", "constraints", "noxfile.py", "patches", "pyproject.toml", "tasks.py")
_Groups = dict[tuple[str, str], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Planned objects before and after."""

    before: _Groups
    after: _Groups

    @property
    def count(self) -> int:
        """Number of objects that the new release compiles."""
        return sum(group["objects"] for group in self.after.values())

    def lines(self) -> Iterator[str]:
        """Yield the differences, and the archs that the arch contract would lack."""
        was = sum(group["objects"] for group in self.before.values())
        yield f"{was} → {self.count}" if was != self.count else f"{was}"
        for key in sorted({*self.before, *self.after}):
            old, new = _text(self.before.get(key)), _text(self.after.get(key))
            if old != new:
                yield f"{key[0] or '-'}: {key[1]}: {old} → {new}"


def plans(site: Site, move: Move) -> Pair:
    """Plan both releases without compiling, or read earlier plans from the store.

    The new one in a scratch checkout, since nothing is written yet. Raises `plan-failed`.
    """
    before = _planned(site, move, site.checkout)
    with scratch(site.store, "pin-") as folder:
        for name in _CODE:
            path = site.checkout / name
            if path.is_dir():
                leave = shutil.ignore_patterns("__pycache__")
                shutil.copytree(path, folder / name, ignore=leave)
            else:
                shutil.copy2(path, folder)
        stack = folder / "constraints" / f"{move.stack.name}.toml"
        stack.write_text(move.after, encoding="utf-8")
        series = folder / "patches" / move.project / move.pin.version
        rebase.put(move.rebased, series)
        after = _planned(site, move, folder)
    return Pair(before=before, after=after)


def _planned(site: Site, move: Move, checkout: Path) -> _Groups:
    name = move.stack.name
    version = move.old.version if checkout == site.checkout else move.pin.version
    words = ["plan", "--objects", "--json", "--stack", name, "--only", move.project]
    with site.console.stage(move.project, f"plan {version}, compile nothing") as stage:
        done = capture(
            [sys.executable, "-m", "invoke", *words],
            environment={**site.environment, "BLACKWHEEL_HOME": str(site.store)},
            cwd=checkout,
            check=False,
        )
        try:
            (row,) = json.loads(done.stdout)["plans"]  # also where the contract is broken
        except ValueError:
            raise BlackwheelError(
                "plan-failed",
                "\n".join(done.stderr.splitlines()[-TAIL_LINES:]),
                where=f"{move.project} {version} in stack {name}",
                fix="leave --objects out to move the pin without a plan, and correct it then",
                code=Exit.BUILD,
            ) from None
        found = {(group["target"], group["sources"]): group for group in row["groups"]}
        stage.conclude(f"{sum(group['objects'] for group in found.values())} objects")
    return found


def _text(group: Mapping[str, Any] | None) -> str:
    if group is None:
        return "none"
    text = f"{group['objects']} of {archs_text(tuple(group['effective']))}"
    return text + (f", lacks {', '.join(group['missing'])}" if group["missing"] else "")
