"""Signs receipts, offline, and reads signed ones: DSSE envelopes of in-toto statements.

`<wheel>.intoto.jsonl` holds one envelope a line (https://github.com/secure-systems-lab/dsse): the
receipt as it lies beside the wheel, byte for byte. Other tools verify it, too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.files import bounded
from blackwheel.receipts import document as receipts
from blackwheel.receipts.beside import bundle_path, receipt_path
from blackwheel.receipts.document import Document

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    from blackwheel.receipts.keys import Signer

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
LARGEST: Final = 1 << 27
"""Bytes of a file of envelopes."""
LINES: Final = 8
SIGNATURES: Final = 16
"""At most so many in one envelope."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """A statement of a file of envelopes, with the keys whose signatures verify."""

    payload: bytes
    statement: Document
    signers: tuple[str, ...]
    """Ids of keys that were asked for; none where no key was given."""
    claims: tuple[str, ...]
    """Ids of all keys that it says it is signed by."""


def signed(payloads: Sequence[bytes], signer: Signer) -> bytes:
    """Return a file of envelopes; raise `signer-failed` for a signature that does not verify."""
    from securesystemslib.dsse import Envelope  # noqa: PLC0415  only signing pays
    from securesystemslib.exceptions import UnverifiedSignatureError  # noqa: PLC0415
    from securesystemslib.signer import Signature  # noqa: PLC0415

    lines = []
    for payload in payloads:
        envelope = Envelope(payload, PAYLOAD_TYPE, {})
        keyid = signer.public.keyid
        signature = Signature(keyid, signer.sign(envelope.pae()).hex())
        try:
            signer.public.verify_signature(signature, envelope.pae())
        except UnverifiedSignatureError:
            raise BlackwheelError(
                "signer-failed",
                "the signature that came back is not one of its public key over these bytes",
                where=f"key {keyid}",
                fix="an agent or a program must sign the bytes as they are, with ed25519",
                code=Exit.SIGNATURE,
            ) from None
        envelope.signatures[keyid] = signature
        lines.append(json.dumps(envelope.to_dict(), sort_keys=True, separators=(",", ":")))
    return "".join(f"{line}\n" for line in lines).encode()


def read(path: Path, keys: Sequence[SSlibKey] = ()) -> tuple[Signed, ...]:
    """Read a file of envelopes; with keys, each must bear a signature of one of them.

    Raises `unsigned` where there is no file, `bad-envelope`, and `foreign-signature`.
    """
    return parsed(data_of(path), path, keys)


def parsed(data: bytes, path: Path, keys: Sequence[SSlibKey] = ()) -> tuple[Signed, ...]:
    """Read the bytes of a file of envelopes as `read` does."""
    lines = data.splitlines()
    if not 0 < len(lines) <= LINES:
        raise _bad(f"{len(lines)} envelopes, not 1 to {LINES}", path)
    found = []
    for number, line in enumerate(lines, start=1):
        where = f"line {number}"
        envelope = _envelope(line, path, where)
        claims = tuple(envelope.signatures)
        signers = tuple(_verified(envelope, key) for key in keys if key.keyid in claims)
        if keys and not any(signers):
            raise _foreign(envelope, keys, path, where)
        found.append(
            Signed(
                payload=envelope.payload,
                statement=_statement(envelope.payload, path, where),
                signers=tuple(filter(None, signers)),
                claims=claims,
            )
        )
    return tuple(found)


def receipt_of(wheel: Path, found: Sequence[Signed]) -> Signed:
    """Return the signed receipt of a wheel; raise `other-payload` where it is not about it.

    A receipt that lies beside the wheel must be the signed one, byte for byte.
    """
    wanted = [one for one in found if one.statement.get("predicateType") == receipts.PREDICATE_TYPE]
    faults = [f"{len(wanted)} receipts are signed, not one"] if len(wanted) != 1 else []
    for one in wanted[:1]:
        faults += receipts.shape_faults(one.statement)
        if not faults and receipts.subject(one.statement)[0] != wheel.name:
            faults = [f"the signed receipt is about {receipts.subject(one.statement)[0]}"]
        beside = receipt_path(wheel)
        if not faults and receipts.content(one.statement) != one.payload:
            faults = ["the signed receipt is not as blackwheel wrote it"]
        if not faults and beside.exists() and bounded(beside, receipts.LARGEST) != one.payload:
            faults = [f"{beside.name} is not the receipt that was signed"]
    if faults:
        raise other_payload(faults, wheel)
    return wanted[0]


def other_payload(faults: Sequence[str], wheel: Path) -> BlackwheelError:
    """Return the error of a signature that is about something else."""
    return BlackwheelError(
        "other-payload",
        "\n".join(faults),
        where=bundle_path(wheel).name,
        fix="take wheel, receipt and signature from where they were signed, together",
        code=Exit.SIGNATURE,
    )


def data_of(path: Path) -> bytes:
    """Return the bytes of a file of envelopes; raise `unsigned` and `bad-envelope`."""
    try:
        return bounded(path, LARGEST)
    except FileNotFoundError:
        raise BlackwheelError(
            "unsigned",
            f"nobody signed it: there is no {path.name}",
            where=str(path.parent),
            fix="invoke sign WHEEL --key KEY, where the wheel was built",
            code=Exit.SIGNATURE,
        ) from None
    except (OSError, ValueError) as error:
        raise _bad(str(error), path) from None


def _envelope(line: bytes, path: Path, where: str) -> Envelope:
    from securesystemslib.dsse import Envelope  # noqa: PLC0415  only signing pays
    from securesystemslib.exceptions import FormatError  # noqa: PLC0415

    try:
        table = json.loads(line)
        if sorted(table) != ["payload", "payloadType", "signatures"]:
            raise ValueError("not payload, payloadType and signatures")
        if table["payloadType"] != PAYLOAD_TYPE or not isinstance(table["payload"], str):
            raise ValueError(f"its payload is no {PAYLOAD_TYPE}")
        if not 0 < len(table["signatures"]) <= SIGNATURES:
            raise ValueError(f"it has not 1 to {SIGNATURES} signatures")
        for one in table["signatures"]:
            if not isinstance(one["keyid"], str) or not isinstance(one["sig"], str):
                raise ValueError("a signature without keyid and sig")
        return Envelope.from_dict(table)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError) as error:
        raise _bad(f"{where}: {_words(error)}", path) from None


def _statement(payload: bytes, path: Path, where: str) -> Document:
    try:
        statement = json.loads(payload)
        if not isinstance(statement, dict) or statement["_type"] != receipts.STATEMENT_TYPE:
            raise ValueError(f"it signs no {receipts.STATEMENT_TYPE}")
    except (ValueError, KeyError, RecursionError) as error:
        raise _bad(f"{where}: {_words(error)}", path) from None
    return statement


def _verified(envelope: Envelope, key: SSlibKey) -> str:
    """Return the id of the key if its signature is right; nothing else."""
    from securesystemslib.exceptions import UnverifiedSignatureError  # noqa: PLC0415

    try:
        key.verify_signature(envelope.signatures[key.keyid], envelope.pae())
    except UnverifiedSignatureError:
        return ""
    return str(key.keyid)


def _foreign(
    envelope: Envelope, keys: Sequence[SSlibKey], path: Path, where: str
) -> BlackwheelError:
    asked = {key.keyid for key in keys}
    broken = [keyid for keyid in envelope.signatures if keyid in asked]
    lines = [f"{where}: no signature of a key that is asked for verifies"]
    lines += [f"  it names {keyid}" for keyid in envelope.signatures]
    lines += [f"  asked:   {keyid}" for keyid in sorted(asked)]
    if broken:
        lines[0] = f"{where}: the signature does not fit what is signed: one of them was changed"
    return BlackwheelError(
        "foreign-signature",
        "\n".join(lines),
        where=str(path),
        fix="who uses the wheel: give the public key of those who signed it, or do not use it\n"
        "who runs the index: sign it again with a key that is asked for (invoke sign),\n"
        "or add the signer's key to signers.pub (docs/publishing.md)",
        code=Exit.SIGNATURE,
    )


def _bad(fact: str, path: Path) -> BlackwheelError:
    return BlackwheelError(
        "bad-envelope",
        f"the signed statements cannot be read: {fact}",
        where=str(path),
        fix="take the file again from where it was signed, or sign again: invoke sign",
        code=Exit.SIGNATURE,
    )


def _words(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON: {error.msg}"
    return f"{error}" if isinstance(error, ValueError) else f"not of its form: {error!r}"
