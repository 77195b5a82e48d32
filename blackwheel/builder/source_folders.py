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
    named = {f"variables.{name}": text for name, text in pin.variables.items()}
    if pin.subfolder:
        named["subfolder"] = f"{{source}}/{pin.subfolder}"
    for key, text in named.items():
        for path in _FOLDER.findall(text):
            left_out = any(path == one or path.startswith(f"{one}/") for one in gone)
            folder = tree / path
            if left_out or (folder.is_dir() and any(folder.iterdir())):
                continue
            raise BlackwheelError(
                "nested-missing",
                f"{key.rpartition('.')[2]} names {path}, and the sources of {request.project}"
                f" {pin.version} hold nothing there",
                where=f"constraints/{request.stack.name}.toml, projects.{request.project}.{key}",
                fix=f"pin it as [[projects.{request.project}.nested]] with its path,"
                f" or correct the {key.split('.')[0].removesuffix('s')}",
                code=Exit.CONFIG,
            )
