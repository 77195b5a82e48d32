"""Runs one verb for a nox session: `python -m blackwheel VERB`.

Its parent's end and an interrupt are this process's own from the first line on: the imports below
take a second, in which no build may be left alone and no traceback be shown.
"""

import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from blackwheel.core import isolation

if __name__ == "__main__":
    isolation.die_with_parent()
    isolation.become_subreaper()

from blackwheel.commands.session import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))  # `entry.run` takes an interrupt from then on
