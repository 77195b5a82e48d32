"""An index that tells the truth: what liars lie about."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from .liars import Answer

JSON_PAGE = "application/vnd.pypi.simple.v1+json"


class TrueIndex:
    """Files of some projects, listed in JSON."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self._rows: dict[str, list[dict[str, Any]]] = {}
        for name, data in files.items():
            row = {
                "filename": name,
                "url": f"/files/{name}",
                "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
                "size": len(data),
            }
            self._rows.setdefault(_project(name), []).append(row)

    def __call__(self, _method: str, path: str, _headers: dict[str, str], _body: bytes) -> Answer:
        name = path.rpartition("/files/")[2].replace("%2B", "+")
        project = path.removeprefix("/simple/").strip("/")
        if path.startswith("/simple/") and project in self._rows:
            meta = {"meta": {"api-version": "1.1"}, "name": project}
            page = {**meta, "versions": ["1.0"], "files": self._rows[project]}
            return 200, {"Content-Type": JSON_PAGE}, json.dumps(page).encode()
        if name in self.files:
            return 200, {"Content-Type": "application/octet-stream"}, self.files[name]
        return 404, {}, b"none"


def _project(file: str) -> str:
    """Return the normalized project of a file: up to the `-` before its version."""
    name = re.split(r"-(?=\d)", file, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()
