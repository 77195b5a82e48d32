"""Makes keys, and signs the receipts of proved wheels."""

from __future__ import annotations

from pathlib import Path

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.receipts import keys
from blackwheel.shelf import signing


def new_key(site: Site, file: str) -> None:
    """Make a pair of keys; raise `key-exists` and `no-key`."""
    path = Path(file).expanduser().absolute()
    keyid = keys.new_key(path)
    site.console.result(f"private  {path}: keep it, nobody can make it again")
    site.console.result(f"public   {keys.public_path(path)}")
    site.console.result(f"key      {keyid}")


def sign(site: Site, what: str, key: str) -> None:
    """Sign each wheel that `what` names, with the key that was named or set."""
    if not key:
        raise BlackwheelError(
            "no-key",
            "nothing says which key signs",
            where="--key, or `sign` in invoke.yaml",
            fix="--key FILE; invoke new-key FILE makes one",
            code=Exit.SIGNATURE,
        )
    signing.sign(site, what, key)
