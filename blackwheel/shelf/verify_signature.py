"""Compares the signature beside a wheel with its receipt, and with the keys that are trusted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blackwheel.core import files
from blackwheel.core.errors import BlackwheelError
from blackwheel.receipts import document as receipts
from blackwheel.receipts.beside import bundle_path, sbom_path
from blackwheel.shelf import sbom
from blackwheel.shelf.verify_pages import Check

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

    from blackwheel.audit.linkage import Linkage
    from blackwheel.receipts.envelope import Signed

WHAT: Final = "signature"


def public_keys(names: Sequence[str]) -> tuple[SSlibKey, ...]:
    """Return the public keys of these files; raise `no-key` and `bad-key`."""
    from blackwheel.receipts import keys  # noqa: PLC0415  only who asks for them pays

    found = [keys.public_keys(Path(name).expanduser().absolute()) for name in names]
    return tuple(key for group in found for key in group)


def sbom_checks(
    wheel: Path,
    receipt: receipts.Document,
    statements: Sequence[Signed],
    bound: Sequence[Linkage],
    *,
    trusted: bool,
) -> Iterator[Check]:
    """Compare the SBOM of a wheel with the one that was signed, else with one computed again.

    `bound` are the wheel's libraries as the audit read them.
    """
    path = sbom_path(wheel)
    told = [one.statement for one in statements]
    told = [one for one in told if one.get("predicateType") == sbom.PREDICATE_TYPE]
    if not path.exists():
        why = f"there is no {path.name}: nothing tells what the wheel was made from in one list"
        yield Check(what="sbom", ok=None, found=why)
    if not path.exists() and not told:
        return
    if trusted and told:
        made, source = told[0]["predicate"], "the list that was signed"
    else:
        made, source = json.loads(sbom.sbom(receipt, bound)), "all that wheel and receipt tell"
    wanted = json.loads(sbom.statement(receipt, json.dumps(made).encode()))
    if any(one != wanted for one in told):
        yield Check(what="signed sbom", ok=False, found="another list", expected=source)
    if path.exists():
        try:
            same = json.loads(files.bounded(path, receipts.LARGEST)) == made
        except (OSError, ValueError, RecursionError):
            same = False
        found = f"{len(made['components'])} components" if same else "another list"
        yield Check(what="sbom", ok=same, found=found, expected="" if same else source)


def signature_checks(
    wheel: Path, signers: Sequence[SSlibKey]
) -> tuple[tuple[Signed, ...], Check | None]:
    """Return the signed statements of a wheel, its receipt first, if all are whole; the check."""
    if not signers and not bundle_path(wheel).exists():
        return (), None
    from blackwheel.receipts import envelope  # noqa: PLC0415  only a signed wheel pays

    try:
        found = envelope.read(bundle_path(wheel), signers)
        one = envelope.receipt_of(wheel, found)
    except BlackwheelError as error:
        words = f"{error.name}: {'; '.join(error.fact.splitlines())}"
        expected = "signed by a key that was given" if signers else "a whole signature, or none"
        return (), Check(what=WHAT, ok=False, found=words, expected=expected)
    rest = tuple(other for other in found if other is not one)
    if signers:
        return (one, *rest), Check(what=WHAT, ok=True, found=f"by {', '.join(one.signers)}")
    why = f"says that it is by {', '.join(one.claims)}: --key FILE.pub proves it"
    return (one, *rest), Check(what=WHAT, ok=None, found=why)
