"""`invoke publish` against real servers, where they are at hand: devpi-server, and nginx.

Skipped where they are not; tests/toys/programs.py says how each is had.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import programs
import pytest
from proved import LABEL, PROJECTS, TAG, make_wheel, said, shelve
from test_publish import (  # fixtures, and what every kind of index must hold
    NAMES,
    SECRET,
    code,  # noqa: F401
    original,  # noqa: F401
    publish,
    refusal,
    site,  # noqa: F401
    trusting,  # noqa: F401
    whole,
    with_login,
)
from test_serving import nginx
from upload_server import serving

from blackwheel.core.errors import Exit
from blackwheel.core.site import Site

# devpi-server


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def listens(port: int, process: subprocess.Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens after {seconds} s")


def told(url: str, method: str, words: object, login: str = "") -> dict[str, object]:
    """What devpi answers to a request of its JSON interface."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    headers |= {"X-Devpi-Auth": login} if login else {}
    asked = urllib.request.Request(url, json.dumps(words).encode(), headers, method=method)  # noqa: S310
    with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
        result = json.load(answer).get("result")
        return result if isinstance(result, dict) else {}


@pytest.fixture(scope="module")
def devpi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an index `toys/prod` that overwrites nothing, as a team's is."""
    server, init = programs.found("devpi-server"), programs.found("devpi-init")
    assert server and init
    folder, port = tmp_path_factory.mktemp("devpi"), free_port()
    subprocess.run(
        [init, "--serverdir", str(folder / "data"), "--no-root-pypi", "--root-passwd", SECRET],
        check=True,
        capture_output=True,
    )
    argv = [server, "--serverdir", str(folder / "data"), "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--enable-core-metadata"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        listens(port, process, 120)
        root = f"http://127.0.0.1:{port}"
        told(f"{root}/toys", "PUT", {"password": SECRET})
        token = told(f"{root}/+login", "POST", {"user": "toys", "password": SECRET})["password"]
        login = base64.b64encode(f"toys:{token}".encode()).decode()
        told(f"{root}/toys/prod", "PUT", {"bases": [], "volatile": False}, login)
        yield f"{root}/toys/prod/"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
@pytest.mark.needs("devpi-server", "devpi-init")
def test_devpi_gets_the_set_and_is_read_back_and_refuses_what_is_not_right(
    site: Site,  # noqa: F811
    devpi: str,
    tmp_path: Path,
    code: bytes,  # noqa: F811
) -> None:
    wrong = with_login(site)
    wrong.environment["UV_PUBLISH_PASSWORD"] = "wrong-8"  # type: ignore[index]  # noqa: S105
    error = refusal(wrong, devpi)
    assert (error.name, error.code) == ("upload-denied", Exit.INDEX)
    first = with_login(site)
    assert publish(first, devpi) == 0
    assert f"published: {NAMES[0]} sha256 " in said(first)
    assert "the index offers: JSON yes, metadata yes, ranges " in said(first)
    assert "installed by hash, imports toy, other" in said(first)
    again = with_login(site)
    assert publish(again, devpi) == 0
    assert all(f"already there: {name}" in said(again) for name in NAMES)
    assert all(SECRET not in said(one) for one in (first, again))
    shutil.rmtree(site.wheels / "toy")
    for name in PROJECTS:
        other = make_wheel(tmp_path / "w", name, code, module="changed = True\n")
        assert other.name == f"{name}-1.0+{LABEL}.1-{TAG}-{TAG}-linux_x86_64.whl"
        shelve(site, other)
    error = refusal(with_login(site), devpi)
    assert (error.name, error.code) == ("other-bytes", Exit.INDEX)


# nginx


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "nginx"
    folder.mkdir()
    return folder


@pytest.mark.needs("nginx")
def test_folder_is_read_back_through_nginx_and_through_none_that_serves_another(
    site: Site,  # noqa: F811
    tmp_path: Path,
    home: Path,
) -> None:
    to, other = tmp_path / "to", tmp_path / "other"
    (other / "toy" / "simple").mkdir(parents=True)
    with nginx(to, home) as address:
        assert publish(site, str(to), simple=f"{address}/toy/simple") == 0
        whole(to / "toy")
        assert "the index offers: JSON yes, metadata yes, ranges yes" in said(site)
        assert "installed by hash, imports toy, other" in said(site)
    with nginx(other, home) as address:
        error = refusal(site, str(to), simple=f"{address}/toy/simple/")
    assert (error.name, error.code) == ("not-what-was-sent", Exit.READBACK)


@pytest.mark.needs("nginx")
def test_nginx_that_takes_less_than_a_wheel_is_named(site: Site, home: Path) -> None:  # noqa: F811
    program = programs.found("nginx")
    assert program
    with serving() as server:
        port = free_port()
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {home}/{kind};" for kind in kinds)
        (home / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {home}/pid; error_log {home}/error.log;"
            f"events {{}} http {{ access_log off; {paths} client_max_body_size 2k;"
            f" server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {server.root}; }} }} }}",
            encoding="utf-8",
        )
        log = str(home / "error.log")
        process = subprocess.Popen([program, "-c", str(home / "nginx.conf"), "-e", log])
        try:
            listens(port, process, 20)
            error = refusal(with_login(site), f"http://127.0.0.1:{port}/upload/")
        finally:
            process.terminate()
            process.wait(20)
        assert (error.name, error.code) == ("upload-too-large", Exit.INDEX)
        assert server.uploads == 0
