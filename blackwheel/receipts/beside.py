"""Finds the receipt of a wheel, and reads its key without verifying it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def receipt_path(wheel: Path) -> Path:
    """Return the path of a wheel's receipt."""
    return wheel.with_name(f"{wheel.name}.receipt.json")


def bundle_path(wheel: Path) -> Path:
    """Return the path of a wheel's signed statements."""
    return wheel.with_name(f"{wheel.name}.intoto.jsonl")


def sbom_path(wheel: Path) -> Path:
    """Return the path of a wheel's SBOM."""
    return wheel.with_name(f"{wheel.name}.cdx.json")


def metadata_path(wheel: Path) -> Path:
    """Return the path of a wheel's METADATA (PEP 658)."""
    return wheel.with_name(f"{wheel.name}.metadata")


def key_section(path: Path) -> dict[str, Any]:
    """Return `digest`, `slug` and `parts` of the key of a wheel; empty without such a receipt.

    Read for every no-op run, so nothing is verified here but the form, on which every reader
    relies: a slug of three names, and parts that are texts, with Python, archs and what is left
    out.
    """
    try:
        document = json.loads(path.read_bytes())
        section = document["predicate"]["buildDefinition"]["externalParameters"]["stack"]["key"]
        return dict(section) if _is_key(section) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _is_key(section: Any) -> bool:
    digest, slug, parts = section["digest"], section["slug"], section["parts"]
    texts = all(isinstance(text, str) for pair in parts.items() for text in pair)
    left_out = json.loads(parts.get("without", "[]"))
    named = all(isinstance(name, str) for name in left_out) and {"python", "archs"} <= set(parts)
    return texts and named and len(slug.split("/")) == 3 and isinstance(digest, str)
