"""The launcher as a build has it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from blackwheel.builder import workspace

_FOLDER = tempfile.TemporaryDirectory(prefix="launcher-")  # goes when the tests end
LAUNCHER = (sys.executable, "-I", "-S", str(workspace.lay_out_launcher(Path(_FOLDER.name))))
