"""The torch identity down to bytes: a toy torch with a RECORD, changed in one place at a time."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from blackwheel.core import settled
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.pipeline import receipt
from blackwheel.pytorch import guard
from blackwheel.pytorch import identity as torchpin
from blackwheel.receipts import document as receipts
from blackwheel.smoke.smoke import kernels_not_run

LIBRARY = "torch/lib/libtorch_cpu.so"
GUARD = {
    "wheel": "1.0+cu130torch2.11.0.sm120a.1",
    "requirement": "torch===2.11.0",
    "version": "2.11.0+cu130",
    "git_version": "70d9",
    "cuda": "13.0",
}


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A site-packages folder with a torch of two libraries, as an installer leaves it."""
    folder = tmp_path / "site-packages"
    (folder / "torch" / "lib").mkdir(parents=True)
    (folder / "torch" / "version.py").write_text(
        "from typing import Optional\n__version__ = '2.11.0+cu130'\n"
        "cuda: Optional[str] = '13.0'\ngit_version = '70d9'\n"
    )
    rows = []
    for name in ("libc10.so", "libtorch_cpu.so"):
        (folder / "torch" / "lib" / name).write_bytes(name.encode())
        digest = base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).decode()
        rows.append(f"torch/lib/{name},sha256={digest.rstrip('=')},{len(name)}\n")
    info = folder / "torch-2.11.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: torch\nVersion: 2.11.0\n\n")
    (info / "RECORD").write_text("".join([*rows, "torch/lib/libshm/err.h,,\n"]))
    return folder


def settle(folder: Path, store: Path) -> None:
    """Let the files look old enough for their digests to be kept: only the clock is faked."""
    torchpin.seen(folder, store=store)
    assert list((store / "digests").iterdir())


def other_bytes(folder: Path) -> str:
    """Change a library without changing its size or its time; return its new sha256."""
    file = folder / LIBRARY
    stat = file.stat()
    file.write_bytes(b"LIBTORCH_CPU.SO")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_size == stat.st_size
    return hashlib.sha256(b"LIBTORCH_CPU.SO").hexdigest()


def refusal(folder: Path, store: Path | None = None) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        torchpin.seen(folder, store=store)
    return caught.value


def test_identity_holds_the_digests_of_what_extensions_link_against(packages: Path) -> None:
    identity = torchpin.seen(packages, wheel_sha256=("aa",))
    assert identity.section() == {
        "version": "2.11.0",
        "runtime": "2.11.0+cu130",
        "git_version": "70d9",
        "cuda": "13.0",
        "cxx11_abi": True,
        "wheel_sha256": ["aa"],
        "libraries": [
            {
                "name": f"torch/lib/{name}",
                "size": len(name),
                "digest": {"sha256": hashlib.sha256(name.encode()).hexdigest()},
            }
            for name in ("libc10.so", "libtorch_cpu.so")
        ],
    }


def test_library_with_other_bytes_than_its_record_is_refused_by_both_digests(
    packages: Path,
) -> None:
    found = other_bytes(packages)
    error = refusal(packages)
    assert str(error) == (
        "error: other-torch\n"
        "  torch's libraries are not those that its RECORD lists\n"
        f"  {LIBRARY}: sha256 {found}"
        f" instead of {hashlib.sha256(b'libtorch_cpu.so').hexdigest()}\n"
        f"  where: {packages}\n"
        "  fix:   uv cache clean torch (its files may be the same inodes), remove the environment"
        " and run the same command again"
    )
    assert error.code == Exit.TORCH


def test_library_that_record_does_not_list_is_refused(packages: Path) -> None:
    (packages / "torch" / "lib" / "libtorch_more.so").write_bytes(b"more")
    assert f"libtorch_more.so: sha256 {hashlib.sha256(b'more').hexdigest()} instead of none" in str(
        refusal(packages)
    )


def test_library_that_only_record_lists_is_refused(packages: Path) -> None:
    (packages / LIBRARY).unlink()
    assert f"{LIBRARY}: is missing" in str(refusal(packages))


def test_torch_without_record_is_refused(packages: Path) -> None:
    (packages / "torch-2.11.0.dist-info" / "RECORD").unlink()
    assert "instead of none" in str(refusal(packages))


def test_kept_digest_spares_the_reading_and_sees_a_change_that_hides_its_time(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    monkeypatch.setattr(settled, "SETTLED_NANOSECONDS", -1)
    settle(packages, store)
    with monkeypatch.context() as patched:
        patched.delattr(settled, "sha256")
        torchpin.seen(packages, store=store)
    other_bytes(packages)
    assert LIBRARY in str(refusal(packages, store))


def test_digest_of_a_file_that_was_just_written_is_not_kept(packages: Path, tmp_path: Path) -> None:
    torchpin.seen(packages, store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_spoilt_entry_in_the_store_is_read_as_none(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled, "SETTLED_NANOSECONDS", -1)
    settle(packages, tmp_path)
    for kept in (tmp_path / "digests").iterdir():
        kept.write_text('{"state": [1', encoding="utf-8")
    assert len(torchpin.seen(packages, store=tmp_path).libraries) == 2


def test_torch_of_the_receipt_is_the_same_torch(packages: Path) -> None:
    identity = torchpin.seen(packages)
    torchpin.check_same(identity, identity.section(), where="there")
    torchpin.check_same(identity, {}, where="a wheel from elsewhere")


def test_same_version_with_other_bytes_than_the_receipts_is_a_hard_error(packages: Path) -> None:
    built = torchpin.seen(packages).section()
    built["libraries"][1]["digest"]["sha256"] = "ff"
    with pytest.raises(BlackwheelError) as caught:
        torchpin.check_same(torchpin.seen(packages), built, where="the smoke environment")
    assert str(caught.value) == (
        "error: other-torch\n"
        "  the torch found is not the one that the wheel was built for\n"
        f"  {LIBRARY}: sha256 {hashlib.sha256(b'libtorch_cpu.so').hexdigest()} instead of ff\n"
        "  where: the smoke environment\n"
        "  fix:   remove the environment and run the same command again"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", "2.11.1"),
        ("runtime", "2.11.0+cu128"),
        ("git_version", "ff"),
        ("cuda", "12.8"),
        ("cxx11_abi", False),
        ("libraries", []),
    ],
)
def test_torch_that_differs_from_the_receipts_in_one_thing_is_refused(
    packages: Path, name: str, value: object
) -> None:
    identity = torchpin.seen(packages)
    with pytest.raises(BlackwheelError, match="other-torch"):
        torchpin.check_same(identity, {**identity.section(), name: value}, where="there")


def guarded(folder: Path, text: str, *, name: str = "toy/_built_for.py") -> Path:
    wheel = folder / "toy.whl"
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(name, text)
    return wheel


def test_what_setup_py_wrote_down_is_read_and_is_what_the_receipt_gives(
    packages: Path, tmp_path: Path
) -> None:
    wheel = guarded(tmp_path, f"TORCH = {GUARD!r}\n")
    assert guard.built_for(wheel) == GUARD
    section = torchpin.seen(packages).section()
    assert guard.expected_guard(section, "1.0+cu130torch2.11.0.sm120a.1") == GUARD


def test_torch_that_setup_py_met_must_be_the_environments(packages: Path, tmp_path: Path) -> None:
    wheel = guarded(tmp_path, f"TORCH = { {**GUARD, 'git_version': 'ff'}!r}\n")
    with pytest.raises(BlackwheelError) as caught:
        receipt.torch_section(torchpin.seen(packages), wheel, GUARD["wheel"])
    assert str(caught.value) == (
        "error: other-torch\n"
        "  the torch that setup.py met is not the environment's\n"
        "  git_version: ff instead of 70d9\n"
        "  where: toy.whl, _built_for.py\n"
        "  fix:   invoke build-wheels --again"
    )


def test_guard_of_one_torch_contradicts_a_wheel_for_later_ones(
    packages: Path, tmp_path: Path
) -> None:
    version = "1.0+cu130torch2.11.sm120a.1"
    later = {**GUARD, "wheel": version, "requirement": "torch>=2.11.0"}
    wheel = guarded(tmp_path, f"TORCH = {later!r}\n")
    with pytest.raises(BlackwheelError) as caught:
        receipt.torch_section(torchpin.seen(packages), wheel, version, "2.11.0")
    assert caught.value.code == Exit.TORCH
    assert str(caught.value) == (
        "error: guard-of-one-torch\n"
        "  torch = 'abi' promises torch 2.11.0 and later, and the wheel's own guard refuses every"
        " torch but one at import\n"
        "  where: toy.whl, _built_for.py\n"
        "  fix:   leave torch = 'abi' out of the project's pin, or let the last patch of its"
        " series\n"
        '         write "from": "2.11.0" into _built_for.py and refuse only an older torch'
    )
    wheel.unlink()
    written = guarded(tmp_path, f"TORCH = { {**later, 'from': '2.11.0'}!r}\n")
    section = receipt.torch_section(torchpin.seen(packages), written, version, "2.11.0")
    assert section["built_for"]["from"] == "2.11.0"
    with pytest.raises(BlackwheelError, match=r"from: 2\.11\.0 instead of 2\.10\.0"):
        receipt.torch_section(torchpin.seen(packages), written, version, "2.10.0")


def test_receipt_holds_what_setup_py_wrote_down(packages: Path, tmp_path: Path) -> None:
    wheel = guarded(tmp_path, f"TORCH = {GUARD!r}\n")
    section = receipt.torch_section(torchpin.seen(packages), wheel, GUARD["wheel"])
    assert section["built_for"] == GUARD


def test_wheel_without_that_file_has_nothing_to_compare(tmp_path: Path) -> None:
    assert guard.built_for(guarded(tmp_path, "x", name="toy/__init__.py")) is None


@pytest.mark.parametrize(
    "text",
    [f"TORCH = {GUARD!r}", "TORCH = {}.get\n", "TORCH = [1]\n", "X = {}\n", "TORCH = {'a':1}\n"],
)
def test_file_that_setup_py_did_not_write_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"^toy/_built_for.py: not as setup.py writes it$"):
        guard.built_for(guarded(tmp_path, text))


def test_second_guard_file_is_refused(tmp_path: Path) -> None:
    guarded(tmp_path, f"TORCH = {GUARD!r}\n")
    with pytest.raises(ValueError, match=r"^toy/_built_for.py, b/_built_for.py: not as"):
        guard.built_for(guarded(tmp_path, f"TORCH = {GUARD!r}\n", name="b/_built_for.py"))


def test_kernels_are_not_run_on_any_arch_until_a_device_of_it_ran_them() -> None:
    assert dict(kernels_not_run(["12.0a"], "import only, because no GPU was found", "")) == {
        "12.0a": "not run: no GPU was found"
    }
    assert dict(kernels_not_run(["9.0", "12.0a"], "RTX 5090 (12.0)", "12.0")) == {
        "9.0": "not run: RTX 5090 (12.0) was found",
        "12.0a": "not run: RTX 5090 (12.0) was found, but kernels are not checked yet",
    }


def test_receipt_lists_torchs_libraries_among_what_went_into_the_build(packages: Path) -> None:
    section = torchpin.seen(packages).section()
    document = receipts.receipt("toy.whl", "0" * 64, {"torch": section})
    listed = document["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [one["name"] for one in listed] == ["torch/lib/libc10.so", LIBRARY]
