"""Makes text that others wrote safe to show: no terminal and no page obeys it."""

from __future__ import annotations

import unicodedata
from typing import Final

_KEPT: Final = "\n\t"


def printable(text: str, *, keep: str = _KEPT) -> str:
    r"""Write control, formatting and unassigned characters as `\u001b`; `keep` stays as it is.

    Terminals obey the first (colours, titles, the cursor), readers are misled by the second (text
    that runs from right to left). The spelling is also right inside of a JSON string.
    """
    if text.isprintable():
        return text
    return "".join(one if one in keep else _spelled(one) for one in text)


def one_line(text: str) -> str:
    """Write every such character so, line breaks too: a name cannot draw a line of its own."""
    return printable(text, keep="")


def _spelled(one: str) -> str:
    kind = unicodedata.category(one)
    if kind[0] not in "CZ" or kind == "Zs":
        return one
    number = ord(one)
    if number > 0xFFFF:
        number -= 0x10000
        return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
    return f"\\u{number:04x}"
