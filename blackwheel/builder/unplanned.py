"""Stops a plan at the first compiler that runs past the launcher, and so would really compile."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blackwheel.builder.inside import launcher
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.processes import PROC, Process, above, processes

EVERY: Final = 0.5
"""Seconds between two looks: an object of an extension takes ten times as long."""
_COMPILER: Final = re.compile(
    r"(?:nvcc|(?:[\w.]+-)*(?:g\+\+|gcc|c\+\+|cc|clang(?:\+\+)?)(?:-\d+)?)$"
)
_SOURCES: Final = (".cu", ".cpp", ".cc", ".cxx")
"""C alone is left out: a plan of a project with Rust parts compiles some for its tools."""


class CompilesError(BlackwheelError):
    """Raised where a build compiles in earnest while it is planned."""


@dataclass(kw_only=True, slots=True)
class Watch:
    """Compilers that ran below this process while a plan was made."""

    tmp: str
    """The build's folder of temporary files: a source there is a trial of a compiler."""
    source: str = ""
    """The first source that was compiled in earnest."""

    def look(self) -> None:
        """Look at the compilers once; end the build at the first that is no trial."""
        known = processes()
        for one in known.values():
            source = _compiled(one)
            line = [one, *above(one, known)]
            if not source or any(each.runs("launcher.py") for each in line):
                continue
            top = next((each for each in line if each.parent == os.getpid()), None)
            if top and not self._is_trial(one, source):
                self.source = self.source or source
                os.kill(top.number, signal.SIGTERM)
                return

    def _is_trial(self, one: Process, source: str) -> bool:
        """Tell whether a build tool tries its compilers, which a plan lets it do."""
        here = str(Path(PROC, str(one.number), "cwd").readlink())
        return "/CMakeFiles/" in f"{here}/" or Path(here, source).is_relative_to(self.tmp)

    def require_none(self, project: str, where: str) -> None:
        """Raise `plan-compiles` where a source was compiled."""
        if self.source:
            raise CompilesError(
                "plan-compiles",
                f"the build of {project} starts its compilers itself, and not through ninja:"
                f" {self.source} was being compiled in earnest, so the plan was stopped",
                where=where,
                fix="patch setup.py: no use_ninja=False in BuildExtension, and `ninja` in the"
                " stack's requirements\n(docs/add-a-project.md, 2. The series)",
                code=Exit.BUILD,
            )


def _compiled(one: Process) -> str:
    """Return the C++ or CUDA source that a process compiles; empty for any other process."""
    words = [word for word in one.words if word]
    if not words or not _COMPILER.match(words[0].rpartition("/")[2]):
        return ""
    unit = launcher.compiled_object(words[1:])
    return unit[0] if unit and unit[0].endswith(_SOURCES) else ""
