"""Which form of a page a client asks for."""

from __future__ import annotations

import pytest

from blackwheel.shelf.server import SIMPLE_HTML, SIMPLE_JSON, wants_json

LATEST = "application/vnd.pypi.simple.latest+json"


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        (f"{SIMPLE_JSON}, {SIMPLE_HTML}; q=0.2, text/html; q=0.01", True),
        (f"{SIMPLE_JSON};q=0.1, text/html", False),
        (f"{SIMPLE_JSON}; q=0.1, {SIMPLE_HTML}; q=0.2", False),
        (f"text/html;q=0.5, {SIMPLE_JSON};q=0.5", True),
        (f"{LATEST};q=0.3", True),
        (f"{SIMPLE_JSON.upper()}", True),
        (f"{SIMPLE_JSON};q=0", False),
        (f"{SIMPLE_JSON};q=much", False),
        (f"{SIMPLE_JSON}; charset=utf-8; q=0.1, text/html; q=0.2", False),
        ("text/html", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_json_is_given_where_it_is_liked_as_much_as_html(accept: str, json: bool) -> None:
    assert wants_json(accept) is json
