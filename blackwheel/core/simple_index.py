"""Reads the page of a project on a package index; names each kind of a page that is none."""

# ruff: noqa: PLC0415  parsing a page costs 0.3 s of imports, and most runs need none.

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from blackwheel.core.http import AbsentError, FailedError, Page, Patience, page

if TYPE_CHECKING:
    from pypi_simple import ProjectPage

__all__ = ["AbsentError", "FailedError", "NoPageError", "Patience", "project_page"]

_JSON: Final = "application/vnd.pypi.simple.v1+json"
_LONGEST_NAME: Final = 400
DEPTH: Final = 32
"""Of JSON in JSON: a page of the simple API has 5."""


class NoPageError(FailedError):
    """Raised for an answer of 200 that is no page of an index."""


def project_page(
    index: str,
    project: str,
    *,
    patience: Patience,
    accept: str = "",
    headers: Mapping[str, str] | None = None,
    login: tuple[str, str] | None = None,
) -> ProjectPage:
    """Read the page of one project; raise `AbsentError`, `FailedError`, or `NoPageError`."""
    from packaging.utils import canonicalize_name
    from pypi_simple import ACCEPT_ANY

    address = f"{index.rstrip('/')}/{canonicalize_name(project)}/"
    wanted = {"Accept": accept or ACCEPT_ANY, **(headers or {})}
    return parsed(page(address, patience=patience, headers=wanted, login=login), project)


def parsed(found: Page, project: str) -> ProjectPage:
    """Parse a page by its Content-Type."""
    from bs4.exceptions import ParserRejectedMarkup
    from pypi_simple import ProjectPage
    from pypi_simple.errors import UnsupportedRepoVersionError

    kind, _, charset = found.headers.get("Content-Type", "text/html").partition(";")
    try:
        if kind.strip().lower() == _JSON:
            return ProjectPage.from_json_data(_document(found.body), found.url)
        if kind.strip().lower() in ("text/html", _JSON.replace("json", "html")):
            named = charset.partition("charset=")[2].strip("\"' ") or None
            return ProjectPage.from_html(project, found.body, found.url, from_encoding=named)
    except UnsupportedRepoVersionError as error:
        raise NoPageError(f"speaks another version of the simple API: {error}"[:200]) from None
    except RecursionError:
        raise NoPageError("is nested without an end") from None
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise NoPageError(f"is no page of an index: {first[:120]}") from None
    except ParserRejectedMarkup:
        raise NoPageError("is no page of an index: broken HTML") from None
    raise NoPageError(f"is no page of an index but {kind[:60]}")


def _document(body: bytes) -> object:
    depth = 0
    for bracket in bytes(each for each in body if each in b"[]{}"):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEPTH:
            raise NoPageError(f"is nested deeper than {DEPTH} levels")
    document = json.loads(body)
    name = document.get("name") if isinstance(document, dict) else ""
    if isinstance(name, str) and len(name) > _LONGEST_NAME:  # pypi_simple makes a pattern of it
        raise NoPageError(f"names a project of {len(name)} letters")
    return document
