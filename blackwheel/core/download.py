"""Downloads pages and files over HTTP: resumes, retries, and names a file only when it is whole."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import requests

from blackwheel.core.addresses import shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.progress import Stage

ABSENT: Final = (403, 404, 410)
"""How file servers say that there is no such file: S3 answers 403 where nobody may list."""
AGAIN: Final = (408, 425, 429, 500, 502, 503, 504)
"""What may be otherwise in a moment."""
_CHUNK: Final = 1 << 16
"""A cut loses what was read of the chunk: the rest is in the part."""
_LONGEST_PAUSE: Final = 60.0
MOST: Final = 4 << 30
"""Bytes after which a download stops whose size nobody knows: no torch was ever as large."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """Timeouts and retries of a download."""

    tries: int = 5
    """In a row without a byte more than before."""
    connect: float = 10.0
    read: float = 60.0
    """Seconds without any byte."""
    pause: Callable[[float], None] = time.sleep

    @property
    def timeout(self) -> tuple[float, float]:
        """Seconds to connect and to read, as requests takes them."""
        return self.connect, self.read


class AbsentError(Exception):
    """Raised where the server has no such file; the text is its answer."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class _AgainError(Exception):
    """This try failed, and the next one may not."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


def page(url: str, *, accept: str, patience: Patience) -> requests.Response:
    """Request a page and return its answer of 200; raise `AbsentError` or `no-answer`."""
    failed = 0
    while True:
        try:
            answer = requests.get(url, headers={"Accept": accept}, timeout=patience.timeout)
            _judge(answer, url)
            return answer
        except (requests.RequestException, _AgainError) as error:
            failed += 1
            _wait(url, error, failed, patience)


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
        except (requests.RequestException, _AgainError) as error:
            reached = part.stat().st_size if part.exists() else 0
            failed = 1 if reached > farthest else failed + 1
            farthest = max(farthest, reached)
            _wait(url, error, failed, patience)
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
    with requests.get(url, headers=headers, stream=True, timeout=patience.timeout) as answer:
        if answer.status_code == 416:
            forget(part)
            raise _AgainError("the part that was kept is longer than the file")
        _judge(answer, url)
        _refuse_page(answer, url)
        begins, total = _extent(answer)
        if begins not in (0, have):
            forget(part)
            raise _AgainError(f"asked for byte {have}, answered from byte {begins}")
        if begins == 0:
            _remember(part, url, answer)
        with part.open("ab" if begins else "wb") as sink:
            done = begins
            for chunk in answer.iter_content(_CHUNK):
                sink.write(chunk)
                done += len(chunk)
                if done > most:
                    forget(part)
                    raise _too_long(url, most)
                stage.update(done >> 10, total >> 10, "KiB")
    if total and done != total:
        raise _AgainError(f"cut off at {done} of {total} bytes")


def _judge(answer: requests.Response, url: str) -> None:
    said = f"answers {answer.status_code} {answer.reason}"
    if answer.status_code in ABSENT:
        raise AbsentError(answer.status_code, said)
    if answer.status_code in AGAIN:
        after = answer.headers.get("Retry-After", "")
        raise _AgainError(said, float(after) if after.isdigit() else 0.0)
    if answer.status_code not in (200, 206):
        raise _no_answer(url, said)


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
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        return (int(found[1]), int(found[2])) if found else (-1, 0)
    return 0, int(answer.headers.get("Content-Length", "0"))


def _remember(part: Path, url: str, answer: requests.Response) -> None:
    """Write down how the server names these bytes: two halves of two files make no file."""
    tag = answer.headers.get("ETag", "")
    known = answer.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    part.unlink(missing_ok=True)
    _note(part).write_text(json.dumps({"url": url, "validator": known}), encoding="utf-8")


def _validator(part: Path, url: str) -> str:
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(note["validator"]) if note.get("url") == url else ""


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _wait(url: str, error: Exception, failed: int, patience: Patience) -> None:
    """Pause before the next try, or raise `no-answer` after the last."""
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        raise _no_answer(url, "is no http address") from None
    if failed >= patience.tries:
        raise _no_answer(url, f"{_brief(error)} ({failed} tries)") from None
    after = error.after if isinstance(error, _AgainError) else 0.0
    patience.pause(min(max(after, 2.0 ** (failed - 1)), _LONGEST_PAUSE))


def _no_answer(url: str, why: str) -> BlackwheelError:
    return BlackwheelError(
        "no-answer",
        f"the index gave no file: {why}",
        where=shown(url),
        fix="the same command again, which continues; or HTTPS_PROXY=ADDRESS where one is needed",
        code=Exit.INDEX,
    )


def _brief(error: Exception) -> str:
    """Return one line about a failed request, without anybody's password."""
    # A body that stops coming is a ConnectionError for requests.
    if isinstance(error, requests.Timeout) or "Read timed out" in str(error):
        return "no answer in time"
    cause = error.args[0] if error.args else error
    text = str(getattr(cause, "reason", cause)).splitlines()
    return shown(
        re.sub(r"^<?[\w.]*HTTPS?Connection.*?[)>]: ", "", text[0] if text else "no reason")
    )
