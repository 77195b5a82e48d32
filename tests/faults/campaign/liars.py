"""Servers that lie, drip, redirect and break off, around one that tells the truth."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""
Truth = Callable[[str, str, dict[str, str], bytes], Answer]
"""From method, path, headers and body."""
STATUSES = (
    400,
    401,
    403,
    404,
    407,
    408,
    410,
    418,
    425,
    429,
    451,
    500,
    502,
    503,
    504,
    599,
    204,
    206,
    304,
)


@dataclass
class Lie:
    """What is done to an answer, and to which paths."""

    name: str
    to: Callable[[str], bool] = lambda _: True
    times: int = 1 << 30
    """How many answers are lies; the others are true."""
    status: int = 0
    location: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: Callable[[bytes], bytes] | None = None
    raw: Callable[[bytes], Iterator[bytes]] | None = None
    """What is sent instead of the whole answer."""


class Liar:
    """A server on a port of its own, whose lie may be changed at any time."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.lie: Lie | None = None
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.root = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(30)
            asked = _request(connection)
            if asked is None:
                return
            method, path, headers, body = asked
            status, told, data = self.truth(method, path, headers, body)
            lie = self.lie
            if lie and lie.times > 0 and lie.to(path):
                lie.times -= 1
                told = {**told, **lie.headers}
                status = lie.status or status
                if lie.location:
                    told["Location"] = lie.location.replace("ROOT", self.root).replace("PATH", path)
                data = lie.body(data) if lie.body else data
                if lie.raw:
                    for part in lie.raw(_whole(status, told, data)):
                        connection.sendall(part)
                    return
            connection.sendall(_whole(status, told, data))


def _request(connection: socket.socket) -> tuple[str, str, dict[str, str], bytes] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        content = connection.recv(1 << 16)
        if not content or len(data) > 1 << 20:
            return None
        data += content
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    if headers.get("expect"):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding") == "chunked":
        while not body.endswith(b"0\r\n\r\n"):
            body += connection.recv(1 << 16)
        body = _unchunked(body)
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(1 << 16)
    method, path, *_ = first.split(" ")
    return method, path, headers, body


def _unchunked(data: bytes) -> bytes:
    found = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        count = int(size, 16)
        found, data = found + rest[:count], rest[count + 2 :]
        if not count:
            break
    return found


def _whole(status: int, headers: dict[str, str], body: bytes) -> bytes:
    told = {"Content-Length": str(len(body)), "Connection": "close", **headers}
    lines = "".join(f"{n}: {v}\r\n" for n, v in told.items() if v != "-")
    return f"HTTP/1.1 {status} Because\r\n{lines}\r\n".encode("utf-8", "replace") + body


def drip(data: bytes, seconds: float) -> Iterator[bytes]:
    """Send a byte at a time."""
    for number in range(len(data)):
        yield data[number : number + 1]
        time.sleep(seconds)


def _endless(data: bytes) -> Iterator[bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    yield b"\r\n".join(lines) + b"\r\n\r\n" + body
    for _ in range(3000):  # 192 MiB, and no end was told
        yield b" " * (1 << 16)


def transport_lies(dice: Random) -> Lie:
    """Return one of the lies that any HTTP server may tell."""
    cut = dice.random()
    zipped = zlib.compress(bytes(64 << 20), 9) if dice.random() < 0.05 else zlib.compress(b"x" * 99)
    junk = dice.randbytes(400)
    lies: list[Callable[[], Lie]] = [
        lambda: Lie("redirect to itself", status=302, location="ROOT" + "PATH"),
        lambda: Lie("redirect that grows", status=301, location="ROOT" + "PATH/x"),
        lambda: Lie("redirect to [", status=302, location="http://["),
        lambda: Lie("redirect to port 99999", status=307, location="http://127.0.0.1:99999/"),
        lambda: Lie("redirect to a file", status=302, location="file:///etc/passwd"),
        lambda: Lie("redirect to nobody", status=308, location="http://nobody.invalid/"),
        lambda: Lie("redirect to a closed port", status=302, location="http://127.0.0.1:1/"),
        lambda: Lie("redirect to nowhere", status=302),
        lambda: Lie("redirect to javascript", status=302, location="javascript:alert(1)"),
        lambda: Lie("redirect to bytes", status=302, location="http://ex\x07ample\u2028/\x00"),
        lambda: Lie("length is no number", headers={"Content-Length": "abc"}),
        lambda: Lie("length is negative", headers={"Content-Length": "-5"}),
        lambda: Lie("length is huge", headers={"Content-Length": "9" * 30}),
        lambda: Lie("length is too long", headers={"Content-Length": "999999"}),
        lambda: Lie("length is too short", headers={"Content-Length": "3"}),
        lambda: Lie("no length", headers={"Content-Length": "-"}),
        lambda: Lie("chunks are none", headers={"Transfer-Encoding": "chunked"}),
        lambda: Lie("gzip is none", headers={"Content-Encoding": "gzip"}),
        lambda: Lie(
            "deflate of much", headers={"Content-Encoding": "deflate"}, body=lambda _: zipped
        ),
        lambda: Lie("strange encoding", headers={"Content-Encoding": "x-nobody"}),
        lambda: Lie("strange type", headers={"Content-Type": "text/plain; charset=utf-99"}),
        lambda: Lie("login page", headers={"Content-Type": "text/html"}, body=lambda _: LOGIN),
        lambda: Lie("empty body", body=lambda _: b""),
        lambda: Lie("zeros", body=lambda data: bytes(len(data))),
        lambda: Lie("junk body", body=lambda _: junk),
        lambda: Lie("cut", raw=lambda data: iter([data[: int(len(data) * cut)]])),
        lambda: Lie("closes at once", raw=lambda _: iter([])),
        lambda: Lie("no HTTP", raw=lambda _: iter([junk])),
        lambda: Lie("HTTP/0.9", raw=lambda data: iter([data.partition(b"\r\n\r\n")[2]])),
        lambda: Lie("long head", headers={f"X-{n}": "y" * 60 for n in range(2000)}),
        lambda: Lie("long line", headers={"X-Long": "y" * 200_000}),
        lambda: Lie("strange status", raw=lambda _: iter([b"HTTP/1.1 abc def\r\n\r\n"])),
        lambda: Lie("status 1000", status=1000),
        lambda: Lie("endless", raw=_endless),
        lambda: Lie("many 100s", raw=lambda data: iter([b"HTTP/1.1 100 C\r\n\r\n" * 5000, data])),
    ]
    lies += [lambda status=status: Lie(f"status {status}", status=status) for status in STATUSES]  # type: ignore[misc]
    for after in ("0", "1", "-1", "abc", "\u00b2", "Thu, 01 Jan 1970 00:00:00 GMT"):
        lies.append(
            lambda after=after: Lie(
                f"retry after {after}", status=429, headers={"Retry-After": after}
            )
        )  # type: ignore[misc]
    made = dice.choice(lies)()
    if dice.random() < 0.2:
        made.times = dice.choice([1, 2])
        made.name += f", {made.times} times"
    return made


def page_prefix(path: str) -> bool:
    """Tell a page of an index from its files."""
    return path.startswith("/simple/")


LOGIN = b"<!DOCTYPE html><html><title>Sign in</title><body><form>password</form></body></html>"
