"""Publishes to upload servers that lie."""

from __future__ import annotations

import upload_server

from ..case import Case
from ..liars import Answer, Liar, transport_lies


class TrueServer:
    """An index that takes uploads and offers them in JSON."""

    def __init__(self) -> None:
        self.held = upload_server.Server()

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if method == "POST":
            name, data = upload_server.uploaded(headers["content-type"], body)
            if self.held.files.get(name, data) != data:
                return 409, {}, b"a file of that name exists"
            self.held.files[name] = data
            return 200, {}, b""
        place = path.replace("%2B", "+")
        if place.startswith("/upload/simple/"):
            project = place.removeprefix("/upload/simple/").strip("/")
            page = (
                self.held.page(project, as_json=True)
                if project
                else b'{"meta": {"api-version": "1.0"}, "projects": []}'
            )
            kind = {"Content-Type": upload_server.SIMPLE_JSON}
            return (200, kind, page) if page else (404, kind, b"none")
        name = place.removeprefix("/files/")
        if name.endswith(".metadata"):
            wheel = self.held.files.get(name.removesuffix(".metadata"))
            data = upload_server.metadata_of(wheel) if wheel else None
        else:
            data = self.held.files.get(name)
        return (200, {}, data) if data is not None else (404, {}, b"none")


def lying_upload(case: Case) -> None:
    """Success is said only of a wheel that was read back; a lie is named, and the rerun goes on."""
    world = case.begin("shelf")
    case.extra = {"UV_PUBLISH_USERNAME": "toys", "UV_PUBLISH_PASSWORD": "open-sesame"}
    truth = TrueServer()
    liar = Liar(truth)
    case.cleanups.append(liar.close)
    lie = transport_lies(case.dice)
    where = case.dice.choice(["POST", "simple", "files", "all"])
    lie.to = lambda path: (
        where == "all"
        or {"POST": path == "/upload/", "simple": "/simple/" in path}.get(where, "/files/" in path)
    )
    case.note(f"{where}: {lie.name}")
    liar.lie = lie
    words = ("publish", "--stack", "toy", "--to", f"{liar.root}/upload/", "--yes", "--minutes", "1")
    done = case.run(*words)
    held = {path.name: path.read_bytes() for path in world.wheels.glob("toy/*.whl")}
    if done.code == 0 and truth.held.files != held:
        case.fault(["success was said, and the index does not hold the wheels"])
    liar.lie = None
    truth.held.files = {n: d for n, d in truth.held.files.items() if held.get(n) == d}
    again = case.run(*words)
    if again.code or truth.held.files != held:
        case.fault([f"the rerun ended with {again.code}: {again.said[-300:]}"])


KINDS = {"lying-upload": lying_upload}
