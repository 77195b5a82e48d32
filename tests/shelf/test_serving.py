"""Shelves over HTTP: the server for a laptop and a real nginx give the same answers to clients."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import programs
import pytest
from page_reader import Reader
from test_index import environment, make_wheel, pip  # noqa: F401  pip is a fixture
from uv import find_uv_bin

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.receipts import document
from blackwheel.shelf import index
from blackwheel.shelf import server as serve

CONFIGURATION = Path(__file__).parents[2] / "docs" / "nginx.conf"
VERSION = "1.0+cu130torch2.11.0.sm120a.1"
KERNELS = {"native": 40, "family": 0, "ptx": 0, "missing": 0}
LIBRARY = {
    "path": "toy/_C.so",
    "size": 2048,
    "sha256": "a" * 64,
    "host_only": False,
    "elf_archs": [["sm_120a", 8]],
    "ptx_archs": [],
    "kernels_by_arch": [["sm_120a", 40]],
    "kernels": KERNELS,
    "examples": [],
    "unreadable": "",
}
SECTIONS = {
    "stack": {"name": "stable", "archs": ["12.0a"], "driver": 580},
    "torch": {"runtime": "2.11.0+cu130", "cuda": "13.0"},
    "audit": {"libraries": [LIBRARY], "links": [], "findings": []},
    "smoke": {"device": "import only", "kernels": {"12.0a": "not run: no GPU was found"}},
}


@dataclass(frozen=True)
class Answer:
    code: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Server:
    address: str
    wheel: index.ShelvedWheel
    folder: Path

    def get(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        parts = urlsplit(self.address)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
        with contextlib.closing(connection):
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=names)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, index.ShelvedWheel]:
    """A folder with the shelf `stable`, on it one wheel that takes long to download."""
    home = tmp_path_factory.mktemp("served")
    file = make_wheel(home, VERSION, requires="torch===2.11.0", padding=3 << 20)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    shelved = index.shelve(
        file, document.receipt(file.name, sha256, SECTIONS), home / "wheels" / "stable"
    )
    index.show_all(home / "wheels")
    return home / "wheels", shelved


@contextlib.contextmanager
def laptop(wheels: Path) -> Iterator[str]:
    server = serve.listening(wheels, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def nginx(wheels: Path, home: Path) -> Iterator[str]:
    """The shipped configuration, but for its root, its port and where a test may write."""
    program = programs.found("nginx")
    assert program
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = CONFIGURATION.read_text(encoding="utf-8")
    text = text.replace("/srv/wheels", str(wheels)).replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    writable = "".join(f"{kind}_temp_path {home}/{kind};\n" for kind in kinds)
    user = "user root;\n" if os.getuid() == 0 else ""  # pytest's folders are closed to others
    file = home / "nginx.conf"
    file.write_text(
        f"{user}daemon off;\nmaster_process off;\npid {home}/pid;\nerror_log {home}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{writable}{text}}}\n",
        encoding="utf-8",
    )
    process = subprocess.Popen([program, "-c", str(file), "-e", str(home / "error.log")])
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(
    scope="module", params=["laptop", pytest.param("nginx", marks=pytest.mark.needs("nginx"))]
)
def server(
    request: pytest.FixtureRequest,
    shelves: tuple[Path, index.ShelvedWheel],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    wheels, wheel = shelves
    opened = (
        laptop(wheels)
        if request.param == "laptop"
        else nginx(wheels, tmp_path_factory.mktemp("nginx"))
    )
    with opened as address:
        yield Server(address=address, wheel=wheel, folder=wheels)


JSON, HTML = "application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.v1+html"
PIP = f"{JSON}, {HTML}; q=0.1, text/html; q=0.01"
UV = f"{JSON}, {HTML};q=0.2, text/html;q=0.01"
PAGE = "/stable/simple/toy/"


@pytest.mark.parametrize("accept", [PIP, UV, JSON])
def test_client_that_prefers_json_gets_json(server: Server, accept: str) -> None:
    answer = server.get(PAGE, Accept=accept)
    assert (answer.code, answer.headers["content-type"]) == (200, JSON)
    assert "Accept" in answer.headers["vary"]
    assert json.loads(answer.body)["files"][0]["hashes"] == {"sha256": server.wheel.sha256}


@pytest.mark.parametrize("accept", ["", "text/html", "*/*"])
def test_browser_and_old_pip_get_html(server: Server, accept: str) -> None:
    answer = server.get(PAGE, **({"Accept": accept} if accept else {}))
    assert answer.code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert f"#sha256={server.wheel.sha256}" in answer.body.decode()


def test_root_of_the_simple_api_is_negotiated_too(server: Server) -> None:
    assert json.loads(server.get("/stable/simple/", Accept=PIP).body)["projects"] == [
        {"name": "toy"}
    ]
    assert b'<a href="toy/">' in server.get("/stable/simple/", Accept="text/html").body


def test_folder_without_its_slash_is_redirected_to_the_same_host(server: Server) -> None:
    answer = server.get(PAGE.rstrip("/"), Accept=PIP)
    assert (answer.code, answer.headers["location"]) == (301, PAGE)


@pytest.mark.parametrize("plus", ["%2B", "%2b", "+"])
def test_plus_in_a_name_is_a_plus(server: Server, plus: str) -> None:
    name = server.wheel.path.name.replace("+", plus)
    answer = server.get(f"/stable/{name}", method="HEAD")
    assert (answer.code, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) == server.wheel.size


@pytest.mark.parametrize(
    ("asked", "begin", "end"), [("bytes=0-9", 0, 10), ("bytes=-7", -7, None), ("bytes=9-", 9, None)]
)
def test_ranges_of_a_wheel(server: Server, asked: str, begin: int, end: int | None) -> None:
    answer = server.get(f"/stable/{server.wheel.path.name}", Range=asked, Accept_Encoding="gzip")
    whole = server.wheel.path.read_bytes()
    assert (answer.code, answer.body) == (206, whole[begin:end])
    first = begin % len(whole)
    last = first + len(answer.body) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"


def test_range_beyond_the_end_is_refused(server: Server) -> None:
    answer = server.get(f"/stable/{server.wheel.path.name}", Range="bytes=99999999-")
    assert answer.code == 416
    assert answer.headers["content-range"] == f"bytes */{server.wheel.size}"


def test_what_did_not_change_is_not_sent_again(server: Server) -> None:
    first = server.get(PAGE, Accept=PIP)
    assert first.headers["cache-control"] == "no-cache"
    again = server.get(PAGE, Accept=PIP, If_None_Match=first.headers["etag"])
    assert (again.code, again.body) == (304, b"")


@pytest.mark.parametrize(
    "path",
    ["/stable/.lock", "/stable/none.whl", "/stable/%2e%2e/%2e%2e/secret", "/../secret", "/%00"],
)
def test_what_is_hidden_missing_or_outside_is_not_served(server: Server, path: str) -> None:
    (server.folder.parent / "secret").write_text("outside", encoding="utf-8")
    answer = server.get(path)
    assert answer.code in (400, 404)
    assert b"outside" not in answer.body


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_installer_takes_metadata_and_wheel_from_a_server(
    server: Server,
    tool: str,
    tmp_path: Path,
    pip: Path,  # noqa: F811
) -> None:
    command = [sys.executable, str(pip)] if tool == "pip" else [find_uv_bin(), "pip"]
    words = ["--target", str(tmp_path / "target"), "--no-deps", f"toy=={VERSION}"]
    where = ["--index-url", f"{server.address}/stable/simple/"]
    python = ["--python", sys.executable] if tool == "uv" else []
    done = subprocess.run(
        [*command, "install", *python, *where, *words],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "target/toy/__init__.py").read_text() == f"version = {VERSION!r}\n"


# Pages for people


def test_links_lead_from_all_stacks_to_the_audit_of_a_wheel(server: Server) -> None:
    path, seen = "/", []
    for name in ("stable", f"{sys.version_info.major}", "Audit"):
        answer = server.get(path)
        assert answer.code == 200
        assert answer.headers["content-type"].startswith("text/html")
        reader = Reader(answer.body.decode())
        seen.append(reader)
        path = urljoin(path, reader.links[name])
    audit = Reader(server.get(path).body.decode())
    assert f"sha256 {server.wheel.sha256}" in audit.words
    assert "40 of 40 run natively" in audit.words
    for shown in ("2.11.0+cu130", "12.0a", "580 or newer"):
        assert all(shown in reader.words for reader in seen)
    for name in ("Receipt", "File", "Wheels by stack", "stable"):
        assert server.get(urljoin("/stable/", seen[2].links[name])).code == 200


def test_port_that_another_has_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BlackwheelError) as caught:
            serve.listening(Path(), port)
    assert caught.value.code is Exit.MACHINE
    assert str(caught.value) == (
        "error: port-taken\n"
        f"  port {port} of 127.0.0.1 cannot be had: Address already in use\n"
        "  where: --port\n"
        "  fix:   --port 0 takes any that is free"
    )


def test_word_that_is_no_port_is_refused() -> None:
    with pytest.raises(BlackwheelError) as caught:
        serve.port_number("http")
    assert str(caught.value) == (
        "error: bad-port\n  'http' is no port\n  where: --port\n"
        "  fix:   --port 8642, or 0 for any that is free"
    )
