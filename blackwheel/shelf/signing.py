"""Signs the receipts of proved wheels, and reads which keys an index wants them signed with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blackwheel.core import files
from blackwheel.core.errors import BlackwheelError
from blackwheel.core.site import Site
from blackwheel.core.units import counted
from blackwheel.receipts import document as receipts
from blackwheel.receipts.beside import bundle_path, sbom_path
from blackwheel.shelf import admission, sbom, verify

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

    from blackwheel.receipts.keys import Signer

SIGNERS: Final = "signers.pub"
"""Public keys in an index folder, or beside a stack's hashed pins: only wheels that one of them
signed are published there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """Public keys of which one must have signed, and the place that asks for that."""

    where: str
    keys: tuple[SSlibKey, ...]


def sign(site: Site, what: str, key: str) -> None:
    """Sign every wheel that `what` names; one with a fault is not signed, and none after it.

    Raises `unproved` and what `keys.signer` raises.
    """
    from blackwheel.receipts import keys  # noqa: PLC0415  only signing pays

    signer = keys.signer(key, site.environment)
    wheels, signed = verify.wheels_of(site, what, "sign"), list[str]()
    try:
        with site.console.stage(
            "sign", f"verify and sign {counted(len(wheels), 'wheel')}"
        ) as stage:
            for number, wheel in enumerate(wheels):
                stage.update(number, len(wheels), wheel.name)
                signed.append(sign_wheel(site, wheel, signer))
    finally:
        for line in signed:  # none of them goes into the bar
            site.console.result(line)


def sign_wheel(site: Site, wheel: Path, signer: Signer) -> str:
    """Verify a wheel, and write the signature of the receipt that was verified beside it.

    Returns the line that tells of it.
    """
    from blackwheel.receipts import envelope  # noqa: PLC0415  only signing pays

    bundle_path(wheel).unlink(missing_ok=True)  # one of another receipt is a fault
    done = verify.verify(site, wheel)
    if done.faults or done.receipt is None:
        raise admission.unproved(
            ["not signed: it is not proved"],
            [done],
            where=str(wheel),
            fix=f"invoke verify {wheel} tells all of it",
        )
    made = sbom.sbom(done.receipt, done.bound)
    files.replace_file(sbom_path(wheel), made)
    payloads = [receipts.content(done.receipt), sbom.statement(done.receipt, made)]
    data = envelope.signed(payloads, signer)
    files.replace_file(bundle_path(wheel), data)
    return f"signed   {bundle_path(wheel).name} by {signer.public.keyid}"


def policies(
    site: Site, stack: str, folder: Path | None, given: Sequence[str]
) -> tuple[Policy, ...]:
    """Return the policies of a publication: of the options, the stack, and the index's own file.

    A file that is there and holds no key is an error: it asks for something. Raises `no-key` and
    `bad-key`.
    """
    from blackwheel.receipts import keys  # noqa: PLC0415  only signing pays

    made = [
        Policy(
            where="--signed-by",
            keys=tuple(key for name in given for key in keys.public_keys(Path(name).expanduser())),
        )
    ]
    places = [site.constraints / stack / SIGNERS]
    places += [folder.parent / SIGNERS, folder / SIGNERS] if folder else []
    for place in places:
        if place.exists() or place.is_symlink():
            made.append(Policy(where=str(place), keys=keys.public_keys(place)))
    return tuple(one for one in made if one.keys)


def signed_bytes(wheel: Path, asked: Sequence[Policy]) -> bytes:
    """Return the file of a wheel's signed receipt, with a signature for each that asks for one.

    Empty for a wheel that is not signed, and of which nobody asks that. Raises `unsigned`,
    `bad-envelope`, `foreign-signature` and `other-payload`.
    """
    from blackwheel.receipts import envelope  # noqa: PLC0415  only a signed wheel pays

    path = bundle_path(wheel)
    if not asked and not path.exists():
        return b""
    data = b""
    for policy in asked or (Policy(where="", keys=()),):
        try:
            data = data or envelope.data_of(path)
            envelope.receipt_of(wheel, envelope.parsed(data, path, policy.keys))
        except BlackwheelError as error:
            if policy.where:
                error.add_note(f"{policy.where} asks for a signature of {wheel.name}")
            raise
    return data


def require_same(wheel: Path, signed: bytes, receipt: receipts.Document) -> None:
    """Raise `other-payload` where another receipt was signed than the one that was verified."""
    from blackwheel.receipts import envelope  # noqa: PLC0415  only a signed wheel pays

    one = envelope.receipt_of(wheel, envelope.parsed(signed, bundle_path(wheel)))
    if one.statement != receipt:
        raise envelope.other_payload(["the receipt changed while it was verified"], wheel)
