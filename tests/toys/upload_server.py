"""A server that takes uploads as indexes do, and goes wrong as servers and proxies do."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import threading
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

from packaging.utils import canonicalize_name

SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
LOGIN = b"<!DOCTYPE html><html><title>Sign in</title><body><form>password</form></body></html>"


@dataclass
class Server:
    """What it holds, what it was asked, and how it answers the next uploads."""

    root: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """By file name."""
    answers: list[int | str] = field(default_factory=list)
    """To the next uploads: a status, or `html`, `silence`, `redirect`, `cut`, `landed-500`, `drop`,
    `echo`; none left: as it should be."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Authorization of each request."""
    login: tuple[str, str] | None = None
    """Who may write and read."""
    serves: dict[str, bytes] = field(default_factory=dict)
    """By file name: other bytes than those that its page lists."""
    pages: bytes = b""
    """What every page is instead."""
    hashes: bool = True
    json: bool = True
    metadata: bool = True
    ranges: bool = True
    status: int = 200
    """Of every answer to a reader."""

    @property
    def upload(self) -> str:
        return f"{self.root}/upload/"

    @property
    def simple(self) -> str:
        return f"{self.root}/upload/simple/"

    @property
    def uploads(self) -> int:
        """How often somebody tried to."""
        return sum(method == "POST" for method, _, _ in self.asked)

    def allowed(self, header: str) -> bool:
        if self.login is None:
            return True
        return header == "Basic " + b64encode(":".join(self.login).encode()).decode()

    def page(self, project: str, *, as_json: bool) -> bytes | None:
        names = [n for n in sorted(self.files) if canonicalize_name(n.split("-")[0]) == project]
        if not names:
            return None
        entries, links = [], []
        for name in names:
            sha256 = hashlib.sha256(self.files[name]).hexdigest()
            url = f"../../../files/{quote(name)}"
            alone = hashlib.sha256(metadata_of(self.files[name]) or b"").hexdigest()
            entries.append(
                {
                    "filename": name,
                    "url": url,
                    "hashes": {"sha256": sha256} if self.hashes else {},
                    **({"core-metadata": {"sha256": alone}} if self.metadata else {}),
                }
            )
            mark = f"#sha256={sha256}" if self.hashes else ""
            core = f' data-core-metadata="sha256={alone}"' if self.metadata else ""
            links.append(f'<a href="{url}{mark}"{core}>{escape(name)}</a>')
        if as_json:
            meta = {"api-version": "1.0"}
            return json.dumps({"meta": meta, "name": project, "files": entries}).encode()
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()


def metadata_of(wheel: bytes) -> bytes | None:
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
            return archive.read(name)
    except (ValueError, zipfile.BadZipFile):
        return None


def uploaded(content_type: str, body: bytes) -> tuple[str, bytes]:
    """File name and bytes of an upload's form."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    for part in message.iter_parts():
        if part.get_param("name", header="content-disposition") == "content":
            data = part.get_payload(decode=True)
            assert isinstance(data, bytes)
            return str(part.get_filename()), data
    raise ValueError("no file in the form")


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Serve an empty index on a port of its own."""
    state = Server()
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def heard(self) -> bool:
            sent = self.headers.get("Authorization", "")
            state.asked.append((self.command, self.path, sent))
            if state.allowed(sent):
                return True
            self.send(401, b"who are you?", {"WWW-Authenticate": 'Basic realm="toys"'})
            return False

        def do_POST(self) -> None:  # noqa: PLR0911
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not self.heard():
                return None
            answer = state.answers.pop(0) if state.answers else 200
            if answer == "silence":
                ended.wait(60)
                self.close_connection = True
                return None
            if answer == "drop":
                self.close_connection = True
                return None
            if answer == "redirect":
                return self.send(302, b"", {"Location": "/elsewhere/"})
            if answer == "html":
                return self.send(200, LOGIN, {"Content-Type": "text/html"})
            if answer == "echo":
                seen = "".join(f"{name}: {value}\n" for name, value in self.headers.items())
                return self.send(400, seen.encode())
            if isinstance(answer, int) and answer != 200:
                return self.send(answer, f"this is what {answer} says".encode())
            name, data = uploaded(self.headers["Content-Type"], body)
            if name in state.files and state.files[name] != data:
                return self.send(409, b"a file of that name exists")
            state.files[name] = data[: len(data) // 2] if answer == "cut" else data
            return (
                self.send(500, b"and yet it is there")
                if answer == "landed-500"
                else self.send(200, b"")
            )

        def do_GET(self) -> None:  # noqa: PLR0911
            if not self.heard():
                return None
            path = unquote(self.path)
            if state.status != 200:
                return self.send(state.status, b"not now")
            if state.pages and not path.startswith("/files/"):
                return self.send(200, state.pages, {"Content-Type": "text/html"})
            found = re.fullmatch(r"/upload/simple/([^/]*)/?", path)
            if found:
                as_json = state.json and SIMPLE_JSON in self.headers.get("Accept", "")
                kind = SIMPLE_JSON if as_json else "text/html"
                root = b'{"meta": {"api-version": "1.0"}, "projects": []}' if as_json else b"<html>"
                page = state.page(found[1], as_json=as_json) if found[1] else root
                return self.send(200 if page else 404, page or b"none", {"Content-Type": kind})
            name = path.removeprefix("/files/")
            if state.metadata and name.endswith(".metadata"):
                wheel = state.files.get(name.removesuffix(".metadata"))
                text = metadata_of(wheel) if wheel else None
                return self.send(200 if text else 404, text or b"none")
            data = state.serves.get(name, state.files.get(name))
            if data is None:
                return self.send(404, b"none")
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if wanted and state.ranges:
                first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
                extent = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
                return self.send(206, data[first : last + 1], extent)
            return self.send(200, data)

        def send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(code)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
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
    state.root = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
