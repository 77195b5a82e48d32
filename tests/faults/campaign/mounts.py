"""Mounts small file systems, where the campaign may: as root."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .case import Case
from .worlds import same


class SkippedError(Exception):
    """Raised where this machine does not allow a kind; the text is the reason."""


def mounted(case: Case, place: Path, *words: str) -> None:
    """Mount over a folder, with its content, until the injection ends."""
    if os.geteuid():
        raise SkippedError("only root may mount")
    content = case.world.base / "content"
    same(place, content)
    done = subprocess.run(
        ["mount", *words, str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SkippedError(f"no mount: {done.stderr.strip()[:200]}")
    case.cleanups.append(lambda: _unmounted(place))
    shutil.copytree(content, place, dirs_exist_ok=True, symlinks=True)


def _unmounted(place: Path) -> None:
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)


def remounted(place: Path, options: str) -> None:
    """Change the options of a mount."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)
