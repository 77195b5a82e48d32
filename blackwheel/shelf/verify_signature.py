"""Compares the signature beside a wheel with its receipt, and with the keys that are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blackwheel.core.errors import BlackwheelError
from blackwheel.receipts.beside import bundle_path
from blackwheel.shelf.verify_pages import Check

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

    from blackwheel.receipts.envelope import Signed

WHAT: Final = "signature"


def public_keys(names: Sequence[str]) -> tuple[SSlibKey, ...]:
    """Return the public keys of these files; raise `no-key` and `bad-key`."""
    from blackwheel.receipts import keys  # noqa: PLC0415  only who asks for them pays

    found = [keys.public_keys(Path(name).expanduser().absolute()) for name in names]
    return tuple(key for group in found for key in group)


def signature_checks(
    wheel: Path, signers: Sequence[SSlibKey]
) -> tuple[Signed | None, Check | None]:
    """Return the signed receipt of a wheel where it is whole, and the check of its signature."""
    if not signers and not bundle_path(wheel).exists():
        return None, None
    from blackwheel.receipts import envelope  # noqa: PLC0415  only a signed wheel pays

    try:
        one = envelope.receipt_of(wheel, envelope.read(bundle_path(wheel), signers))
    except BlackwheelError as error:
        found = f"{error.name}: {'; '.join(error.fact.splitlines())}"
        expected = "signed by a key that was given" if signers else "a whole signature, or none"
        return None, Check(what=WHAT, ok=False, found=found, expected=expected)
    if signers:
        return one, Check(what=WHAT, ok=True, found=f"by {', '.join(one.signers)}")
    why = f"says that it is by {', '.join(one.claims)}: --key FILE.pub proves it"
    return one, Check(what=WHAT, ok=None, found=why)
