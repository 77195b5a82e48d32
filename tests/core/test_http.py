"""Answers that lie, drip or have no end: each has a name, a bound, and no traceback."""

from __future__ import annotations

import gzip
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from blackwheel.core.http import AbsentError, FailedError, Patience, opened, page
from blackwheel.core.simple_index import NoPageError, project_page

HURRIED = Patience(tries=2, connect=2, read=0.4, whole=2.0, pause=lambda _: None)
JSON = "application/vnd.pypi.simple.v1+json"


def answered(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", "Connection: close", *headers]
    if not any(line.startswith("Content-Length") for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def as_json(value: object, text: str = "") -> bytes:
    return answered((text or json.dumps(value)).encode(), f"Content-Type: {JSON}")


@pytest.fixture
def serve() -> Iterator[Callable[[bytes, float], str]]:
    """Serve bytes to every connection; with `drip`, then one more byte each so many seconds."""
    servers, workers = [], []

    def start(data: bytes, drip: float = 0.0) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def talk(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(1 << 16)
                    connection.sendall(data)
                    ends = time.monotonic() + 30  # a test whose bound is broken fails, and ends
                    while drip and time.monotonic() < ends:
                        time.sleep(drip)
                        connection.sendall(b"x" if drip > 0.001 else b"x" * (1 << 20))
                except OSError:
                    return

        def work() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        workers.append(threading.Thread(target=work, daemon=True))
        workers[-1].start()
        return f"http://127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)  # wakes accept: else it would serve a later test's socket
    for worker in workers:
        worker.join(10)
    for server in servers:
        server.close()


LYING = {
    "other version": (as_json({"meta": {"api-version": "2.0"}, "name": "a", "files": []}), "2.0"),
    "deep": (as_json(None, "[" * 100_000), "nested deeper"),
    "deep in braces": (as_json(None, '{"a":' * 5_000), "nested deeper"),
    "a list": (as_json([]), "is no page"),
    "wrong types": (as_json({"meta": 1, "name": [], "files": 3}), "is no page"),
    "no JSON": (as_json(None, "{"), "is no page"),
    "no such charset": (answered(b"<a>", "Content-Type: text/html; charset=x-none"), ""),
    "picture": (answered(b"x", "Content-Type: image/png"), "image/png"),
    "bad redirect": (answered(b"", "Location: http://[", status="302 Found"), "none"),
    "redirect to no port": (
        answered(b"", "Location: http://127.0.0.1:99999/", status="302 Found"),
        "is no http address",
    ),
    "redirect to a file": (
        answered(b"", "Location: file:///etc/passwd", status="302 Found"),
        "is no http address",
    ),
    "busy": (answered(b"", "Retry-After: ²", status="503 Busy"), "answers 503 Busy (2 tries)"),
    "busy for ever": (answered(b"", "Retry-After: " + "9" * 400, status="429 x"), "429"),
    "teapot": (answered(b"", status="418 I am a teapot"), "418"),
    "long name": (
        as_json({"meta": {"api-version": "1.0"}, "name": "a" * 500_000, "files": []}),
        "names a project of 500000 letters",
    ),
    "no HTTP": (b"SSH-2.0-x\r\n", ""),
    "nothing": (b"", ""),
    "cut": (answered(b"12", "Content-Length: 3"), "cut off at 2 of 3"),
    "no gzip": (answered(b"12", "Content-Encoding: gzip"), "decode"),
}


@pytest.mark.parametrize("kind", LYING)
def test_a_lying_index_is_named(serve: Callable[..., str], kind: str) -> None:
    data, said = LYING[kind]
    try:
        project_page(serve(data), "toy", patience=HURRIED)
    except (FailedError, AbsentError) as error:
        assert said in str(error)
        assert "\n" not in str(error)
    else:
        assert not said


def test_a_length_that_is_no_number_is_none(serve: Callable[..., str]) -> None:
    address = serve(answered(b"whole", "Content-Length: abc"))
    assert page(address, patience=HURRIED).body == b"whole"


@pytest.mark.parametrize(
    "address",
    ["http://[::1", "http://127.0.0.1:99999", "ftp://x", "x", "", "http://", "http://a..b/"],
)
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(FailedError) as error:
        page(address, patience=HURRIED)
    assert not error.value.again or "a..b" in address


@pytest.mark.parametrize("head", ["body", "headers"])
def test_a_server_that_drips_is_given_up(serve: Callable[..., str], head: str) -> None:
    data = answered(b"", "Content-Length: 9999") if head == "body" else b"HTTP/1.1 200 OK\r\nX: "
    began = time.monotonic()
    with pytest.raises(FailedError) as error:
        page(serve(data, 0.05), patience=HURRIED)
    assert "too slow" in str(error.value) or "no whole answer" in str(error.value)
    assert time.monotonic() - began < 10


HEAD = b"HTTP/1.1 200 OK\r\nX: "
BODY = answered(b"", "Content-Length: 9999")


@pytest.mark.parametrize(
    ("data", "read", "whole", "why"),
    [
        (BODY, 0.4, 300.0, "too slow"),
        (BODY, 300.0, 0.6, "no whole answer within 0.6 s"),
        (HEAD, 300.0, 0.6, "no whole answer within 0.6 s"),
    ],
    ids=["speed of a body", "seconds of a page", "seconds of a head"],
)
def test_each_bound_ends_a_drip_alone(
    serve: Callable[..., str], data: bytes, read: float, whole: float, why: str
) -> None:
    """With one of them broken the other would end it: each is seen without the other."""
    patience = Patience(tries=1, connect=2, read=read, whole=whole, pause=lambda _: None)
    url = serve(data, 0.05)
    with pytest.raises(FailedError) as error:
        if data is HEAD:  # of a file: `page` has a bound over all of it
            with opened(url, patience=patience):
                raise AssertionError("it answered")
        page(url, patience=patience)
    assert why in str(error.value)


def test_an_endless_page_ends_at_its_bound(serve: Callable[..., str]) -> None:
    endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    with pytest.raises(FailedError) as error:
        page(serve(endless, 0.0005), patience=Patience(tries=1), most=8 << 20)
    assert str(error.value) == "does not end: more than 8388608 bytes"


def test_a_packed_page_is_bounded_by_what_it_unpacks_to(serve: Callable[..., str]) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    with pytest.raises(FailedError) as error:
        page(serve(answered(bomb, "Content-Encoding: gzip")), patience=HURRIED, most=1 << 20)
    assert "does not end" in str(error.value)


def test_no_page_is_no_reason_to_ask_again() -> None:
    assert not NoPageError("x").again


def test_a_socks_proxy_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)  # as where pysocks is not installed
    monkeypatch.setenv("ALL_PROXY", "socks5h://127.0.0.1:1")
    with pytest.raises(FailedError) as error:
        page("http://index.invalid/simple", patience=HURRIED)
    assert "SOCKS" in str(error.value)
    assert "is no http address" not in str(error.value)
