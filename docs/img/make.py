"""Makes the pictures of the documents again, from real runs: `python3 docs/img/make.py WHAT …`.

`pages [STACK [WHEEL]]`: stack.png, the page of a stack on this checkout's shelf as `invoke
serve-index` shows it, and audit-vllm.png, the audit of an official wheel. Needs chromium.
`record FILE COMMAND …`: runs a command in a terminal of 100 columns, and keeps what it writes.
`build FILE`: build-running.svg and build-done.svg, two moments of a recorded first build.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import terminal

from blackwheel.core import site
from blackwheel.shelf import index, server

HERE = Path(__file__).parent
QUIET = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
QUIET += " disable-component-update disable-sync hide-scrollbars"
COMMAND = "$ invoke build-wheels --stack quickstart"
SMALL = 2
"""Objects of a bar that compiles nothing: the steps of smoke."""
PLACES = re.compile(r"(?<=[ '])/[\w./-]*?/(?:(builds/)|(?=wheels/))")
RUNNING = re.compile(r" (\d+)/(\d+)  ")
"""What a bar that compiles says of its objects."""


def picture(address: str, name: str, height: int) -> None:
    """Write what a browser of 1200 columns shows of a page, from its top."""
    with tempfile.TemporaryDirectory() as profile:
        words = [f"--{word}" for word in QUIET.split()]
        words += [f"--user-data-dir={profile}", f"--window-size=1200,{height}"]
        argv = ["chromium", *words, f"--screenshot={HERE / name}", address]
        subprocess.run(argv, check=True, capture_output=True, timeout=120)


def pages(stack: str = "quickstart", wheel: str = "vllm==0.28.0") -> None:
    """Make the pictures of both pages."""
    wheels = site.here().wheels
    index.show_all(wheels)
    served = server.listening(wheels, server.PORT)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    picture(f"http://{server.HOST}:{server.PORT}/{stack}/", "stack.png", 1080)
    served.shutdown()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "audit.html"
        argv = [sys.executable, "-m", "invoke", "audit", wheel, "--gpu", "RTX 5090"]
        subprocess.run([*argv, "--html", str(page)], cwd=HERE.parents[1], check=True)
        picture(page.as_uri(), "audit-vllm.png", 925)


def record(file: str, *argv: str) -> None:
    """Keep the record of a command."""
    Path(file).write_text(json.dumps(terminal.recorded(argv, cwd=Path.cwd())), encoding="utf-8")


def build(file: str) -> None:
    """Draw the last moment at which half of the objects were compiled, and the end."""
    kept: terminal.Record = json.loads(Path(file).read_text(encoding="utf-8"))
    halves = [at for at, text in kept if half_done(text)]
    for name, at in (("build-running", halves[-1]), ("build-done", kept[-1][0])):
        lines = [COMMAND, *(shown(line) for line in terminal.screen(kept, at))]
        terminal.draw(lines, HERE / f"{name}.svg", title=f"after {at / 60:.0f} min")


def half_done(text: str) -> bool:
    """Tell whether a bar says that half of its objects are compiled."""
    found = RUNNING.search(terminal.MOVES.sub("", text))
    return bool(found) and int(found[2]) > SMALL and int(found[1]) == int(found[2]) // 2


def shown(line: str) -> str:
    """Return a line with the places of a reader's machine in those of the one that recorded it."""
    store, checkout = "/home/you/.cache/blackwheel/builds/", "/home/you/blackwheel/"
    return PLACES.sub(lambda found: store if found[1] else checkout, line)


if __name__ == "__main__":
    what, *words = sys.argv[1:] or ["pages"]
    {"pages": pages, "record": record, "build": build}[what](*words)
