"""Reads answers over HTTP within bounds: bytes, seconds in all, a least speed.

Every download goes through here. Tries are counted here too, and not by urllib3's
Retry: that does not see a body that is cut off, and waits as long as a Retry-After says.
"""

# ruff: noqa: PLC0415  requests takes 0.1 s to import, and only what asks a server pays for it.

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Final, TypeVar

from blackwheel.core.addresses import shown

if TYPE_CHECKING:
    import requests

ABSENT: Final = (403, 404, 410)
"""How file servers say that there is no such file: S3 answers 403 where nobody may list."""
AGAIN: Final = (408, 425, 429, 500, 502, 503, 504)
"""What may be otherwise in a moment."""
PAGE_BYTES: Final = 32 << 20
"""Of one page, unpacked: the longest of the package registry have some 10 MB."""
FILE_BYTES: Final = 16 << 30
"""Of a file whose length nobody tells."""
CHUNK: Final = 1 << 16
"""What is read at once, and the least that a try must bring not to count as a failed one."""
_LONGEST_PAUSE: Final = 60.0
_LEAST_SPEED: Final = 1 << 10
"""Bytes a second, over `Patience.read` seconds: a server that drips has no end."""
_FIRST: Final = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """Timeouts and retries of a download."""

    tries: int = 5
    """In a row without a chunk more than before."""
    connect: float = 10.0
    read: float = 60.0
    """Seconds without any byte."""
    whole: float = 120.0
    """Seconds for a whole page, and for the beginning of a file's answer."""
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


class FailedError(Exception):
    """Raised for an answer that cannot be used; the text is one line of why, without passwords."""

    def __init__(self, why: str, *, again: bool = False, after: float = 0, status: int = 0) -> None:
        super().__init__(why)
        self.again = again
        """Whether another try may end otherwise."""
        self.after = after
        self.status = status


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One whole page, unpacked."""

    url: str
    """Where it was found, after redirects."""
    headers: Mapping[str, str]
    body: bytes


def page(
    url: str,
    *,
    patience: Patience,
    headers: Mapping[str, str] | None = None,
    login: tuple[str, str] | None = None,
    most: int = PAGE_BYTES,
) -> Page:
    """Return a whole page; try again where that may help. Raises `AbsentError`, `FailedError`."""

    def once() -> Page:
        with opened(url, patience=patience, headers=headers, login=login) as answer:
            body = b"".join(chunks(answer, patience=patience, most=most))
            return Page(url=answer.url, headers=answer.headers, body=body)

    return tried(lambda: within(patience.whole, once), patience)


def whole_length(url: str, *, patience: Patience) -> int:
    """Return how many bytes a file has, and read one of them; 0 where its host does not tell.

    Raises `AbsentError`, `FailedError`.
    """

    def once() -> int:
        with opened(url, patience=patience, headers=_FIRST) as answer:
            told = re.fullmatch(r"bytes 0-0/([0-9]{1,18})", answer.headers.get("Content-Range", ""))
            return int(told[1]) if told else length(answer) * (answer.status_code == 200)

    return tried(once, patience)


@contextmanager
def opened(
    url: str,
    *,
    patience: Patience,
    headers: Mapping[str, str] | None = None,
    login: tuple[str, str] | None = None,
) -> Iterator[requests.Response]:
    """Give an answer of 200 or 206 whose body is still to be read."""

    import requests

    def ask() -> requests.Response:
        return requests.get(
            url, headers=dict(headers or {}), auth=login, stream=True, timeout=patience.timeout
        )

    with named():
        answer = within(patience.whole, ask)
    with answer:  # what the caller does with it, a full disk, is no fault of the network
        judge(answer)
        yield answer


@contextmanager
def named() -> Iterator[None]:
    """Turn the errors of requests and the layers below into `FailedError`."""
    try:
        yield
    except _broken() as error:
        import requests
        import urllib3

        again = isinstance(error, requests.ConnectionError | requests.Timeout | HTTPException)
        again = again or isinstance(error, urllib3.exceptions.HTTPError)
        again = again or isinstance(error, requests.exceptions.ChunkedEncodingError)
        bad = isinstance(
            error, ValueError | OverflowError
        )  # InvalidURL and its kin are ValueErrors
        raise FailedError(_brief(error), again=again and not bad) from None


def _broken() -> tuple[type[Exception], ...]:
    """What requests and the layers below raise for a network, an address or a bad answer."""
    import requests
    import urllib3

    return (
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        HTTPException,
        OSError,
        ValueError,  # an address in a redirect that is none
        OverflowError,  # port 99999
    )


def judge(answer: requests.Response) -> None:
    """Raise for every status that brings no file."""
    said = f"answers {answer.status_code} {answer.reason}"[:200]
    if answer.status_code in ABSENT:
        raise AbsentError(answer.status_code, said)
    if answer.status_code in AGAIN:
        after = re.fullmatch(r"[0-9]{1,6}", answer.headers.get("Retry-After", "").strip())
        seconds = float(after[0]) if after else 0.0
        raise FailedError(said, again=True, after=seconds, status=answer.status_code)
    if answer.status_code not in (200, 206):
        raise FailedError(said, status=answer.status_code)


def chunks(
    answer: requests.Response, *, patience: Patience, most: int = FILE_BYTES
) -> Iterator[bytes]:
    """Yield the body as it comes; raise for more than `most` bytes, and for one that drips."""
    count, since, began = 0, 0, time.monotonic()
    with named():
        # Not iter_content: that waits for a whole chunk, however slowly it comes.
        while chunk := answer.raw.read1(CHUNK, decode_content=True):
            count += len(chunk)
            since += len(chunk)
            if count > most:
                raise FailedError(f"does not end: more than {most} bytes")
            spent = time.monotonic() - began
            if spent > patience.read:
                if since < spent * _LEAST_SPEED:
                    raise FailedError(f"too slow: {since} bytes in {spent:.0f} s")
                since, began = 0, time.monotonic()
            yield chunk


def length(answer: requests.Response) -> int:
    """Return the number in Content-Length, 0 where there is none."""
    found = re.fullmatch(r"[0-9]{1,18}", answer.headers.get("Content-Length", "").strip())
    return int(found[0]) if found else 0


def within(seconds: float, call: Callable[[], _T]) -> _T:
    """Return the result of `call`; raise where it takes longer: no timeout bounds headers."""
    result: list[_T] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            result.append(call())
        except BaseException as error:  # noqa: BLE001  raised where it is waited for
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise FailedError(f"no whole answer within {seconds:g} s")
    if raised:
        raise raised[0]
    return result[0]


def tried(once: Callable[[], _T], patience: Patience) -> _T:
    """Return the result of `once`; call it again where that may help, then raise its error."""
    failed = 0
    while True:
        try:
            return once()
        except FailedError as error:
            failed += 1
            wait(error, failed, patience)


def wait(error: FailedError, failed: int, patience: Patience) -> None:
    """Pause before the next try, or raise the error: after the last, or where none will help."""
    if not error.again:
        raise error
    if failed >= patience.tries:
        raise FailedError(f"{error} ({failed} tries)", status=error.status, again=True) from None
    patience.pause(min(max(error.after, 2.0 ** (failed - 1)), _LONGEST_PAUSE))


def _brief(error: Exception) -> str:
    """Return one line about a failed request, without anybody's password."""
    import requests

    # A body that stops coming is a ConnectionError for requests.
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "no answer in time"
    if cut := re.search(r"IncompleteRead\((\d+) bytes read, (\d+) more", str(error)):
        return f"cut off at {cut[1]} of {int(cut[1]) + int(cut[2])} bytes"
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        # An InvalidSchema may be the proxy's.
        return str(error)[:80] if "SOCKS" in str(error) else "is no http address"
    if isinstance(error, requests.TooManyRedirects):
        return "redirects without an end"
    if isinstance(error, ValueError | OverflowError) and not isinstance(error, OSError):
        return f"names an address that is none: {str(error)[:120]}"
    cause = error.args[0] if error.args else error
    text = str(getattr(cause, "reason", cause)).splitlines()
    bare = re.sub(r"^<?[\w.]*HTTPS?Connection.*?[)>]: ", "", text[0] if text else "no reason")
    return shown(bare)[:300]
