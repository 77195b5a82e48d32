"""Runs one verb for a nox session: `python -m blackwheel VERB`."""

import sys

from blackwheel.commands.session import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
