"""The programs that some tests start, and how each is had; `.ci/run` installs them all.

`python3 tests/toys/programs.py` prints the Debian packages that are missing here. It runs before
anything is installed: standard library only.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

DEBIAN = {
    "g++": "g++",
    "git": "git",
    "redis-server": "redis-server",
    "bwrap": "bubblewrap",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "ssh-agent": "openssh-client",
    "ssh-keygen": "openssh-client",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
}
"""Program to package. A test marked `needs("PROGRAM")` is skipped where it is not, by its name."""

REGISTRY = ("devpi-server", "devpi-init", "hadolint")
"""Out of .ci/programs.txt, in an environment of their own: they want other versions than we do."""


def found(program: str) -> str | None:
    """Return the path of a program; Debian keeps servers where a user's PATH does not look."""
    if program not in (*DEBIAN, *REGISTRY):
        raise LookupError(f"{program}: no line in tests/toys/programs.py says how it is had")
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def lack(program: str) -> str:
    """Say how a program that is not here is had."""
    if program in DEBIAN:
        return f"no {program}: apt-get install {DEBIAN[program]}"
    made = "python3 -m venv V; V/bin/pip install -r .ci/programs.txt; V/bin last on PATH"
    return f"no {program}: {made}"


def missing_packages() -> list[str]:
    """Return the Debian packages that this Python and the tests want and this machine lacks."""
    lacking = [package for program, package in DEBIAN.items() if not found(program)]
    packages = list(dict.fromkeys(lacking))
    if not importlib.util.find_spec("ensurepip"):
        packages.append("python3-venv")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        packages.append("python3-dev")
    return packages


if __name__ == "__main__":
    sys.stdout.write(" ".join(missing_packages()) + "\n")
