"""A wheel in the store is held to all that a shelf asks for, whatever its receipt says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import proved
import pytest
from wheel.wheelfile import WheelFile

from blackwheel.audit.audit import inspect
from blackwheel.audit.linkage import linkage
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pipeline import chain, run, todo
from blackwheel.pipeline.session_file import build_order
from blackwheel.pipeline.todo import Work
from blackwheel.receipts import document as receipts
from blackwheel.receipts.beside import receipt_path
from blackwheel.shelf import index, sbom, shelved_here
from blackwheel.stacks.ask import requests

UNDEFINED = "int nobody(void); int toy(void) { return nobody(); }\n"


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return proved.library(tmp_path_factory.mktemp("library"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return proved.new_checkout(tmp_path / "checkout")


@pytest.fixture
def item(site: Site) -> Work:
    (asked, _), python = requests(site, "toy")
    return todo.work(site, asked, python)


def folder_of(site: Site, item: Work) -> Path:
    return site.store / "builds" / item.request.slug / "work" / "wheel"


def plant(site: Site, wheel: Path, change: Callable[[Any], None] = lambda _: None) -> Path:
    """Write a receipt for a wheel as its build would, its smoke left out, and then change it."""
    held = proved.sections(site, wheel, proved.NOT_RUN)
    del held["smoke"]
    change(held)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    receipts.write(receipt_path(wheel), receipts.receipt(wheel.name, digest, held))
    return wheel


def planted(site: Site, item: Work, code: bytes) -> Path:
    return plant(site, proved.make_wheel(folder_of(site, item), "toy", code))


def test_candidate_is_an_audited_wheel_of_the_same_key(site: Site, item: Work, code: bytes) -> None:
    assert chain.candidate(site, item) is None
    wheel = planted(site, item, code)
    assert chain.candidate(site, item) == wheel
    order = build_order(item, item.request.lock("build", site.constraints))
    assert chain.build_one(site, order, environment=site.store) == wheel, "found, not built"
    other = replace(item, key=replace(item.key, digest="f" * 64))
    assert chain.candidate(site, other) is None, "of another key"
    receipt_path(wheel).unlink()
    assert chain.candidate(site, item) is None, "without a receipt"
    plant(site, wheel).write_bytes(b"other")
    assert chain.candidate(site, item) is None, "other bytes"


def rewritten(wheel: Path, name: str, text: str) -> None:
    """Put a file into a wheel, with a RECORD that names it."""
    with WheelFile(wheel) as archive:
        held = {one: archive.read(one) for one in archive.namelist() if "RECORD" not in one}
    held[name] = text.encode()
    wheel.unlink()
    with WheelFile(wheel, "w") as archive:
        for one, data in held.items():
            archive.writestr(one, data)


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("torch/_evil.py", "", "foreign-top-level"),
        ("toy.pth", "import os\n", "pth-file"),
        (
            "{info}/METADATA",
            "Metadata-Version: 2.4\nName: toy\nVersion: {version}\nRequires-Python: >=3.11\n"
            "Requires-Dist: torch>=2\n",
            "torch-not-pinned",
        ),
    ],
)
def test_wheel_that_the_audit_refuses_is_no_candidate_and_the_reason_is_told(
    site: Site, item: Work, code: bytes, name: str, text: str, finding: str
) -> None:
    wheel = proved.make_wheel(folder_of(site, item), "toy", code)
    version = wheel.name.split("-")[1]
    info = f"toy-{version}.dist-info"
    rewritten(wheel, name.format(info=info), text.format(version=version))
    plant(site, wheel)
    assert chain.is_candidate(item, wheel), "its receipt is whole, and of this key"
    assert chain.candidate(site, item) is None
    assert f"toy: {wheel.name} is built anew: audit: {finding}" in proved.said(site)


def test_wheel_that_does_not_link_is_no_candidate(site: Site, item: Work, tmp_path: Path) -> None:
    wheel = proved.make_wheel(folder_of(site, item), "toy", proved.library(tmp_path, UNDEFINED))
    plant(site, wheel)
    assert chain.candidate(site, item) is None
    assert f"{wheel.name} is built anew: links: no environment here holds" in proved.said(site)


def test_receipt_of_another_stack_makes_no_candidate(site: Site, item: Work, code: bytes) -> None:
    wheel = planted(site, item, code)
    for change, told in (
        (lambda held: held["stack"].update(name="nosuch"), "stack: nosuch"),
        (lambda held: held["stack"].update(project="other"), "wheel name: toy"),
        (lambda held: held["audit"].update(libraries=[]), "libraries: toy/_c.so"),
    ):
        plant(site, wheel, change)
        assert chain.candidate(site, item) is None
        assert f"{wheel.name} is built anew: {told}" in proved.said(site)


def test_wheel_that_changed_after_smoke_is_not_shelved(site: Site, item: Work, code: bytes) -> None:
    wheel = planted(site, item, code)
    held = receipts.sections(receipts.load(receipt_path(wheel)))
    for section, fault in (({"device": "a GPU"}, ""), (None, "receipt smoke: missing")):
        given = dict(held) | ({"smoke": section} if section else {})
        rewritten(wheel, "torch/_evil.py", "") if not fault else None
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        receipts.write(receipt_path(wheel), receipts.receipt(wheel.name, digest, given))
        with pytest.raises(BlackwheelError) as caught:
            run._shelve(site, [(item, wheel)])
        assert (caught.value.name, caught.value.code) == ("unproved", Exit.INDEX)
        assert (fault or "foreign-top-level") in caught.value.fact
        assert index.shelved(site.wheels / "toy") == ()
        assert wheel.exists()


def test_wheel_that_passes_is_shelved_with_its_sbom_and_the_store_notes_its_receipt(
    site: Site, item: Work, code: bytes
) -> None:
    wheel = planted(site, item, code)
    document = receipts.load(receipt_path(wheel))
    smoke = proved.sections(site, wheel, proved.NOT_RUN)["smoke"]
    whole = receipts.with_section(document, "smoke", smoke)
    receipts.write(receipt_path(wheel), whole)
    (one,) = run._shelve(site, [(item, wheel)])
    assert one.sbom.read_bytes() == sbom.sbom(whole, linkage(inspect(one.path, archs=())))
    assert shelved_here.is_known(site.store, one.path.name, whole)
    assert not wheel.exists()
