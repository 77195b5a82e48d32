"""Makes the pictures of the documents again: `python3 docs/img/make.py [STACK [WHEEL]]`.

stack.png is the page of a stack on this checkout's shelf (quickstart), as `invoke serve-index`
shows it; audit-vllm.png is the audit of an official wheel (vllm==0.26.0, or a file). Needs
chromium.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from blackwheel.core import site
from blackwheel.shelf import index, server

HERE = Path(__file__).parent
QUIET = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
QUIET += " disable-component-update disable-sync hide-scrollbars"


def picture(address: str, name: str, height: int) -> None:
    """Write what a browser of 1200 columns shows of a page, from its top."""
    with tempfile.TemporaryDirectory() as profile:
        words = [f"--{word}" for word in QUIET.split()]
        words += [f"--user-data-dir={profile}", f"--window-size=1200,{height}"]
        argv = ["chromium", *words, f"--screenshot={HERE / name}", address]
        subprocess.run(argv, check=True, capture_output=True, timeout=120)


def main(stack: str = "quickstart", wheel: str = "vllm==0.26.0") -> None:
    """Make both pictures."""
    wheels = site.here().wheels
    index.show_all(wheels)
    served = server.listening(wheels, server.PORT)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    picture(f"http://{server.HOST}:{server.PORT}/{stack}/", "stack.png", 1080)
    served.shutdown()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "audit.html"
        argv = [sys.executable, "-m", "invoke", "audit", wheel, "--html", str(page)]
        subprocess.run(argv, cwd=HERE.parents[1], check=False)  # a refused wheel is no failure here
        picture(page.as_uri(), "audit-vllm.png", 925)


if __name__ == "__main__":
    main(*sys.argv[1:])
