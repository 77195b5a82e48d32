"""How many bytes resolving one wheel costs: `python benchmarks/resolve_cost.py WHEEL PIP_FOLDER`.

Twice: the wheel as it is, and its dist-info alone with the description that `readme` of a stack
leaves in METADATA. WHEEL has its receipt beside it; PIP_FOLDER is made by
`uv pip install --target PIP_FOLDER pip==26.3`. Bytes are counted between installer and server,
headers included. Prints rows of a table.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

from uv import find_uv_bin
from wheel.wheelfile import WheelFile

from blackwheel.receipts import document
from blackwheel.shelf import index
from blackwheel.shelf import server as serve

MANY = 200
UPSTREAM = (
    "https://github.com/Dao-AILab/flash-attention at 060c9188beec3a8b62b33a3bfa6d5d2d44975fab\n"
)
"""As blackwheel.requires.shorten_readme writes it."""


class Counter:
    """Forwards connections to a server and counts what comes back."""

    def __init__(self, target: int) -> None:
        self.target, self.seen, self.calls = target, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            for source, sink, back in ((client, server, False), (server, client, True)):
                pump = threading.Thread(target=self._pump, args=(source, sink, back), daemon=True)
                pump.start()

    def _pump(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                self.seen += len(data) if back else 0
                self.calls += 0 if back else data.count(b" HTTP/1.1\r\n")
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def shelf_of(wheel: Path, shelf: Path, count: int) -> None:
    """The wheel and, to fill the page, `count - 1` others of its project, shelved as they are."""
    described = document.load(wheel.with_name(f"{wheel.name}.receipt.json"))
    made = [(wheel, described)]
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2, count + 1):
            version = f"0.{number}+cu130torch2.11.0.sm120a.1"
            name, info = wheel.name.split("-")[0], f"{wheel.name.split('-')[0]}-{version}.dist-info"
            path = Path(folder) / f"{name}-{version}-{'-'.join(wheel.name.split('-')[2:])}"
            text = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n"
            with WheelFile(path, "w") as file:
                file.writestr(f"{info}/METADATA", text)
                file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n")
            digest = index.sha256(path)
            made.append((path, document.receipt(path.name, digest, {"stack": {"name": "x"}})))
        began = time.monotonic()
        index.shelve_all(made, shelf)
        sys.stderr.write(f"shelving {count}: {time.monotonic() - began:.1f} s\n")


def shortened(wheel: Path, folder: Path) -> Path:
    """The dist-info of a wheel, its METADATA without description, under the wheel's name."""
    path = folder / wheel.name
    with zipfile.ZipFile(wheel) as source, WheelFile(path, "w") as sink:
        for name in source.namelist():
            if ".dist-info/" in name and not name.endswith("/RECORD"):
                data = source.read(name)
                if name.endswith("/METADATA"):
                    data = data.partition(b"\n\n")[0] + b"\n\n" + UPSTREAM.encode()
                sink.writestr(name, data)
    held = document.sections(document.load(wheel.with_name(f"{wheel.name}.receipt.json")))
    receipt = document.receipt(path.name, index.sha256(path), dict(held))
    document.write(path.with_name(f"{path.name}.receipt.json"), receipt)
    return path


def main() -> None:
    """Print one row per index and installer."""
    wheel, pip = Path(sys.argv[1]), Path(sys.argv[2])
    python = f"3.{wheel.name.split('-cp3')[1].split('-')[0]}"
    name, version = wheel.name.split("-")[:2]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "short").mkdir()
        short = shortened(wheel, home / "short")
        for count, what in ((1, wheel), (MANY, wheel), (1, short), (MANY, short)):
            root = home / f"{count}-{what.parent.name}"
            shelf_of(what, root / "s", count)
            server = serve.listening(root, 0)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for tool in ("pip", "uv"):
                counter = Counter(server.server_port)
                where = ["--index-url", f"http://127.0.0.1:{counter.port}/s/simple/"]
                words = ["install", "--dry-run", "--no-deps", *where, f"{name}=={version}"]
                if tool == "pip":
                    argv = [sys.executable, "-I", str(pip / "pip"), *words, "--no-cache-dir"]
                    argv += ["--ignore-installed", "--python-version", python]
                    argv += ["--only-binary", ":all:", "--target", str(home / "t")]
                else:
                    # With --no-deps uv reads no METADATA: the rest comes from the usual index.
                    wanted = home / "in.txt"
                    wanted.write_text(f"{name}=={version}\n", encoding="utf-8")
                    argv = [find_uv_bin(), "pip", "compile", "--no-cache", str(wanted)]
                    argv += ["--index", where[1], "--python-version", python]
                began = time.monotonic()
                done = subprocess.run(argv, capture_output=True, text=True, check=False)
                took = time.monotonic() - began
                form = "short" if what is short else "as it is"
                row = (count, form, tool, counter.calls, f"{counter.seen:,}", f"{took:.2f}")
                sys.stdout.write(f"| {' | '.join(map(str, row))} | {done.returncode} |\n")


if __name__ == "__main__":
    main()
