"""Checks that every source folder named in a build variable exists in the patched tree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.stacks.request import Request

_FOLDER: Final = re.compile(r"\{source\}/([\w./+-]+)")


def require_folders(request: Request, tree: Path) -> None:
    """Raise `nested-missing` for an absent folder: upstream would fetch it, without a network.

    What `--without` leaves out is named by its variable all the same.
    """
    pin = request.pin
    kept = {nested.path for nested in pin.nested}
    whole = request.stack.project(request.project).nested
    gone = tuple(nested.path for nested in whole if nested.path not in kept)
    for name, text in pin.variables.items():
        for path in _FOLDER.findall(text):
            left_out = any(path == one or path.startswith(f"{one}/") for one in gone)
            folder = tree / path
            if left_out or (folder.is_dir() and any(folder.iterdir())):
                continue
            raise BlackwheelError(
                "nested-missing",
                f"{name} names {path}, and the sources of {request.project} {pin.version}"
                " hold nothing there",
                where=f"constraints/{request.stack.name}.toml,"
                f" projects.{request.project}.variables.{name}",
                fix=f"pin it as [[projects.{request.project}.nested]] with its path,"
                " or correct the variable",
                code=Exit.CONFIG,
            )
