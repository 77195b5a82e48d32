"""The launcher as a build has it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from blackwheel import workshop

_FOLDER = tempfile.TemporaryDirectory(prefix="launcher-")  # goes when the tests end
LAUNCHER = (sys.executable, "-I", "-S", str(workshop.lay_out_launcher(Path(_FOLDER.name))))
