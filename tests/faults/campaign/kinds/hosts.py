"""Fetches from git hosts that lie, break off and refuse, over the real protocol."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from checkout import HOST

from .. import choices
from ..case import Case
from ..liars import Answer, Liar, Lie, transport_lies


class TrueHost:
    """`git http-backend` over the toys' repositories."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root, self.environment = root, environment

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        place, _, query = path.partition("?")
        variables = {
            **self.environment,
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": place.replace("/info/", "/.git/info/").replace(
                "/git-upload", "/.git/git-upload"
            ),
            "QUERY_STRING": query,
            "REQUEST_METHOD": method,
            "CONTENT_TYPE": headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
            "GIT_PROTOCOL": headers.get("git-protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        argv = ["git", "-c", "safe.directory=*", "http-backend"]
        done = subprocess.run(argv, env=variables, input=body, capture_output=True, check=False)
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        told = dict(
            line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line
        )
        status = int(told.pop("Status", "200").split()[0])
        return status, told, data


def git_lies(case: Case) -> Lie:
    """Return a lie in git's own words, or one of any server."""
    dice = case.dice
    if dice.random() < 0.55:
        return transport_lies(dice)
    line = dice.choice(
        [
            b"ERR access denied",
            b"ERR \x1b[2J\x1b]0;x\x07",
            b"ERR " + b"y" * 60_000,
            b"\x00",
            b"refs",
        ]
    )
    packet = b"%04x" % (len(line) + 4) + line
    number = dice.randrange(4)

    def other_object(data: bytes) -> bytes:
        at = dice.randrange(max(1, len(data) - 1))
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if data else data

    return [
        Lie(f"packet {line[:12]!r}", body=lambda _: packet),
        Lie("lengths are wrong", body=lambda data: b"ffff" + data),
        Lie("a bit flipped", body=other_object),
        Lie("half a pack", body=lambda data: data[: len(data) * 2 // 3]),
    ][number]


def lying_host(case: Case) -> None:
    """What a host says is the pinned tree or a named error; nothing of it stays half-written."""
    choices.source_command(case)
    from ..worlds import upstream_of

    upstream = upstream_of(case.world)
    liar: Liar | None = case.lab.servers.get("host")
    if liar is None:
        root = upstream.home / "upstream"
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(case.world.base),
            "GIT_CONFIG_SYSTEM": os.devnull,
        }
        liar = case.lab.servers["host"] = Liar(TrueHost(root, variables))
    config = case.world.base / "gitconfig-http"
    config.write_text(f'[url "{liar.root}/"]\n\tinsteadOf = {HOST}toy/\n', encoding="utf-8")
    case.extra = {"GIT_CONFIG_GLOBAL": str(config), "UV_DEFAULT_INDEX": "http://127.0.0.1:1/simple"}
    if case.dice.random() < 0.4:  # the sdist may stand in
        case.extra = {**case.extra, "UV_DEFAULT_INDEX": upstream.index.address}
    lie = git_lies(case)
    wanted = case.dice.choice(["info/refs", "git-upload-pack", ""])
    lie.to = lambda path: wanted in path
    case.note(f"{wanted or 'all'}: {lie.name}")
    liar.lie = lie
    words = ("clone", "--stack", "toy")
    done: Any = case.run(*words)
    liar.lie = None
    if done.code == 0 and "instead of git" in done.said:
        return  # what stood in is kept, and used again: a right end of its own
    case.settle(*words)


KINDS = {"lying-git-host": lying_host}
