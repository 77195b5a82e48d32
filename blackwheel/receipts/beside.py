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


def key_section(path: Path) -> dict[str, Any]:
    """Return `digest`, `slug` and `parts` of the key of a wheel; empty without a receipt.

    Read for every no-op run, so nothing is verified here.
    """
    try:
        document = json.loads(path.read_bytes())
        section = document["predicate"]["buildDefinition"]["externalParameters"]["stack"]["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(section)
