"""Every leaf of a real receipt is changed, its chain made whole again, and `verify` asked."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forging
import pytest
from checkout import Checkout

from blackwheel.core import site as sites
from blackwheel.core.console import Console
from blackwheel.core.site import Site
from blackwheel.receipts import document as receipts
from blackwheel.receipts import keys
from blackwheel.receipts.beside import bundle_path, receipt_path, sbom_path
from blackwheel.shelf import shelved_here, signing, verify, verify_audit, verify_leaves

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.toolchain, pytest.mark.torch, pytest.mark.network, pytest.mark.slow]


@dataclass
class Toy:
    site: Site
    wheel: Path
    receipt: receipts.Document


@pytest.fixture
def toy(built: Checkout, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A shelved toy as it was built; its wheel is read once, for its bytes do not change here."""
    console = Console(environment={}, out=io.StringIO(), err=io.StringIO())
    place = {"BLACKWHEEL_HOME": str(built.store), "PATH": "/usr/bin:/bin"}
    real = sites.here(place)
    site = Site(
        checkout=built.root, store=real.store, environment=real.environment, console=console
    )
    once(monkeypatch, verify_audit.audit, "inspect")
    once(monkeypatch, verify_audit, "_exports")
    (wheel,) = built.wheels
    return Toy(site=site, wheel=wheel, receipt=receipts.load(receipt_path(wheel)))


def once(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """Let a function that reads files answer an equal question from memory."""
    real: Callable[..., Any] = getattr(module, name)
    known: list[tuple[Any, Any]] = []

    def asked(*given: Any, **named: Any) -> Any:
        for question, answer in known:
            if question == (given, named):
                return answer
        known.append(((given, named), real(*given, **named)))
        return known[-1][1]

    monkeypatch.setattr(module, name, asked)


def unnoticed(toy: Toy, **how: Any) -> list[str]:
    """The leaves whose change `verify` does not call a fault."""
    found = []
    forged = [*forging.forged_sections(toy.receipt), *forging.forged_rest(toy.receipt)]
    assert len(forged) > 300
    for name, document in forged:
        assert document != toy.receipt, name
        receipts.write(receipt_path(toy.wheel), document)
        if not verify.verify(toy.site, toy.wheel, **how).faults:
            found.append(name)
    receipts.write(receipt_path(toy.wheel), toy.receipt)
    assert verify.verify(toy.site, toy.wheel, **how).faults == ()
    return found


def test_store_that_shelved_the_wheel_notices_every_leaf(toy: Toy) -> None:
    assert shelved_here.is_known(toy.site.store, toy.wheel.name, toy.receipt)
    assert unnoticed(toy) == []


def test_without_that_store_only_what_is_named_as_said_goes_unnoticed(toy: Toy) -> None:
    (toy.site.store / "receipts" / f"{toy.wheel.name}.json").unlink()
    found = unnoticed(toy)
    assert [name for name in found if not forging.is_said(name)] == []
    page = (ROOT / "docs" / "forgeries.md").read_text(encoding="utf-8")
    for name in found:
        assert f"| `{forging.pattern(name)}` | **said, not proved** |" in page


def test_signature_covers_every_leaf(toy: Toy, tmp_path: Path) -> None:
    (toy.site.store / "receipts" / f"{toy.wheel.name}.json").unlink()
    keys.new_key(tmp_path / "toy.key")
    signing.sign(toy.site, str(toy.wheel), str(tmp_path / "toy.key"))
    assert bundle_path(toy.wheel).exists()
    signers = keys.public_keys(tmp_path / "toy.key.pub")
    assert unnoticed(toy, signers=signers) == []


def test_security_page_names_what_is_said() -> None:
    assert len(verify_leaves.SAID) <= 20
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for pattern, why in verify_leaves.SAID:
        assert f"| `{pattern}` | {why} |" in page


def test_sbom_of_a_real_wheel_names_sources_packages_and_the_static_runtime(toy: Toy) -> None:
    told = json.loads(sbom_path(toy.wheel).read_bytes())
    parts = {
        part["bom-ref"]: {one["name"]: one["value"] for one in part["properties"]}
        for part in told["components"]
    }
    assert {"source:toy-cuda", "source:third_party/toy_headers", "package:torch"} <= set(parts)
    runtime = parts["package:nvidia-cuda-runtime"]
    assert runtime["blackwheel:role"] == "linked-in"
    assert runtime["blackwheel:static"].startswith("libcudart_static.a: toy_cuda/_kernels")
    assert parts["package:nvidia-cuda-nvcc"]["blackwheel:role"] == "build-tool"
