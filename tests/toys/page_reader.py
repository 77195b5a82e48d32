"""Reads a page as a person and a browser do: nesting, links, words, commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

VOID = ("meta", "wbr", "input", "br")
"""Tags that have no end."""


@dataclass
class Reader(HTMLParser):
    """One page; fails on a tag that closes another than the last one that was opened."""

    text: str
    seen: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    """Address by the words of each link."""
    words: str = ""
    """All text of the body, on one line."""
    commands: list[str] = field(default_factory=list)
    """Text of each `pre`, as it is copied."""

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self._link = ""
        self.feed(self.text)
        assert self._open == [], "not every tag is closed"
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "pre":
            self.commands.append("")
        if tag == "a":
            self._link = str(dict(attrs)["href"])

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} closes another tag"
        self.words += "" if tag in ("a", "b", "code", "i", "span") else " "

    def handle_data(self, data: str) -> None:
        if "body" in self._open and "script" not in self._open:
            self.words += data
        if "a" in self._open and data.strip():
            before = next((text for text, to in self.links.items() if to == self._link), "")
            self.links.pop(before, None)
            self.links[f"{before}{data}".strip()] = self._link
        if "pre" in self._open:
            self.commands[-1] += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every such tag."""
        return [attrs for name, attrs in self.seen if name == tag]


def broken_links(folder: Path) -> list[str]:
    """Every link of the pages below a folder that leads to no file, folder page or id there."""
    broken = []
    for page in sorted(folder.rglob("*.html")):
        for tag, attrs in Reader(page.read_text(encoding="utf-8")).seen:
            for name in ("href", "src"):
                if name in attrs and not _leads(page, str(attrs[name])):
                    broken.append(f"{page.relative_to(folder)}: {tag} {attrs[name]}")
    return broken


def _leads(page: Path, address: str) -> bool:
    parts = urlsplit(address)
    target = page.parent / unquote(parts.path) if parts.path else page
    target = target / "index.html" if target.is_dir() else target
    if parts.scheme or parts.netloc or not target.is_file():
        return False
    if not parts.fragment or parts.fragment.startswith("sha256="):
        return True
    return f'id="{parts.fragment}"' in target.read_text(encoding="utf-8")
