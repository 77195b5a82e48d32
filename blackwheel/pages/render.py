"""Renders a page from its template: each text escaped and bounded, the same bytes every time."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from blackwheel import __version__
from blackwheel.core.units import duration, size

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_LETTERS: Final = 1000
"""Of one text: a wheel and a receipt may bring longer ones."""
MOST_ROWS: Final = 1000
"""Of one table or list: a page says how many it leaves out."""
_FOLDER: Final = Path(__file__).parent
_STAMP: Final = re.compile(
    rb'<meta name="generator" content="(blackwheel [\w.+]+, pages [0-9a-f]{12})">'
)


def render(template: str, **values: object) -> str:
    """Return the page that a template of this folder makes of the values."""
    return _environment().get_template(f"{template}.html").render(values)


@functools.cache
def stamp() -> str:
    """Return version and digest of the code that draws, as each page names it."""
    kinds = ("pages/**/*.html", "pages/*.css", "pages/render.py", "*/*page.py")
    files = sorted({file for kind in kinds for file in _FOLDER.parent.glob(kind)})
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return f"blackwheel {__version__}, pages {digest[:12]}"


def without_stamp(page: bytes) -> tuple[str, bytes]:
    """Return the stamp of a page, empty where it has none, and the page with that line empty."""
    found = _STAMP.search(page, 0, 500)
    return (found[1].decode(), page.replace(found[0], b"", 1)) if found else ("", page)


def plain(text: str) -> str:
    """Return a text on one line: shortened, and without letters that cannot be seen."""
    cut = text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in cut)


def _bounded(value: Any) -> Any:
    return plain(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415  0.1 s
    from markupsafe import Markup, escape  # noqa: PLC0415

    def parts(text: str) -> Markup:
        """Let a browser break the line after each part of a name or path."""
        return Markup(re.sub(r"([/_+.-])", r"\1<wbr>", str(escape(plain(text)))))  # noqa: S704  escaped

    made = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_bounded,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"parts": parts, "size": size, "duration": duration}
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    made.globals |= {"style": Markup(style), "stamp": stamp(), "most": MOST_ROWS}  # noqa: S704
    return made
