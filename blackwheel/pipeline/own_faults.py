"""Tells faults of a published wheel's own RECORD from files that were changed after the fetch.

Some published wheels hold files that their RECORD gives other digests. pip and uv install them, for
the hash of the lock is that of the whole wheel. So a wheel whose files are not as its RECORD says
is fetched once more, past uv's cache: what is the same there, it brought itself (decision 0050).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from blackwheel.core import recorded, records
from blackwheel.core.files import replace_file, sha256
from blackwheel.core.process import run
from blackwheel.core.recorded import Changed
from blackwheel.core.scratch import scratch
from blackwheel.core.settled import Digests
from blackwheel.core.site import Site
from blackwheel.stacks import locks as lock_files
from blackwheel.stacks.locks import LockedPin

_FOLDER: Final = "own-faults"


def changed_since(
    site: Site, environment: Path, packages: Path, found: Sequence[Changed], locks: Sequence[str]
) -> list[Changed]:
    """Return those of `found` that the pinned wheels do not bring themselves.

    The answer is kept in the store for each pin. A wheel that cannot be fetched excuses nothing.
    """
    pins = {
        pin.name: pin for lock in locks for pin in lock_files.pins(lock_files.lock_text(Path(lock)))
    }
    left = list(found)
    for name in dict.fromkeys(one.distribution for one in found):
        pin = pins.get(canonicalize_name(name))
        ours = [one for one in found if one.distribution == name]
        if pin is None or not _excusable(packages, ours):
            continue
        own = _own_faults(site, environment, pin)
        excused = [one for one in ours if own.get(str(one)) == sha256(packages / one.path)]
        if excused:
            files = "a file" if len(excused) == 1 else f"{len(excused)} files"
            site.console.say(f"{pin.words}: its own RECORD is wrong about {files}, as published")
        left = [one for one in left if one not in excused]
    return left


def _excusable(packages: Path, found: Iterable[Changed]) -> bool:
    """Tell whether there is anything to compare: a fault of a file that is there."""
    return any((packages / one.path).is_file() for one in found)


def _own_faults(site: Site, environment: Path, pin: LockedPin) -> dict[str, str]:
    """Return the faults of a freshly fetched wheel, and the sha256 of the file of each."""
    python = str((environment / "bin" / "python").resolve())
    key = hashlib.sha256(f"{python}\n{pin.text}".encode()).hexdigest()
    kept = site.store / _FOLDER / f"{key}.json"
    known = records.kept(kept, dict[str, str])
    if known is not None:
        return known
    kept.parent.mkdir(parents=True, exist_ok=True)
    with scratch(kept.parent, "fetched-") as folder:
        wanted, fresh = folder / "wanted.txt", folder / "packages"
        wanted.write_text(pin.text, encoding="utf-8")
        argv = [str(site.uv), "pip", "install", "--no-cache", "--no-deps", "--require-hashes"]
        argv += ["--python", str(environment / "bin" / "python"), "--target", str(fresh)]
        with site.console.stage("packages", f"fetch {pin.words} again, to compare"):
            done = run(
                [*argv, "-r", str(wanted)],
                environment={**site.environment, "NO_COLOR": "1"},
                cwd=folder,
                log=site.store / "logs" / "environments.log",
            )
        if done.code:
            return {}
        faults = recorded.changed(fresh, Digests(fresh, None))
        found = {
            str(one): sha256(fresh / one.path) for one in faults if (fresh / one.path).is_file()
        }
    replace_file(kept, json.dumps(found, indent=1).encode())
    return found
