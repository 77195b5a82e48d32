"""Downloads files over HTTP: resumes, retries, and names a file only when it is whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blackwheel.core.addresses import shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.http import (
    CHUNK,
    FailedError,
    Patience,
    chunks,
    length,
    opened,
    wait,
)
from blackwheel.core.progress import Stage

if TYPE_CHECKING:
    import requests

MOST: Final = 4 << 30
"""Bytes after which a download stops whose size nobody knows: no torch was ever as large."""


def download(url: str, target: Path, *, stage: Stage, patience: Patience, most: int = MOST) -> Path:
    """Download all bytes of a file into `<target>.part`, not yet compared with a digest.

    A part that an earlier run left is continued where the server says that it is still the same
    file; after `most` bytes it stops. Raises `AbsentError`, `no-answer`, `not-a-file`, `too-long`.
    """
    part = target.with_name(f"{target.name}.part")
    failed, farthest = 0, 0
    while True:
        try:
            _attempt(url, part, stage=stage, patience=patience, most=most)
        except FailedError as error:
            reached = part.stat().st_size if part.exists() else 0
            onwards = reached >= farthest + CHUNK  # a few bytes a try would have no end
            failed, farthest = (1, reached) if onwards else (failed + 1, farthest)
            try:
                wait(error, failed, patience)
            except FailedError as last:
                raise no_answer(url, last) from None
        else:
            _note(part).unlink(missing_ok=True)
            return part


def forget(part: Path) -> None:
    """Remove a partial download and the notes about it."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, *, stage: Stage, patience: Patience, most: int) -> None:
    """Take what is missing, or all of it where the server has another file by now."""
    validator = _validator(part, url)
    if not validator:
        forget(part)
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # else the bytes counted are not those of the file
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    try:
        with opened(url, patience=patience, headers=headers) as answer:
            _receive(answer, url, part, have=have, stage=stage, patience=patience, most=most)
    except FailedError as error:
        if error.status != 416:
            raise
        forget(part)
        why = "the part that was kept is longer than the file"
        raise FailedError(why, again=True) from None


def _receive(
    answer: requests.Response,
    url: str,
    part: Path,
    *,
    have: int,
    stage: Stage,
    patience: Patience,
    most: int,
) -> None:
    """Write what comes behind what is there."""
    _refuse_page(answer, url)
    begins, total = _extent(answer)
    if begins not in (0, have):
        forget(part)
        why = f"asked for byte {have}, answered from byte {begins}"
        raise FailedError(why, again=True)
    if begins == 0:
        _remember(part, url, answer)
    with part.open("ab" if begins else "wb") as sink:
        done = begins
        for chunk in chunks(answer, patience=patience):
            sink.write(chunk)
            done += len(chunk)
            if done > most:
                forget(part)
                raise _too_long(url, most)
            stage.update(done >> 10, total >> 10, "KiB")
    if total and done != total:
        raise FailedError(f"cut off at {done} of {total} bytes", again=True)


def _refuse_page(answer: requests.Response, url: str) -> None:
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        raise BlackwheelError(
            "not-a-file",
            "the server answers with a web page where a wheel is asked for: a login or an error",
            where=shown(url),
            fix="open the address in a browser; a proxy may want to be named: HTTPS_PROXY",
            code=Exit.INDEX,
        )


def _too_long(url: str, most: int) -> BlackwheelError:
    return BlackwheelError(
        "too-long",
        f"the server sends more than the {most} bytes that this file may have; nothing was kept",
        where=shown(url),
        fix="open the address in a browser; another file may lie there",
        code=Exit.INDEX,
    )


def _extent(answer: requests.Response) -> tuple[int, int]:
    """Return the first byte that comes, and how long the file is (0 where nobody says)."""
    if answer.status_code == 206:
        found = re.fullmatch(
            r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18})", answer.headers.get("Content-Range", "")
        )
        return (int(found[1]), int(found[2])) if found else (-1, 0)
    return 0, length(answer)


def _remember(part: Path, url: str, answer: requests.Response) -> None:
    """Write down how the server names these bytes: two halves of two files make no file."""
    tag = answer.headers.get("ETag", "")
    known = answer.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    part.unlink(missing_ok=True)
    _note(part).write_text(json.dumps({"url": url, "validator": known}), encoding="utf-8")


def _validator(part: Path, url: str) -> str:
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        return str(note["validator"]) if note["url"] == url else ""
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ""


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def no_answer(url: str, why: object) -> BlackwheelError:
    """Return the error of an address that gives no file, or none now."""
    return BlackwheelError(
        "no-answer",
        f"the index gave no file: {why}",
        where=shown(url),
        fix="the same command again, which continues; or HTTPS_PROXY=ADDRESS where one is needed",
        code=Exit.INDEX,
    )
