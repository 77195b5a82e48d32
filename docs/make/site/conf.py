"""Sphinx reads the documents as they lie in the tree: `nox -s docs`.

The navigation is that of docs/README.md: a heading there is a group, and each page that it links to
is an entry. A page that it does not link to is a warning of Sphinx's, and warnings are errors.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[3]
INDEX: Final = "docs/README.md"
LINK: Final = re.compile(r"\[([^]]*)\]\((?!https?:|mailto:)([^)\s#]+)(#[^)\s]*)?\)")

project = "blackwheel"
copyright = "the blackwheel authors, Apache-2.0"  # noqa: A001  Sphinx's name for it
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/**.md", "benchmarks/**.md", "wheels/README.md"]
exclude_patterns = [".*", "build", "dist", "wheels/*/**", "**/.*"]
myst_heading_anchors = 6
html_theme = "furo"
html_title = "blackwheel"
html_copy_source = False
html_show_sphinx = False
html_last_updated_fmt = None


def pages(folder: str) -> list[str]:
    """Return the documents below a folder, as Sphinx names them."""
    found = sorted((ROOT / folder).rglob("*.md"))
    return [path.relative_to(ROOT).with_suffix("").as_posix() for path in found]


def navigation() -> dict[str, list[str]]:
    """Return the groups of the index, each with its pages, as Sphinx names them."""
    groups: dict[str, list[str]] = {}
    listed = {root_doc, "docs/README", "docs/decisions/README", "wheels/README"}
    for part in re.split(r"^## ", (ROOT / INDEX).read_text(encoding="utf-8"), flags=re.M)[1:]:
        title, _, text = part.partition("\n")
        group = groups.setdefault(title.strip(), [])
        for _, link, _ in LINK.findall(text):
            path = (ROOT / INDEX).parent.joinpath(link).resolve()
            if path.suffix != ".md" or not path.is_file():
                continue
            name = path.relative_to(ROOT).with_suffix("").as_posix()
            group += [] if name in listed else [name]
            listed.add(name)
    groups["Decisions"] = [name for name in pages("docs/decisions") if name not in listed]
    groups["Decisions"].insert(0, "docs/decisions/README")
    return groups


def toctrees() -> str:
    """Return the hidden tables of contents that the front page gets."""
    trees = {"": ["docs/README", "wheels/README"], **navigation()}
    return "".join(
        "\n```{toctree}\n:hidden:\n"
        + (f":caption: {title}\n" if title else "")
        + "\n"
        + "".join(f"/{name}\n" for name in names)
        + "```\n"
        for title, names in trees.items()
    )


def without_folders(text: str, page: Path) -> str:
    """Return a page whose links to folders are plain words: a site has no listing of a folder."""

    def plain(found: re.Match[str]) -> str:
        return found[1] if (page.parent / found[2]).is_dir() else found[0]

    return LINK.sub(plain, text)


def _read(app: Any, name: str, source: list[str]) -> None:
    """Change what Sphinx read of a page."""
    source[0] = without_folders(source[0], Path(app.srcdir) / f"{name}.md")
    if name == root_doc:
        source[0] += toctrees()


def setup(app: Any) -> None:
    """Connect with Sphinx."""
    app.connect("source-read", _read)
