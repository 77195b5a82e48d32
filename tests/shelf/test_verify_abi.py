"""A wheel that says `torch>=X`: shelved only where its libraries keep that, and read again."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import proved
import pytest
from toytorch import build_library, make_torch
from uv import find_uv_bin

from blackwheel.audit import audit
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.receipts import document as receipts
from blackwheel.receipts.beside import receipt_path
from blackwheel.shelf import verify
from blackwheel.shelf.verify_pages import Check
from blackwheel.stacks import loader
from blackwheel.stacks.request import Request

STABLE = (
    'extern "C" int aoti_torch_get_dim(int);\nextern "C" int f() {return aoti_torch_get_dim(1);}'
)
EXACT = "namespace at { float *data_of(int); }\nfloat *g() { return at::data_of(1); }"
ALONE = 'extern "C" int f() { return 1; }'
CURE = "without torch = 'abi' in its pin it serves its own torch"


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torch with real libraries, where the store keeps one."""
    place = tmp_path_factory.mktemp("torches") / "env"
    make_torch(place, version="2.11.0+cu130")
    if not (place / "lib" / f"python{proved.PYTHON}").exists():
        (place / "lib" / "python3.12").rename(place / "lib" / f"python{proved.PYTHON}")
    (info,) = place.rglob("torch-*.dist-info")
    info.rename(info.with_name("torch-2.11.0.dist-info"))  # as the registry's calls itself
    (place / "whole").touch()
    return place


@pytest.fixture
def site(tmp_path: Path, torch: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(proved, "LABEL", "cu130torch2.11.sm120a")
    made = proved.new_checkout(tmp_path / "checkout")
    toml = made.constraints / "toy.toml"
    text = toml.read_text(encoding="utf-8")
    wanted = text.replace("[projects.toy]\n", '[projects.toy]\ntorch = "abi"\n')
    assert wanted != text
    toml.write_text(wanted, encoding="utf-8")
    place = made.store / "torches" / "2.11.0"
    place.mkdir(parents=True)
    (place / proved.TAG).symlink_to(torch)
    return made


def request_of(site: Site) -> Request:
    stack = loader.load("toy", site.constraints)
    return Request(stack=stack, project="toy", python=proved.PYTHON, archs=stack.archs)


def wheel_of(
    folder: Path, torch: Path, source: str, *, requires: str = "torch>=2.11.0", module: str = ""
) -> Path:
    """A wheel with one library, linked with the torch as a compiler links it."""
    cpu = next(torch.rglob("libtorch_cpu.so"))
    needs = [] if source == ALONE else [cpu]
    code = build_library(folder / "code" / "_c.so", source, needs=needs).read_bytes()
    return proved.make_wheel(folder / "built", "toy", code, requires=requires, module=module)


def audited(site: Site, wheel: Path, torch: Path) -> audit.AuditedWheel:
    exports = audit.exports_of(torch, store=site.store)
    return audit.audit(wheel, expected=audit.expectation(request_of(site)), exports=exports)


def receipt_beside(
    site: Site, wheel: Path, torch: Path, change: Callable[[dict[str, Any]], None] = dict
) -> None:
    """Write the receipt that the build of this wheel writes, `change`d by a forger."""
    held = proved.sections(site, wheel, proved.RUN)
    held["audit"] = json.loads(json.dumps(audited(site, wheel, torch).section()))
    change(held)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    receipts.write(receipt_path(wheel), receipts.receipt(wheel.name, digest, held))


def abi_checks(site: Site, wheel: Path) -> list[Check]:
    done = verify.verify(site, wheel, asked=request_of(site), smoked=True)
    return [check for check in done.checks if check.what == "torch abi"]


def refused(site: Site, wheel: Path, torch: Path) -> list[str]:
    with pytest.raises(BlackwheelError) as caught:
        audited(site, wheel, torch)
    assert (caught.value.name, caught.value.code) == ("wheel-refused", Exit.AUDIT)
    return caught.value.fact.splitlines()[1:]


def test_wheel_of_stable_libraries_is_taken_and_verify_reads_it_again(
    site: Site, torch: Path, tmp_path: Path
) -> None:
    wheel = wheel_of(tmp_path, torch, STABLE)
    section = audited(site, wheel, torch).section()
    assert [(one["library"], one["bond"], one["since"]) for one in section["torch_abi"]] == [
        ("toy/_c.so", "stable", "2.9.0")
    ]
    receipt_beside(site, wheel, torch)
    done = verify.verify(site, wheel, asked=request_of(site), smoked=True)
    assert done.faults == ()
    (one,) = abi_checks(site, wheel)
    assert (one.ok, one.found) == (True, "stable from 2.9.0")


def test_wheel_of_one_torch_is_refused_by_symbol_and_cure(
    site: Site, torch: Path, tmp_path: Path
) -> None:
    wheel = wheel_of(tmp_path, torch, f"{STABLE}\n{EXACT}")
    assert refused(site, wheel, torch) == [
        "not-stable: toy/_c.so: takes _ZN2at7data_ofEi from torch, no part of its stable"
        f" interface: {CURE}"
    ]


def test_wheel_without_torch_promises_nothing(site: Site, torch: Path, tmp_path: Path) -> None:
    (said,) = refused(site, wheel_of(tmp_path, torch, ALONE), torch)
    assert said.startswith("not-stable: no library of it uses torch")


@pytest.mark.parametrize(
    "requires", ["torch===2.11.0", "torch>=2.10.0", "torch", "torch>=2.11.0,<2.14", "einops"]
)
def test_metadata_must_name_the_bound_and_nothing_else(
    site: Site, torch: Path, tmp_path: Path, requires: str
) -> None:
    said = refused(site, wheel_of(tmp_path, torch, STABLE, requires=requires), torch)
    assert "the stack has torch>=2.11.0" in " ".join(said)


def test_default_takes_no_wheel_with_a_bound(site: Site, torch: Path, tmp_path: Path) -> None:
    toml = site.constraints / "toy.toml"
    toml.write_text(toml.read_text().replace('torch = "abi"\n', ""))
    said = " ".join(refused(site, wheel_of(tmp_path, torch, STABLE), torch))
    assert "torch-not-pinned: it requires torch>=2.11.0" in said
    assert "other-label" in said


def test_verify_refuses_what_the_receipt_says_otherwise(
    site: Site, torch: Path, tmp_path: Path
) -> None:
    wheel = wheel_of(tmp_path, torch, STABLE)

    def older(held: dict[str, Any]) -> None:
        held["audit"]["torch_abi"][0]["since"] = "2.1.0"

    def silent(held: dict[str, Any]) -> None:
        del held["audit"]["torch_abi"]

    for change in (older, silent):
        receipt_beside(site, wheel, torch, change)
        (one,) = abi_checks(site, wheel)
        assert one.ok is False
        assert '"since": "2.9.0"' in one.expected


def test_verify_refuses_a_library_of_one_torch_whatever_its_receipt_says(
    site: Site, torch: Path, tmp_path: Path
) -> None:
    good = wheel_of(tmp_path / "good", torch, STABLE)
    held: dict[str, Any] = json.loads(json.dumps(audited(site, good, torch).section()))
    wheel = wheel_of(tmp_path, torch, f"{STABLE}\n{EXACT}")
    made = proved.sections(site, wheel, proved.RUN) | {"audit": held}
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    receipts.write(receipt_path(wheel), receipts.receipt(wheel.name, digest, made))
    found = [check.found for check in abi_checks(site, wheel) if check.ok is False]
    assert found[0].startswith("not-stable: toy/_c.so: takes _ZN2at7data_ofEi from torch")


def test_guard_of_one_torch_is_a_fault_of_verify(site: Site, torch: Path, tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path, torch, STABLE)
    receipt_beside(site, wheel, torch)
    document = receipts.load(receipt_path(wheel))
    held = receipts.sections(document)
    parts = held["stack"]["key"]["parts"]
    version = f"1.0+{parts['label']}"
    told = {
        "wheel": version,
        "requirement": "torch>=2.11.0",
        "version": "2.11.0+cu130",
        "git_version": proved.GIT,
        "cuda": "13.0",
    }
    checks = {}
    for name, guard in (("one", told), ("later", {**told, "from": "2.11.0"})):
        path = tmp_path / name / wheel.name
        path.parent.mkdir()
        path.write_bytes(wheel.read_bytes())
        proved.add_file(path, "toy/_built_for.py", f"TORCH = {guard!r}\n")
        checks[name] = list(verify._guard_checks(path, held, parts))
    faults = [check.what for check in checks["one"] if check.ok is False]
    assert "_built_for.py from" in faults
    assert [check.what for check in checks["later"] if check.ok] == ["_built_for.py"]


def test_installer_takes_a_later_torch_and_refuses_an_older_one(
    site: Site, torch: Path, tmp_path: Path
) -> None:
    wheel = wheel_of(tmp_path, torch, STABLE)
    for version in ("2.10.0", "2.15.0"):
        proved.plain_wheel(tmp_path / "index", "torch", version)

    def installed(version: str) -> subprocess.CompletedProcess[str]:
        argv = [find_uv_bin(), "pip", "install", "--dry-run", "--no-config", "--offline"]
        argv += ["--no-index", "--find-links", str(tmp_path / "index"), "--python", sys.executable]
        argv += ["--target", str(tmp_path / "there"), str(wheel), f"torch=={version}"]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    later = installed("2.15.0")
    assert later.returncode == 0, later.stderr
    assert "torch==2.15.0" in later.stderr
    older = installed("2.10.0")
    assert older.returncode == 1
    assert "torch>=2.11.0" in older.stderr
