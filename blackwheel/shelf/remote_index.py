"""Reads an index over HTTP as installers do: pages, files, and optional features."""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlsplit

import requests
from pypi_simple import DistributionPackage, ProjectPage

from blackwheel.core import http
from blackwheel.core.addresses import shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.redact import masked
from blackwheel.core.simple_index import AbsentError, FailedError, Patience, project_page

_PATIENCE: Final = Patience(tries=1)


class NoAnswerError(BlackwheelError):
    """Raised where an index does not answer with its list; another machine may be answered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Retries and time limit for an index."""

    tries: int = 4
    seconds: float = 3600.0
    """Of all uploads of a run together."""
    pause: Callable[[float], None] = time.sleep


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """An index that takes uploads, or that serves a folder."""

    upload: str
    """Empty for one that is only read."""
    simple: str
    """Where installers read."""
    login: tuple[str, str] | None = None
    """None: requests looks into netrc itself."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Forms in which the login may appear in a server's answers."""
        return login_forms(self.login) if self.login else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Offers:
    """Optional features of an index; None where they could not be probed."""

    json: bool | None
    metadata: bool | None
    ranges: bool | None

    def text(self) -> str:
        """Return the features as the last lines of `publish` show them."""
        told = {True: "yes", False: "no", None: "not seen"}
        pairs = (("JSON", self.json), ("metadata", self.metadata), ("ranges", self.ranges))
        return ", ".join(f"{name} {told[value]}" for name, value in pairs)


def login_of(environment: Mapping[str, str], address: str) -> tuple[str, str] | None:
    """Return user and password from the environment, else from netrc; None where neither tells.

    A login that only the keyring knows is seen by uv alone.
    """
    token = environment.get("UV_PUBLISH_TOKEN")
    if token:
        return "__token__", token
    user, password = (environment.get(f"UV_PUBLISH_{name}") for name in ("USERNAME", "PASSWORD"))
    if user and password:
        return user, password
    found = requests.utils.get_netrc_auth(address)
    return (str(found[0]), str(found[1])) if found else None


def login_forms(login: tuple[str, str]) -> tuple[str, ...]:
    """Return password and `Authorization` value as texts to hide."""
    user, password = login
    basic = b64encode(f"{user}:{password}".encode()).decode()
    forms = {password, quote(password, safe=""), basic}
    return tuple(sorted(filter(None, forms), key=len, reverse=True))


def found_simple(upload: str, login: tuple[str, str] | None) -> str:
    """Return the address where an upload server is read: below its upload address."""
    seen = []
    for name in ("+simple", "simple"):
        address = f"{upload.rstrip('/')}/{name}/"
        try:
            with http.opened(address, patience=_PATIENCE, login=login):
                return address
        except (AbsentError, FailedError) as error:
            seen.append(f"{shown(address)} {error}")
    raise BlackwheelError(
        "no-simple-pages",
        "\n".join(["nothing answers where the upload would be read back:", *seen]),
        where=shown(upload),
        fix="name the address that pip or uv install from: --index-url ADDRESS",
        code=Exit.AWAY,
    )


def listing(index: Index, project: str, limits: Limits) -> ProjectPage | None:
    """Return a project's page, read anew; None where the index has no such project."""
    patience = replace(_PATIENCE, tries=limits.tries, pause=limits.pause)
    plain = {"Cache-Control": "no-cache"}
    try:
        return project_page(
            index.simple, project, patience=patience, headers=plain, login=index.login
        )
    except AbsentError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise _unreadable(index, f"{project}: it {error}") from None
    except FailedError as error:
        if error.again:
            raise away(index, f"{project}: it {error}") from None
        raise _unreadable(index, f"{project}: it {error}") from None


def listed(index: Index, project: str, name: str, limits: Limits) -> DistributionPackage | None:
    """Return the entry of the index for a file name."""
    page = listing(index, project, limits)
    packages = page.packages if page else []
    return next((one for one in packages if one.filename == name), None)


def sha256(index: Index, package: DistributionPackage) -> tuple[str, int]:
    """Download a file, keep nothing, and return its digest and size."""
    with _answer(index, package.url) as answer:
        digest, count = hashlib.sha256(), 0
        for chunk in http.chunks(answer, patience=_PATIENCE):
            digest.update(chunk)
            count += len(chunk)
    return digest.hexdigest(), count


def metadata(index: Index, package: DistributionPackage) -> bytes:
    """Return the METADATA that the index serves beside a wheel."""
    with _answer(index, package.metadata_url) as answer:
        return b"".join(http.chunks(answer, patience=_PATIENCE, most=http.PAGE_BYTES))


def offers(index: Index, package: DistributionPackage, project: str) -> Offers:
    """Probe the optional features of the index; one that cannot be probed is None."""
    kind = "application/vnd.pypi.simple.v1+json"
    as_json = ranges = None
    with (
        suppress(BlackwheelError),
        _answer(index, f"{index.simple}{project}/", {"Accept": kind}) as page,
    ):
        as_json = page.headers.get("Content-Type", "").startswith(kind)
    with suppress(BlackwheelError), _answer(index, package.url, {"Range": "bytes=0-9"}) as part:
        ranges = part.status_code == HTTPStatus.PARTIAL_CONTENT
    return Offers(json=as_json, metadata=bool(package.has_metadata), ranges=ranges)


@contextmanager
def _answer(
    index: Index, url: str, headers: Mapping[str, str] | None = None
) -> Iterator[requests.Response]:
    """Give an answer whose body is still to be read; what cuts it is `index-away`."""
    sent = {"Accept-Encoding": "identity", **(headers or {})}
    login = index.login if urlsplit(url).netloc == urlsplit(index.simple).netloc else None
    try:
        with http.opened(url, patience=_PATIENCE, headers=sent, login=login) as answer:
            yield answer
    except AbsentError as error:
        raise differs(f"{shown(url)} {error}", index) from None
    except FailedError as error:
        if error.again:
            raise away(index, f"{shown(url)} {error}") from None
        raise differs(f"{shown(url)} {error}", index) from None


def away(index: Index, fact: str) -> BlackwheelError:
    """Return the error of an index that may answer later."""
    return NoAnswerError(
        "index-away",
        masked(fact, index.secrets),
        where=shown(index.simple),
        fix="the same command again: what is there already is not sent twice",
        code=Exit.AWAY,
    )


def differs(fact: str, index: Index) -> BlackwheelError:
    """Return the error of an index that does not return the bytes that it was sent."""
    return BlackwheelError(
        "not-what-was-sent",
        f"the upload was answered as if it had succeeded, and is not believed\n{fact}",
        where=shown(index.simple),
        fix="not published. Look at the address in a browser: a login page, a proxy that cuts, or\n"
        "another index behind it; take a wrong file off the index, then the same command again",
        code=Exit.READBACK,
    )


def _unreadable(index: Index, fact: str) -> BlackwheelError:
    return NoAnswerError(
        "index-unreadable",
        masked(fact, index.secrets),
        where=shown(index.simple),
        fix="correct --index-url, or the login: UV_PUBLISH_USERNAME and UV_PUBLISH_PASSWORD,"
        " or netrc",
        code=Exit.INDEX,
    )
