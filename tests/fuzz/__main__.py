"""Runs the long form: `nox -s fuzz`, or some targets: `nox -s fuzz -- ELF receipt`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / name) for name in ("toys", "toys/cuda"))]

from fuzz_campaign import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(argparse.ArgumentParser(prog="nox -s fuzz --", description=__doc__)))
