"""May a build tree be continued: only with what its objects were compiled with.

ninja compares command lines and the times of files. It does not see that torch's headers, nvcc or
g++ are others where their paths are the same and their files older than the objects.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from blackwheel import keys, pool
from blackwheel.compiler import Compiler
from blackwheel.console import Console
from blackwheel.plan import BuildPlan
from blackwheel.torchpin import TorchIdentity
from blackwheel.workshop import Workshop

_FILE = "made-with.json"


def made_with(
    plan: BuildPlan, torch: TorchIdentity, compiler: Compiler, mode: str
) -> dict[str, str]:
    """Return what reaches an object and is not in its command line."""
    section = json.dumps(torch.section(), sort_keys=True)
    flags = {n: v for n, v in plan.variables.items() if n.startswith("NVCC_") and "FLAGS" in n}
    return {
        "recipe": str(keys.RECIPE),
        "isolation": mode,
        "folder": str(plan.request.pin.one_folder),
        "torch": f"{torch.runtime} {hashlib.sha256(section.encode()).hexdigest()}",
        "environment": plan.key.part("locks.build"),
        "toolchain": plan.toolchain.digest,
        "compiler": f"{compiler.kind} {compiler.version}",
        "flags": json.dumps(flags, sort_keys=True),
    }


def begin_anew_unless_same(
    workshop: Workshop,
    now: dict[str, str],
    *,
    store: Path,
    slug: str,
    project: str,
    console: Console,
) -> None:
    """Remove a tree whose objects were made with something else, and say of what; keep its records.

    One of which nobody wrote down what it was made with goes too.
    """
    path = workshop.root / _FILE
    if workshop.src.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = {}
        other = [name for name, value in now.items() if before.get(name) != value]
        if not other:
            return
        what = f"made with another {', '.join(other)}" if before else "made with nobody knows what"
        console.say(f"{project}: its build tree was {what}: all is compiled anew")
        pool.keep_history(store, project, slug, workshop.records)
        shutil.rmtree(workshop.root)
    workshop.root.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
