"""The SBOM beside a wheel: of wheel and receipt alone, verified, signed and published with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import proved
import pytest
from cyclonedx.model.bom import Bom

from blackwheel.audit import audit
from blackwheel.audit.audit import inspect
from blackwheel.audit.linkage import Linkage, linkage
from blackwheel.core import files
from blackwheel.core.errors import Exit
from blackwheel.core.site import Site
from blackwheel.receipts import document as receipts
from blackwheel.receipts import envelope, keys
from blackwheel.receipts.beside import bundle_path, receipt_path, sbom_path
from blackwheel.shelf import index, readback, sbom, signing, verify
from blackwheel.shelf import publish as publishing
from blackwheel.shelf.remote_index import Limits

NAME = f"toy-1.0+{proved.LABEL}.1-{proved.TAG}-{proved.TAG}-linux_x86_64.whl"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(readback, "install", lambda *_, **__: ())
    site = proved.new_checkout(tmp_path / "checkout")
    code = proved.library(tmp_path)
    for name in proved.PROJECTS:
        proved.shelve(site, proved.make_wheel(tmp_path / "built", name, code))
    keys.new_key(tmp_path / "key")
    return site


@pytest.fixture
def wheel(site: Site) -> Path:
    return site.wheels / "toy" / NAME


def faults(site: Site, wheel: Path, **how: Any) -> list[str]:
    return [check.what for check in verify.verify(site, wheel, **how).faults]


def bound(wheel: Path) -> tuple[Linkage, ...]:
    return linkage(inspect(wheel, archs=()))


def write(wheel: Path) -> dict[str, Any]:
    made = sbom.sbom(receipts.load(receipt_path(wheel)), bound(wheel))
    sbom_path(wheel).write_bytes(made)
    return dict(json.loads(made))


def test_list_is_of_the_format_and_the_same_each_time(wheel: Path) -> None:
    receipt = receipts.load(receipt_path(wheel))
    made = sbom.sbom(receipt, bound(wheel))
    assert made == sbom.sbom(receipt, bound(wheel))
    told = json.loads(made)
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    bom = Bom.from_json(data=told)  # type: ignore[attr-defined]
    parts = {str(part.bom_ref): part for part in bom.components}
    assert parts["source:toy"].version == "c" * 40
    assert parts["package:torch"].version == "2.11.0"
    assert str(parts["package:torch"].purl) == "pkg:pypi/torch@2.11.0"
    needs = {one.name: one.value for one in parts["file:toy/_c.so"].properties}
    assert needs == {"blackwheel:role": "bundled"}, "it needs no library"
    assert bom.metadata.component.name == "toy"
    sha256 = told["metadata"]["component"]["hashes"][0]["content"]
    assert sha256 == receipts.subject(receipt)[1]


def test_library_without_kernels_has_no_cuda_runtime(wheel: Path) -> None:
    (one,) = bound(wheel)
    assert (one.library, one.own_cuda_runtime) == ("toy/_c.so", False)
    wheel.write_bytes(b"no wheel")
    assert bound(wheel) == ()


def test_changed_list_is_a_fault_and_a_missing_one_is_open(site: Site, wheel: Path) -> None:
    done = verify.verify(site, wheel)
    (missing,) = [check for check in done.checks if check.what == "sbom"]
    assert (missing.ok, missing.found, done.faults) == (
        None,
        f"there is no {NAME}.cdx.json: nothing tells what the wheel was made from in one list",
        (),
    )
    told = write(wheel)
    assert faults(site, wheel) == []
    for change in (
        {"components": told["components"][1:]},
        {"serialNumber": "urn:uuid:00000000-0000-0000-0000-000000000000"},
        {"metadata": {}},
        {"vulnerabilities": []},
    ):
        sbom_path(wheel).write_text(json.dumps({**told, **change}))
        assert faults(site, wheel) == ["sbom"], change
    for text in ("", "[" * 90_000, "NaN"):
        sbom_path(wheel).write_text(text)
        assert faults(site, wheel) == ["sbom"], text[:9]


def test_wheel_is_read_and_hashed_once_for_all_that_verify_tells(
    site: Site, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(wheel)
    read: list[str] = []
    for module, name in ((audit, "unpack"), (audit, "sha256"), (files, "sha256")):
        real = getattr(module, name)

        def counted(
            path: Path, *given: Any, name: str = name, real: Any = real, **named: Any
        ) -> Any:
            read.extend([name] * (path == wheel))
            return real(path, *given, **named)

        monkeypatch.setattr(module, name, counted)
    assert verify.verify(site, wheel).faults == ()
    assert sorted(read) == ["sha256", "unpack"]


def test_list_is_published_and_taken_back_with_its_wheel(
    site: Site, wheel: Path, tmp_path: Path
) -> None:
    limits = Limits(seconds=30, pause=lambda _: None)
    to = tmp_path / "to"
    assert publishing.publish(site, "toy", to=str(to), yes=True, limits=limits) == Exit.OK
    published = index.shelved(to / "toy")
    assert len(published) == 2
    for there in published:
        receipt = receipts.load(there.receipt)
        assert there.sbom.read_bytes() == sbom.sbom(receipt, bound(there.path))
        index.withdraw(there, to / "toy")
    assert list((to / "toy").glob("*.cdx.json")) == []


def test_signature_covers_the_list(site: Site, wheel: Path, tmp_path: Path) -> None:
    signing.sign(site, str(wheel), str(tmp_path / "key"))
    signers = keys.public_keys(tmp_path / "key.pub")
    told = json.loads(sbom_path(wheel).read_bytes())
    assert faults(site, wheel, signers=signers) == []
    sbom_path(wheel).write_text(json.dumps({**told, "components": []}))
    assert faults(site, wheel, signers=signers) == ["sbom"]
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in (wheel, bundle_path(wheel)):
        shutil.copy(path, alone)
    statements = envelope.read(bundle_path(alone / NAME), signers)
    assert [one.statement["predicate"] for one in statements][1] == told
    assert faults(site, alone / NAME, signers=signers) == []


def test_signed_list_of_another_wheel_is_a_fault(site: Site, wheel: Path, tmp_path: Path) -> None:
    receipt = receipts.load(receipt_path(wheel))
    made = sbom.sbom(receipt, bound(wheel))
    signer = keys.signer(str(tmp_path / "key"), {})
    other = receipts.receipt("other.whl", "f" * 64, {})
    for wrong in (sbom.statement(other, made), sbom.statement(receipt, b'{"components": []}')):
        data = envelope.signed([receipts.content(receipt), wrong], signer)
        bundle_path(wheel).write_bytes(data)
        assert faults(site, wheel) == ["signed sbom"]
