"""Verify links with the torch that is here; it fetches nothing, and says why it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import proved
import pytest

from blackwheel.core.site import Site
from blackwheel.shelf import verify_audit
from blackwheel.shelf.verify_pages import Check
from blackwheel.stacks import loader
from blackwheel.stacks.request import Request
from blackwheel.toolchain import toolkit

TORCH_NEEDED = "extern int aoti_torch_get_dim(int); int f() { return aoti_torch_get_dim(1); }"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    def fetched(*_: object, **__: object) -> None:
        raise AssertionError("a toolchain is downloaded")

    monkeypatch.setattr(toolkit, "assemble", fetched)
    monkeypatch.setattr(proved, "LABEL", f"{proved.LABEL}.installed")
    return proved.new_checkout(tmp_path / "checkout")


def request_of(site: Site) -> Request:
    """Of a stack whose torch is a vendor's, without CUDA packages beside it."""
    stack = loader.load("toy", site.constraints)
    vendors = replace(stack, torch=replace(stack.torch, source="installed"))
    return Request(stack=vendors, project="toy", python=proved.PYTHON, archs=stack.archs)


def links(site: Site, tmp_path: Path, *, must_link: bool = False) -> Check:
    code = proved.library(tmp_path, TORCH_NEEDED)
    wheel = proved.make_wheel(tmp_path / "built", "toy", code)
    asked = request_of(site)
    done = verify_audit.audited(site, wheel, {"archs": "12.0a"}, asked, digest="f" * 64)
    assert done.report.sha256 == "f" * 64, "hashed by who asks"
    seen = {"libraries": [], "links": []}
    told = verify_audit.audit_checks(done, seen, asked, must_link=must_link)
    assert done.report.fatal == ()
    (one,) = [check for check in told if check.what == "links"]
    return one


def test_torch_and_toolchain_that_are_not_here_are_not_fetched(site: Site, tmp_path: Path) -> None:
    one = links(site, tmp_path)
    why = "no environment here holds torch 2.11.0+cu130"
    assert (one.ok, one.found) == (None, f"{why}: nox -s smoke makes one")
    must = links(site, tmp_path, must_link=True)
    assert must.ok is False
    assert must.found.splitlines()[0] == why
    assert must.expected == "an environment to link in: nox -s smoke -- --stack toy"


def test_toolchain_of_another_lock_is_the_reason(site: Site, tmp_path: Path) -> None:
    lock = site.constraints / "toy" / "toolchain.txt"
    lock.write_text(lock.read_text().replace("13.0.2", "13.0.1"))
    one = links(site, tmp_path)
    assert one.ok is None
    assert one.found.startswith("stale-lock: the lock holds CUDA 13.0.1 with nvcc 13.0.88")


def test_environment_that_cannot_be_read_is_the_reason(site: Site, tmp_path: Path) -> None:
    place = site.store / "torches" / "2.11.0" / "cp3"
    info = place / f"lib/python{proved.PYTHON}/site-packages/torch-2.11.0.dist-info"
    info.mkdir(parents=True)
    (place / "whole").touch()
    one = links(site, tmp_path)
    assert (one.ok, one.found) == (None, f"{place}: no torch is installed there")
