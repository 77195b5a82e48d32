"""Keeps in the store which receipts this machine shelved, as a second witness of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from blackwheel.core import files
from blackwheel.receipts import document as receipts

FOLDER: Final = "receipts"
MOST: Final = 64
"""Receipts of one wheel's name; each build of the same key has another."""


def remember(store: Path, name: str, receipt: receipts.Document) -> None:
    """Note the receipt with which a wheel was shelved."""
    path = _path(store, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    known = [one for one in (known_receipts(store, name) or ()) if one != _digest(receipt)]
    digests = [*known, _digest(receipt)][-MOST:]
    files.replace_file(path, json.dumps({"receipts": digests}, indent=2).encode() + b"\n")


def known_receipts(store: Path, name: str) -> tuple[str, ...] | None:
    """Return the digests of a wheel's receipts; None where this store shelved none of that name."""
    try:
        told = json.loads(files.bounded(_path(store, name), 1 << 16))["receipts"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()  # a note that cannot be read proves nothing
    return tuple(one for one in told if isinstance(one, str)) if isinstance(told, list) else ()


def is_known(store: Path, name: str, receipt: receipts.Document) -> bool | None:
    """Tell whether this store shelved a wheel with this receipt; None where it knows no wheel."""
    known = known_receipts(store, name)
    return None if known is None else _digest(receipt) in known


def _path(store: Path, name: str) -> Path:
    return store / FOLDER / f"{name}.json"


def _digest(receipt: receipts.Document) -> str:
    return hashlib.sha256(receipts.content(receipt)).hexdigest()
