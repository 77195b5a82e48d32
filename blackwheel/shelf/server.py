"""Serves shelves over HTTP for a laptop and for tests; teams use docs/nginx.conf.

HTML or JSON by Accept (PEP 691), one byte range a request (RFC 9110), ETag, gzip for small texts.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.shelf import index
from blackwheel.stacks import loader

HOST: Final = "127.0.0.1"
"""Who wants others to read, or TLS, or a name for it, takes docs/nginx.conf."""
PORT: Final = 8642
SIMPLE_JSON: Final = "application/vnd.pypi.simple.v1+json"
SIMPLE_HTML: Final = "application/vnd.pypi.simple.v1+html"
_TYPES: Final = {".html": "text/html; charset=utf-8", ".json": "application/json"}
_PACKED: Final = (".html", ".json", ".metadata")
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")


def serve_index(site: Site, stack: str = "", port: int = PORT) -> None:
    """Serve the shelves until Ctrl-C; with a stack, name only its index."""
    names = [stack] if stack else [path.name for path in sorted(site.wheels.glob("*/"))]
    if stack:
        loader.load(stack, site.constraints)
    names = [name for name in names if index.shelved(site.wheels / name)]
    if not names:
        raise BlackwheelError(
            "nothing-to-serve",
            f"no wheel is on {f'the shelf of {stack}' if stack else 'any shelf'}",
            where="wheels/",
            fix=f"invoke build-wheels --stack {stack or 'quickstart'}",
            code=Exit.INDEX,
        )
    index.show_all(site.wheels)
    with listening(site.wheels, port, site.console.say) as server:
        address = f"http://{HOST}:{server.server_port}"
        site.console.result(f"page   {address}/{f'{stack}/' if stack else ''}")
        for name in names:
            site.console.result(f"index  {address}/{name}/simple/")
        site.console.say("only this machine can read it; Ctrl-C ends it")
        server.serve_forever()


def port_number(text: str) -> int:
    """Read a port; raise a named error where Invoke would show a traceback."""
    if not text.isdecimal() or int(text) > 65535:
        raise BlackwheelError(
            "bad-port",
            f"'{text}' is no port",
            where="--port",
            fix="--port 8642, or 0 for any that is free",
            code=Exit.USAGE,
        )
    return int(text)


def listening(
    folder: Path, port: int, say: Callable[[str], None] = lambda _: None
) -> ThreadingHTTPServer:
    """Return a server over a folder of shelves, listening on loopback; port 0 takes any."""

    class Bound(_Handler):
        root = folder.resolve()
        log_line = staticmethod(say)

    try:
        return ThreadingHTTPServer((HOST, port), Bound)
    except (OSError, OverflowError) as error:
        raise BlackwheelError(
            "port-taken",
            f"port {port} of {HOST} cannot be had: {getattr(error, 'strerror', None) or error}",
            where="--port",
            fix="--port 0 takes any that is free",
            code=Exit.MACHINE,
        ) from error


def wants_json(accept: str) -> bool:
    """Tell whether the Accept header prefers the JSON form to the HTML forms, or equally."""
    asked = {}
    for item in accept.split(","):
        name, *parameters = (word.strip() for word in item.split(";"))
        weights = [word[2:] for word in parameters if word.startswith("q=")]
        try:
            asked[name.lower()] = float(weights[0]) if weights else 1.0
        except ValueError:
            asked[name.lower()] = 0.0
    json = max(asked.get(SIMPLE_JSON, 0), asked.get(SIMPLE_JSON.replace("v1", "latest"), 0))
    return json > 0 and json >= max(asked.get(SIMPLE_HTML, 0), asked.get("text/html", 0))


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Return first and last byte of a range; None for no range, or one that is ignored.

    Raises ValueError for one that the file does not have.
    """
    found = _RANGE.fullmatch(header)
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        begin, end = max(0, size - int(last)), size - 1
        if not int(last):
            raise ValueError(header)
    else:
        begin, end = int(first), min(int(last or size), size - 1)
    if begin >= size or end < begin:
        raise ValueError(header)
    return begin, end


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of what lies in `root`."""

    root: Path
    log_line: Callable[[str], None]
    protocol_version = "HTTP/1.1"
    server_version = "blackwheel"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with a file, a range of it, or why not."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer as GET does, without the body."""
        self._answer()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Progress, one line a request."""
        type(self).log_line(format % arguments)

    def _answer(self) -> None:
        raw = urlsplit(self.path).path
        path = self._found(unquote(raw))
        if path is None:
            self._refuse(HTTPStatus.NOT_FOUND)
        elif path.is_dir():
            self._refuse(HTTPStatus.MOVED_PERMANENTLY, ("Location", f"{raw}/"))
        else:
            self._file(path)

    def _found(self, asked: str) -> Path | None:
        """The file or folder of a path; nothing outside of the root, and nothing hidden."""
        parts = asked.strip("/").split("/")
        if any(part in ("..", ".") or part.startswith(".") or "\0" in part for part in parts):
            return None
        path = self.root / asked.strip("/")
        if asked.endswith("/"):
            negotiated = wants_json(self.headers.get("Accept", "")) and "simple" in parts
            path /= "index.json" if negotiated else "index.html"
        inside = path.exists() and path.resolve().is_relative_to(self.root)
        return path if inside else None

    def _file(self, path: Path) -> None:
        state = path.stat()
        tag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'
        headers = [("ETag", tag), ("Cache-Control", "no-cache"), ("Accept-Ranges", "bytes")]
        headers += [("Content-Type", self._type(path)), ("Vary", "Accept, Accept-Encoding")]
        if self.headers.get("If-None-Match", "") == tag:
            self._head(HTTPStatus.NOT_MODIFIED, headers)
            return
        try:
            part = byte_range(self.headers.get("Range", ""), state.st_size)
        except ValueError:
            size = ("Content-Range", f"bytes */{state.st_size}")
            self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, size)
            return
        if part is None and path.suffix in _PACKED and self._takes_gzip():
            body = gzip.compress(path.read_bytes(), mtime=0)
            headers += [("Content-Encoding", "gzip"), ("Content-Length", str(len(body)))]
            self._head(HTTPStatus.OK, headers)
            self._body(lambda sink: sink.write(body))
            return
        begin, end = part or (0, state.st_size - 1)
        headers.append(("Content-Length", str(end - begin + 1)))
        if part:
            headers.append(("Content-Range", f"bytes {begin}-{end}/{state.st_size}"))
        self._head(HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK, headers)
        self._body(lambda sink: _copy(path, begin, end, sink))

    def _type(self, path: Path) -> str:
        if path.name == "index.json":
            return SIMPLE_JSON
        accept = self.headers.get("Accept", "")
        if path.name == "index.html" and "simple" in path.parts and SIMPLE_HTML in accept:
            return SIMPLE_HTML
        return _TYPES.get(path.suffix, "application/octet-stream")

    def _takes_gzip(self) -> bool:
        return "gzip" in self.headers.get("Accept-Encoding", "")

    def _head(self, status: HTTPStatus, headers: list[tuple[str, str]]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: HTTPStatus, *headers: tuple[str, str]) -> None:
        body = f"{status.value} {status.phrase}\n".encode()
        about = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
        self._head(status, [*about, *headers])
        self._body(lambda sink: sink.write(body))

    def _body(self, write: Callable[[BufferedIOBase], object]) -> None:
        if self.command == "HEAD":
            return
        try:
            write(self.wfile)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def _copy(path: Path, begin: int, end: int, sink: BufferedIOBase) -> None:
    with path.open("rb") as source:
        source.seek(begin)
        left = end - begin + 1
        while left > 0 and (block := source.read(min(left, 1 << 20))):
            left -= len(block)
            sink.write(block)
