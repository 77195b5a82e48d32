"""Tries changes of stack files in a copy, shows them, and writes all of them or none."""

from __future__ import annotations

import contextlib
import difflib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from blackwheel.core.files import replace_file, rewrite_file
from blackwheel.core.site import Site


@contextlib.contextmanager
def copied(site: Site) -> Iterator[Site]:
    """Give a copy of the stacks and their locks, in which everything is tried."""
    with tempfile.TemporaryDirectory(prefix="blackwheel-pin-") as folder:
        shutil.copytree(site.constraints, Path(folder) / site.constraints.name)
        yield replace(site, checkout=Path(folder))


def differing(before: Path, after: Path) -> list[Path]:
    """Return the files that differ, locks first, the stack's own file last."""
    paths = [path.relative_to(after) for path in after.rglob("*") if path.is_file()]
    return sorted(
        (path for path in paths if _content(before / path) != _content(after / path)),
        key=lambda path: (path.suffix == ".toml", len(path.parts) == 1, path),
    )


def difference(name: str, before: str, after: str) -> Iterator[str]:
    """Yield the lines of a unified diff."""
    old, new = before.splitlines(), after.splitlines()
    yield from difflib.unified_diff(old, new, name, name, lineterm="", n=2)


def write(files: Mapping[Path, bytes]) -> None:
    """Put every file in its place; where one cannot be written, the others are as they were."""
    kept: dict[Path, bytes | None] = {}
    try:
        for path, data in files.items():
            path.parent.mkdir(exist_ok=True)
            target = path.resolve()
            kept[target] = _content(target)
            _put(target, data)
    except BaseException:
        for target, old in kept.items():
            with contextlib.suppress(OSError):  # the others are put back all the same
                _put(target, old) if old is not None else target.unlink()
        raise


def _put(target: Path, data: bytes) -> None:
    (rewrite_file if target.exists() else replace_file)(target, data)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
