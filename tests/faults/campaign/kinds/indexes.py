"""Asks package indexes that lie: `audit NAME==VERSION` and the sdist that stands in for git."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from .. import choices, quickstart
from ..case import Case
from ..indexes import TrueIndex
from ..liars import Liar, Lie, page_prefix, transport_lies

NAMES = (
    "toy-1.0-1/../../../../traversed-py3-none-any.whl",
    "../toy-1.0-py3-none-any.whl",
    "toy-1.0-py3-none-any.whl\x00",
    "toy-1.0-\x1b[2Jpy3-none-any.whl",
    "toy-1.0-py3-none-any.whl/",
    "/etc/toy-1.0-py3-none-any.whl",
    f"toy-1.0-{'y' * 300}-none-any.whl",
    "toy-1.0-py3-none-any.whl\n",
    "..\\toy-1.0-py3-none-any.whl",
    "toy-1.0-.-py3-none-any.whl",
    "toy-1.0.tar.gz",
    "",
)
ADDRESSES = (
    "http://[",
    "http://127.0.0.1:99999/x",
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "javascript:1",
    "//",
    "http://user:secret@127.0.0.1:1/x",
    "data:,x",
    "http://127.0.0.1:1/x",
    " ",
    "http://nobody.invalid/x",
    "\x00",
)
DIGESTS: tuple[Any, ...] = ("0" * 64, "abc", "", None, 7, ["a"], "A" * 64, "../x", "\u0660" * 64)
STRANGE: tuple[Any, ...] = (
    None,
    7,
    -1,
    1e400,
    float("nan"),
    [],
    {},
    "x",
    True,
    [[[[]]]],
    "\ud800",
    10**400,
)


def page_lies(dice: Random) -> Lie:
    """Return a lie of an index about its files."""

    def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
        def lie(data: bytes) -> bytes:
            page = json.loads(data)
            change(page)
            return json.dumps(page).encode("utf-8", "surrogatepass")

        return lie

    def of_file(key: str, value: Any) -> Callable[[bytes], bytes]:
        return changed(lambda page: [row.update({key: value}) for row in page["files"]])

    strange = dice.choice(STRANGE)
    key = dice.choice(["meta", "name", "versions", "files"])
    field = dice.choice(
        [
            "filename",
            "url",
            "hashes",
            "size",
            "yanked",
            "requires-python",
            "upload-time",
            "core-metadata",
        ]
    )
    version = dice.choice(["2.0", "1.99", "", "x", "999999999999.1", "1"])
    name, address, sha256 = dice.choice(NAMES), dice.choice(ADDRESSES), dice.choice(DIGESTS)
    lies = [
        Lie(f"file name {name[:40]!r}", body=of_file("filename", name)),
        Lie(f"file address {address!r}", body=of_file("url", address)),
        Lie(f"digest {str(sha256)[:12]!r}", body=of_file("hashes", {"sha256": sha256})),
        Lie("no digests", body=of_file("hashes", {})),
        Lie(f"{field} is {str(strange)[:12]}", body=of_file(field, strange)),
        Lie(
            f"{key} is {str(strange)[:12]}", body=changed(lambda page: page.update({key: strange}))
        ),
        Lie(
            f"version {version} of the API",
            body=changed(lambda p: p["meta"].update({"api-version": version})),
        ),
        Lie("deep JSON", body=lambda _: b"[" * 300_000),
        Lie("deep objects", body=lambda _: b'{"a":' * 100_000),
        Lie("UTF-16", body=lambda data: data.decode().encode("utf-16")),
        Lie("a mark before it", body=lambda data: b"\xef\xbb\xbf" + data),
        Lie("twice", body=lambda data: data + data),
        Lie("no project", body=changed(lambda page: page.update({"files": []}))),
        Lie(
            "50,000 files",
            body=changed(lambda page: page.update({"files": page["files"] * 50_000})),
        ),
        Lie("other size", body=of_file("size", dice.choice([0, 1, 10**18, -1]))),
        Lie(
            "HTML that is none",
            headers={"Content-Type": "text/html"},
            body=lambda _: b"<a href=" * 9000,
        ),
    ]
    return dice.choice(lies)


def lie_of(case: Case, page: Callable[[str], bool]) -> Lie:
    """Return a lie about the pages or the files, or of the server as a whole."""
    about = case.dice.choice(["page", "page", "transport", "transport"])
    lie = page_lies(case.dice) if about == "page" else transport_lies(case.dice)
    if about == "page":
        lie.to = page
        where = "page"
    else:
        where = case.dice.choice(["page", "file", "all"])
        lie.to = {"page": page, "file": lambda p: not page(p), "all": lambda _: True}[where]
    case.note(f"{where}: {lie.name}")
    return lie


def audited(case: Case) -> None:
    """A lying index ends with a named error and leaves nothing but what is verified."""
    world = case.begin("shelf")
    liar: Liar | None = case.lab.servers.get("audited")
    if liar is None:
        wheel = min(world.wheels.glob("toy/toy-*.whl"))
        renamed = "toy-1.0-py3-none-any.whl"
        liar = case.lab.servers["audited"] = Liar(TrueIndex({renamed: wheel.read_bytes()}))
    case.extra = {"UV_DEFAULT_INDEX": f"{liar.root}/simple", "UV_NO_CACHE": "1"}
    around = outside(world.base)
    liar.lie = lie_of(case, page_prefix)
    words = ("audit", "toy==1.0")
    case.run(*words)
    liar.lie = None
    case.fault([f"written outside: {name}" for name in outside(world.base) - around])
    case.settle(*words)


def outside(base: Path) -> set[str]:
    """Return the names around the store, to which nothing may be added."""
    found = {str(path) for folder in (base, base.parent) for path in folder.iterdir()}
    return {name for name in found if "/world-" not in name.removeprefix(str(base))}


def stand_in(case: Case) -> None:
    """The sdist of a lying index never becomes a source."""
    if case.number % 2:
        words, liar = quickstart.clone(case), quickstart.index(case)
    else:
        words, liar = _toys_sdist(case)
    liar.lie = lie_of(case, page_prefix)
    around = outside(case.world.base)
    case.run(*words)
    liar.lie = None
    case.fault([f"written outside: {name}" for name in outside(case.world.base) - around])
    case.settle(*words)


def _toys_sdist(case: Case) -> tuple[choices.Words, Liar]:
    """Let the toy's own host be away, so that its sdist is asked for."""
    choices.source_command(case)
    from ..worlds import upstream_of

    upstream = upstream_of(case.world)
    liar: Liar | None = case.lab.servers.get("stand-in")
    if liar is None:
        liar = case.lab.servers["stand-in"] = Liar(TrueIndex(upstream.index.files))
    config = (case.world.base / "gitconfig").read_text("utf-8")
    away = case.world.base / "gitconfig-away"
    away.write_text(config.replace("toy/toy\n", "toy/other\n"), encoding="utf-8")
    case.extra = {"UV_DEFAULT_INDEX": f"{liar.root}/simple", "GIT_CONFIG_GLOBAL": str(away)}
    return ("clone", "--stack", "toy"), liar


KINDS = {"lying-index": audited, "lying-sdist-index": stand_in}
