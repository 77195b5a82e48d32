"""Signed receipts: whole, cut off, of another wheel, of another key, changed."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from blackwheel.core import files
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.receipts import document as receipts
from blackwheel.receipts import envelope, keys
from blackwheel.receipts.beside import bundle_path, receipt_path

SECTIONS = {"stack": {"name": "toy"}, "audit": {"libraries": []}}


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "toy.key"
    keys.new_key(path)
    return path


@pytest.fixture
def wheel(tmp_path: Path, pair: Path) -> Path:
    """A wheel with its receipt, signed."""
    wheel = tmp_path / "toy-1.0-py3-none-any.whl"
    wheel.write_bytes(b"bytes")
    document = receipts.receipt(wheel.name, files.sha256(wheel), SECTIONS)
    receipts.write(receipt_path(wheel), document)
    data = envelope.signed([receipts.content(document)], keys.signer(str(pair), {}))
    bundle_path(wheel).write_bytes(data)
    return wheel


def public(pair: Path) -> tuple[Any, ...]:
    return keys.public_keys(keys.public_path(pair))


def seen(wheel: Path, pair: Path) -> envelope.Signed:
    return envelope.receipt_of(wheel, envelope.read(bundle_path(wheel), public(pair)))


def refusal(wheel: Path, pair: Path) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        seen(wheel, pair)
    assert caught.value.code == Exit.SIGNATURE
    return caught.value


def table(wheel: Path) -> dict[str, Any]:
    return dict(json.loads(bundle_path(wheel).read_bytes()))


def test_signed_receipt_is_the_one_beside_and_enough_without_it(wheel: Path, pair: Path) -> None:
    one = seen(wheel, pair)
    assert one.payload == receipt_path(wheel).read_bytes()
    assert one.signers == one.claims == (public(pair)[0].keyid,)
    receipt_path(wheel).unlink()
    assert seen(wheel, pair) == one
    assert envelope.read(bundle_path(wheel))[0].signers == (), "without a key nothing is proved"


@pytest.mark.needs("openssl")
def test_format_is_that_of_the_specification(wheel: Path, pair: Path) -> None:
    """`openssl pkeyutl -verify -rawin` over DSSE's pre-authentication encoding."""
    import subprocess

    one = table(wheel)
    payload, kind = base64.b64decode(one["payload"]), one["payloadType"].encode()
    (wheel.parent / "pae").write_bytes(
        b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    )
    (wheel.parent / "sig").write_bytes(base64.b64decode(one["signatures"][0]["sig"]))
    argv = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"]
    argv += [str(keys.public_path(pair)), "-in", "pae", "-sigfile", "sig"]
    done = subprocess.run(argv, cwd=wheel.parent, check=False, capture_output=True, text=True)
    assert done.stdout == "Signature Verified Successfully\n", done.stderr


def test_other_key_is_named_with_both(wheel: Path, pair: Path, tmp_path: Path) -> None:
    keys.new_key(tmp_path / "other.key")
    other = public(tmp_path / "other.key")[0].keyid
    assert str(refusal(wheel, tmp_path / "other.key")) == (
        "error: foreign-signature\n"
        "  line 1: no signature of a key that is asked for verifies\n"
        f"    it names {public(pair)[0].keyid}\n"
        f"    asked:   {other}\n"
        f"  where: {bundle_path(wheel)}\n"
        "  fix:   who uses the wheel: give the public key of those who signed it,"
        " or do not use it\n"
        "         who runs the index: sign it again with a key that is asked for (invoke sign),\n"
        "         or add the signer's key to signers.pub (docs/publishing.md)"
    )


def test_key_id_of_a_trusted_key_over_a_strangers_signature_proves_nothing(
    wheel: Path, pair: Path, tmp_path: Path
) -> None:
    keys.new_key(tmp_path / "other.key")
    data = envelope.signed(
        [receipt_path(wheel).read_bytes()], keys.signer(str(tmp_path / "other.key"), {})
    )
    one = json.loads(data)
    one["signatures"][0]["keyid"] = public(pair)[0].keyid
    bundle_path(wheel).write_text(json.dumps(one))
    assert "the signature does not fit what is signed" in refusal(wheel, pair).fact


def test_payload_that_was_changed_does_not_fit_its_signature(wheel: Path, pair: Path) -> None:
    one = table(wheel)
    for old, new in ((b"toy", b"tox"), (b"audit", b"Audit")):
        changed = base64.b64decode(one["payload"]).replace(old, new)
        bundle_path(wheel).write_text(
            json.dumps({**one, "payload": base64.b64encode(changed).decode()})
        )
        error = refusal(wheel, pair)
        assert error.name == "foreign-signature"
        assert "the signature does not fit what is signed" in error.fact


def test_receipt_that_is_not_the_signed_one_is_another_payload(wheel: Path, pair: Path) -> None:
    document = receipts.receipt(wheel.name, files.sha256(wheel), {"stack": {"name": "other"}})
    receipts.write(receipt_path(wheel), document)
    error = refusal(wheel, pair)
    assert (error.name, error.fact) == (
        "other-payload",
        f"{receipt_path(wheel).name} is not the receipt that was signed",
    )


def test_signature_of_another_wheel_is_another_payload(wheel: Path, pair: Path) -> None:
    other = wheel.with_name("toy-2.0-py3-none-any.whl")
    bundle_path(wheel).rename(bundle_path(other))
    error = refusal(other, pair)
    assert (error.name, error.fact) == (
        "other-payload",
        f"the signed receipt is about {wheel.name}",
    )


def test_every_cut_of_the_file_is_named(wheel: Path, pair: Path) -> None:
    whole = bundle_path(wheel).read_bytes()
    for length in [*range(0, len(whole) - 1, 61), len(whole) - 2]:
        bundle_path(wheel).write_bytes(whole[:length])
        assert refusal(wheel, pair).name == "bad-envelope", length
    bundle_path(wheel).unlink()
    assert refusal(wheel, pair).name == "unsigned"


@pytest.mark.parametrize("step", [37])
def test_every_flipped_byte_of_the_file_is_named(wheel: Path, pair: Path, step: int) -> None:
    whole = bundle_path(wheel).read_bytes()
    for place in range(0, len(whole) - 1, step):
        data = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        bundle_path(wheel).write_bytes(data)
        assert refusal(wheel, pair).name in ("bad-envelope", "foreign-signature", "other-payload")


def test_forms_that_are_no_envelope_are_named(wheel: Path, pair: Path) -> None:
    one = table(wheel)
    signature = one["signatures"][0]
    statement = {"_type": receipts.STATEMENT_TYPE, "predicateType": receipts.PREDICATE_TYPE}
    bad: list[Any] = [
        [],
        1,
        {},
        {**one, "more": 1},
        {**one, "payload": None},
        {**one, "payload": "???"},
        {**one, "payloadType": "application/json"},
        {**one, "signatures": []},
        {**one, "signatures": {}},
        {**one, "signatures": [signature] * 17},
        {**one, "signatures": [signature, signature]},
        {**one, "signatures": [{**signature, "sig": 7}]},
        {**one, "signatures": [{"sig": signature["sig"]}]},
    ]
    texts = [json.dumps(form) for form in bad]
    texts += ["[" * 100_000, "NaN", "\n" * 9 + json.dumps(one), f"{json.dumps(one)}\n" * 9]
    for text in texts:
        bundle_path(wheel).write_text(f"{text}\n")
        assert refusal(wheel, pair).name == "bad-envelope", text[:80]
    signer = keys.signer(str(pair), {})
    for payload in (b"", b"1", b"{}", b"[" * 100_000, b'{"_type": "x"}'):
        bundle_path(wheel).write_bytes(envelope.signed([payload], signer))
        assert refusal(wheel, pair).name == "bad-envelope", payload[:80]
    for payloads in ([json.dumps(statement).encode()], [receipt_path(wheel).read_bytes()] * 2):
        bundle_path(wheel).write_bytes(envelope.signed(payloads, signer))
        assert refusal(wheel, pair).name == "other-payload"


def test_file_without_end_and_pipe_are_refused_at_once(
    wheel: Path, pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envelope, "LARGEST", 1000)
    assert "it has more than 1000 bytes" in refusal(wheel, pair).fact
    bundle_path(wheel).unlink()
    os.mkfifo(bundle_path(wheel))
    assert "it is no regular file" in refusal(wheel, pair).fact
