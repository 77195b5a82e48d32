"""A server that behaves like the nightly index, and torch wheels that tell what real ones tell."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from urllib.parse import quote, unquote

WINDOW = 60
GIT = "1f2e3d4c5b6a79880123456789abcdef01234567"
PLATFORM = "manylinux_2_28_x86_64"
TRITON = "3.5.0+git7416ffcb"


def wheel(
    project: str,
    version: str,
    *,
    requires: tuple[str, ...] = (),
    files: dict[str, str | bytes] | None = None,
    says: str = "",
) -> bytes:
    """A wheel with METADATA and RECORD; `says` is the version in its METADATA where it lies."""
    info = f"{project}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {project}", f"Version: {says or version}"]
    held: dict[str, str | bytes] = {
        f"{project}/__init__.py": f"__version__ = {version!r}\n",
        **(files or {}),
        f"{info}/METADATA": "\n".join([*lines, *(f"Requires-Dist: {r}" for r in requires), "", ""]),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: toy\nRoot-Is-Purelib: false\n",
    }
    record = "".join(_row(name, data) for name, data in held.items()) + f"{info}/RECORD,,\n"
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in {**held, f"{info}/RECORD": record}.items():
            made.writestr(zipfile.ZipInfo(name, (2025, 10, 16, 0, 0, 0)), data)
    return sink.getvalue()


def _row(name: str, data: str | bytes) -> str:
    raw = data.encode() if isinstance(data, str) else data
    digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(raw)}\n"


def torch(
    version: str,
    *,
    git: str = GIT,
    cuda: str = "12.8",
    abi: str = "1",
    runtime: str = "",
    requires: tuple[str, ...] = (f"pytorch-triton=={TRITON}; platform_system == 'Linux'",),
    size: int = 300_000,
    seed: int = 0,
    says: str = "",
    without: str = "",
) -> bytes:
    """A torch of random weight, whose version.py and TorchConfig.cmake are as torch writes them."""
    files: dict[str, str | bytes] = {
        "torch/version.py": (
            "from typing import Optional\n\n"
            "__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']\n"
            f"__version__ = '{runtime or version}'\n"
            "debug = False\n"
            f"cuda: Optional[str] = '{cuda}'\n"
            f"git_version = '{git}'\n"
            "hip: Optional[str] = None\n"
        ),
        "torch/share/cmake/Torch/TorchConfig.cmake": (
            f'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI={abi}")\n'
        ),
        "torch/lib/libtorch_cuda.so": b"\x7fELF" + Random(seed).randbytes(size),  # noqa: S311
    }
    files.pop(without, None)
    return wheel("torch", version, requires=requires, files=files, says=says)


@dataclass
class File:
    """One file of the index and how it is served."""

    data: bytes
    listed: bool = True
    claim: str | None = None
    """sha256 that the page claims: the right one, another, or "" for none."""
    metadata: bytes | None = None
    """Offered alone, as PEP 658 has it."""


@dataclass
class Index:
    """Files by path below the root, and what the server does to requests for them."""

    root: str = ""
    files: dict[str, File] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers of each request."""
    sent: list[tuple[str, int]] = field(default_factory=list)
    """Name of each file that was sent, and from which byte on."""
    cuts: dict[str, list[int]] = field(default_factory=dict)
    """By file name: after how many bytes of the file the connection is closed, one per request."""
    answers: dict[str, list[int]] = field(default_factory=dict)
    """By the end of a path: status codes of the next requests; the last one stays."""
    pages: dict[str, str] = field(default_factory=dict)
    """By the end of a path: an HTML text that is served instead, with 200."""
    slow: dict[str, float] = field(default_factory=dict)
    """By file name: seconds between two halves of a body."""
    ranges: bool = True
    totals: bool = True
    """A part of a file says how long the whole is."""
    validators: bool = True
    missing: int = 404
    """Status of a page that is not there."""

    def channel(self, name: str = "cu128") -> str:
        return f"{self.root}/whl/nightly/{name}"

    def add(self, name: str, data: bytes, *, channel: str = "cu128", **how: object) -> File:
        file = File(data=data, **how)  # type: ignore[arg-type]
        self.files[f"/whl/nightly/{channel}/{name}".replace("//", "/")] = file
        return file

    def requests_for(self, name: str) -> list[dict[str, str]]:
        return [headers for path, headers in self.asked if path.endswith(name)]

    def nights(self, days: range, *, tags: tuple[str, ...] = ("cp311",), cu: str = "cu128") -> None:
        """Add one torch a night of October 2025."""
        for day in days:
            version = f"2.10.0.dev202510{day:02}+{cu}"
            for tag in tags:
                data = torch(version, seed=day, size=1000, cuda=f"{cu[2:4]}.{cu[4]}")
                self.add(f"torch-{version}-{tag}-{tag}-{PLATFORM}.whl", data, channel=cu)

    def page(self, path: str) -> bytes | None:
        """The page of one project: its newest 60 builds, `+` escaped, hashes behind a `#`."""
        channel, _, project = path.strip("/").rpartition("/")
        stem = project.replace("-", "_") + "-"
        found = {
            name: file
            for name, file in self.files.items()
            if name.startswith(f"/{channel}/{stem}") and file.listed
        }
        if not found:
            return None
        versions = sorted({_version(name) for name in found})[-WINDOW:]
        rows = []
        for name, file in sorted(found.items()):
            if _version(name) in versions:
                claim = hashlib.sha256(file.data).hexdigest() if file.claim is None else file.claim
                mark = f"#sha256={claim}" if claim else ""
                alone = ""
                if file.metadata is not None:
                    digest = hashlib.sha256(file.metadata).hexdigest()
                    alone = f' data-core-metadata="sha256={digest}"'
                rows.append(
                    f'    <a href="{quote(name)}{mark}"{alone}>{escape(name.rsplit("/", 1)[1])}'
                    "</a><br/>"
                )
        body = "\n".join(rows)
        return f"<!DOCTYPE html>\n<html>\n  <body>\n{body}\n  </body>\n</html>\n".encode()


def _version(name: str) -> str:
    return name.rsplit("/", 1)[1].split("-")[1]


@contextlib.contextmanager
def serving(index: Index | None = None) -> Iterator[Index]:
    """Serve an index on a port of its own."""
    index = index or Index()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:  # uv asks so before it takes a file by its address
            file = index.files.get(unquote(self.path))
            self.send_response(200 if file else 403)
            self.send_header("Content-Length", str(len(file.data) if file else 0))
            self.end_headers()

        def do_GET(self) -> None:
            path = unquote(self.path)
            index.asked.append((path, dict(self.headers)))
            status = next((s for end, s in index.answers.items() if path.endswith(end)), None)
            if status:
                code = status.pop(0) if len(status) > 1 else status[0]
                if code != 200:
                    return self.send(code, b"<html>refused</html>", "text/html")
            text = next((t for end, t in index.pages.items() if path.endswith(end)), None)
            if text is not None:
                return self.send(200, text.encode(), "text/html")
            if path.endswith("/"):
                body = index.page(path)
                return self.send(
                    200 if body else index.missing, body or b"no such page", "text/html"
                )
            if path.endswith(".metadata") and path.removesuffix(".metadata") in index.files:
                held = index.files[path.removesuffix(".metadata")].metadata
                return self.send(200 if held else 404, held or b"", "text/plain")
            file = index.files.get(path)
            if file is None:
                return self.send(403, b"<Error>AccessDenied</Error>", "application/xml")
            return self.file(path.rsplit("/", 1)[1], file.data)

        def file(self, name: str, data: bytes) -> None:
            tag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            same = self.headers.get("If-Range") == tag
            first = int(wanted[1]) if wanted and same and index.ranges else 0
            if first and first >= len(data):
                return self.send(416, b"", "text/plain")
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if part and index.ranges:
                return self.part(data, int(part[1]), int(part[2]))
            index.sent.append((name, first))
            self.send_response(206 if first else 200)
            self.send_header("Content-Type", "application/zip")
            self.send_header("Content-Length", str(len(data) - first))
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
            if index.validators:
                self.send_header("ETag", tag)
            self.end_headers()
            ends = index.cuts.get(name, [])
            end = ends.pop(0) if ends else len(data)
            self.wfile.write(data[first:end] if name not in index.slow else data[first : first + 9])
            if name in index.slow:
                self.wfile.flush()
                time.sleep(index.slow[name])
                self.wfile.write(data[first + 9 : end])
            if end < len(data):
                self.close_connection = True
            return None

        def part(self, data: bytes, first: int, last: int) -> None:
            self.send_response(206)
            body = data[first : last + 1]
            total = len(data) if index.totals else "*"
            self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def send(self, code: int, body: bytes, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # a client that did not wait
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    index.root = f"http://127.0.0.1:{server.server_port}"
    try:
        yield index
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
