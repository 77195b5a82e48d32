"""Pages in a real browser: no text clipped or beyond the screen, wide, narrow and dark."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import programs
import pytest
from many_wheels import many_wheels

from blackwheel.shelf import server as serve

pytestmark = pytest.mark.needs("chromium", "chromedriver")

CLIPPED = """
const wide = document.documentElement.scrollWidth > innerWidth ? ["the page"] : [];
const bars = document.querySelector(".timeline");
for (const one of document.querySelectorAll("body *")) {
  const style = getComputedStyle(one), box = one.getBoundingClientRect();
  if (!box.width || one.closest("script, style, .lanes")) continue;
  const own = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const more = one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 3;
  const cut = more && style.display !== "inline" && style.overflow !== "visible";
  const range = document.createRange();
  range.selectNodeContents(one);
  const right = Math.max(box.right, range.getBoundingClientRect().right);
  if (own && (cut || right > innerWidth + 1 && !bars?.contains(one))) wide.push(one.outerHTML);
}
for (const one of document.querySelectorAll(".axis li")) {
  const beyond = one.getBoundingClientRect().right > one.parentNode.getBoundingClientRect().right;
  if (beyond || one.scrollHeight > 24) wide.push(one.outerHTML);
}
return wide;
"""
"""What a reader cannot read: text cut by its box, or beyond the right edge of the screen."""
OVERLAP = """
const boxes = [...document.querySelectorAll(".lanes a")].map(one => one.getBoundingClientRect());
return boxes.some((a, i) => boxes.slice(i + 1).some(b =>
  a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom && b.top < a.bottom));
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many_wheels(tmp_path_factory.mktemp("many"))


@pytest.fixture(scope="module")
def address(wheels: Path) -> Iterator[str]:
    server = serve.listening(wheels, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


class Tab:
    """WebDriver as the W3C has it: ten lines that spare a dependency."""

    def __init__(self, port: int, home: Path) -> None:
        self.port, self.path = port, ""
        quiet = "disable-gpu disable-quic no-first-run disable-background-networking"
        quiet += " disable-component-update disable-sync no-sandbox headless"
        words = [f"--{word}" for word in quiet.split()] + [f"--user-data-dir={home / 'profile'}"]
        wanted = {"alwaysMatch": {"goog:chromeOptions": {"args": words}}}
        session = self.call("POST", "/session", {"capabilities": wanted})["sessionId"]
        self.path = f"/session/{session}"

    def call(self, method: str, path: str, value: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        with contextlib.closing(connection):
            body = json.dumps(value or {}) if method == "POST" else None
            connection.request(method, self.path + path, body)
            answer = connection.getresponse()
            found = json.load(answer)["value"]
        assert answer.status == 200, found
        return found

    def cdp(self, command: str, **parameters: object) -> None:
        self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def script(self, text: str, *values: str) -> Any:
        return self.call("POST", "/execute/sync", {"script": text, "args": values})

    def open(self, url: str, width: int = 1200, theme: str = "light") -> None:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.cdp("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": theme}
        self.cdp("Emulation.setEmulatedMedia", features=[scheme])
        self.call("POST", "/url", {"url": url})


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    driver = programs.found("chromedriver")
    assert driver
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = next(
            int(found[1])
            for line in process.stdout
            if (found := re.search(r"started successfully on port (\d+)", line))
        )
        opened = Tab(port, tmp_path_factory.mktemp("browser"))
        yield opened
        opened.call("DELETE", "")
    finally:
        process.terminate()
        process.wait(20)


def pages(wheels: Path) -> list[str]:
    """One page of each kind, as an address below the server."""
    found = ["/", "/stable/"]
    for name in ("flash_attn*.10-cp312*", "vllm*cp312*"):
        found += [quote(f"/stable/{one.name}") for one in wheels.glob(f"stable/{name}.html")]
    assert len(found) == 8
    return found


@pytest.mark.parametrize(
    ("width", "theme"), [(1200, "dark"), (1190, "light"), (400, "light"), (400, "dark")]
)
def test_no_text_of_any_page_is_clipped(
    tab: Tab, address: str, wheels: Path, width: int, theme: str
) -> None:
    for page in pages(wheels):
        tab.open(f"{address}{page}", width, theme)
        assert tab.script(CLIPPED) == [], page
        assert not tab.script(OVERLAP), page
        dark = tab.script("return getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(13, 17, 23)") == (theme == "dark")


def test_clipped_text_is_seen(tab: Tab, address: str) -> None:
    tab.open(f"{address}/stable/", 400)
    for style in ("width:30px;overflow:hidden;white-space:nowrap", "white-space:nowrap"):
        tab.script(
            "const title = document.querySelector('h1'); title.style = arguments[0];"
            "title.textContent = 'a title of many words that is cut'.repeat(3);",
            style,
        )
        assert "a title of many words" in str(tab.script(CLIPPED))


def test_clicks_lead_from_all_stacks_to_an_audit_and_back(tab: Tab, address: str) -> None:
    for width in (1200, 400):
        tab.open(f"{address}/", width)
        for link in ("stable", "3.12", "Audit", "flash-attn 2.8.3 for Python 3.12", "Build report"):
            found = tab.call("POST", "/element", {"using": "link text", "value": link})
            tab.call("POST", f"/element/{next(iter(found.values()))}/click")
        assert str(tab.call("GET", "/url")).endswith(".whl.build.html")
        assert "limited by" in tab.script("return document.body.innerText")


def test_button_copies_the_command_with_the_address_of_the_page(tab: Tab, address: str) -> None:
    tab.open(f"{address}/stable/")
    find = {"using": "css selector", "value": "section button.copy"}
    button = next(iter(tab.call("POST", "/element", find).values()))
    tab.call("POST", f"/element/{button}/click")
    copied = tab.script("return getSelection().toString()")
    assert copied.startswith(
        f"python3 -m pip install --no-deps --index-url {address}/stable/simple/"
    )
    said = tab.script("return document.querySelectorAll('button.copy')[1].textContent")
    assert said in ("copied", "Ctrl+C")


def test_page_can_be_read_without_a_script(tab: Tab, address: str) -> None:
    tab.cdp("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(f"{address}/stable/")
        found = tab.call("POST", "/elements", {"using": "css selector", "value": "button"})
        shown = [tab.call("GET", f"/element/{next(iter(one.values()))}/displayed") for one in found]
        assert shown and not any(shown)
    finally:
        tab.cdp("Emulation.setScriptExecutionDisabled", value=False)
