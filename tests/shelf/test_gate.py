"""The one gate before `publish`: forged receipts, refused wheels, and folders that lie."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import proved
import pytest
from wheel.wheelfile import WheelFile

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.receipts import document as receipts
from blackwheel.shelf import index, readback
from blackwheel.shelf import publish as publishing
from blackwheel.shelf.remote_index import Limits

PTX = ".version 8.0\n.target sm_90\n.address_size 64\n"
QUICK = Limits(seconds=30, pause=lambda _: None)
NAME = f"toy-1.0+{proved.LABEL}.1-{proved.TAG}-{proved.TAG}-linux_x86_64.whl"


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gate") / "checkout"
    site = proved.new_checkout(root)
    code = proved.library(tmp_path_factory.mktemp("library"))
    for name in proved.PROJECTS:
        proved.shelve(site, proved.make_wheel(root / "built", name, code))
    return root


@pytest.fixture
def site(original: Path, tmp_path: Path) -> Site:
    shutil.copytree(original, tmp_path / "checkout")
    return proved.site_of(tmp_path / "checkout")


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the fresh environment, which other tests make."""
    monkeypatch.setattr(readback, "install", lambda *_, **__: ())


def publish(site: Site, to: Path, **how: Any) -> int:
    return publishing.publish(site, "toy", to=str(to), yes=True, limits=QUICK, **how)


def refusal(site: Site, to: Path, **how: Any) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        publish(site, to, **how)
    return caught.value


def forge(site: Site, change: Callable[[dict[str, Any]], None], name: str = NAME) -> None:
    """Change the sections of a receipt on the shelf, and compute every digest again."""
    path = site.wheels / "toy" / f"{name}.receipt.json"
    document = receipts.load(path)
    held = copy.deepcopy({stage: dict(one) for stage, one in receipts.sections(document).items()})
    change(held)
    receipts.write(path, receipts.receipt(*receipts.subject(document), held))


def planted(
    site: Site, tmp_path: Path, *, name: str = "", text: str = "", code: bytes = b""
) -> None:
    """Put a wheel of the current label on the shelf, with a receipt that fits its bytes."""
    made = proved.make_wheel(tmp_path / "w", "toy", code or proved.library(tmp_path))
    if name:
        with WheelFile(made) as archive:
            held = {one: archive.read(one) for one in archive.namelist() if "RECORD" not in one}
        made.unlink()
        with WheelFile(made, "w") as archive:
            for one, data in {**held, name: text.encode()}.items():
                archive.writestr(one, data)
    for path in (site.wheels / "toy").glob("toy-*"):
        path.unlink()
    proved.shelve(site, made)


@pytest.mark.parametrize("name", ["nosuch", "other"])
def test_stack_that_is_not_the_asked_one_publishes_nothing(
    site: Site, tmp_path: Path, name: str
) -> None:
    shutil.copy(site.constraints / "toy.toml", site.constraints / "other.toml")
    forge(site, lambda held: held["stack"].update(name=name))
    error = refusal(site, tmp_path / "to")
    assert (error.name, error.code) == ("unproved", Exit.INDEX)
    assert f"  stack: {name}\n  expected: toy" in error.fact
    assert not (tmp_path / "to").exists()


def test_unknown_stack_does_not_turn_the_audit_off(site: Site, tmp_path: Path) -> None:
    planted(site, tmp_path, name="torch/_evil.py")
    forge(site, lambda held: held["stack"].update(name="nosuch"))
    assert "  stack: nosuch\n  expected: toy" in refusal(site, tmp_path / "to").fact
    forge(site, lambda held: held["stack"].update(name="toy"))
    assert "audit: foreign-top-level" in refusal(site, tmp_path / "to").fact


@pytest.mark.parametrize(
    "text",
    [
        "int nobody(void); int toy(void) { return nobody(); }\n",
        "extern __thread int nobody; int toy(void) { return nobody; }\n",
        'int nobody(void); __attribute__((ifunc("chosen"))) int toy(void);\n'
        "static void *chosen(void) { return (void *)nobody; }\n",
    ],
    ids=["plain", "thread", "ifunc"],
)
def test_wheel_with_an_undefined_symbol_is_not_published(
    site: Site, tmp_path: Path, text: str
) -> None:
    planted(site, tmp_path, code=proved.library(tmp_path, text))
    error = refusal(site, tmp_path / "to")
    assert "links: no environment here holds torch 2.11.0+cu130\n" in error.fact
    assert "nobody" in error.fact
    assert "expected: an environment to link in: nox -s smoke -- --stack toy" in error.fact
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("sitecustomize.py", "", "start-file"),
        ("toy.pth", "import os\n", "pth-file"),
        ("toy/kernel.ptx", f"{PTX}.visible .entry k()\n{{\nret;\n}}\n", "not-native"),
    ],
)
def test_whatever_the_audit_refuses_is_not_published(
    site: Site, tmp_path: Path, name: str, text: str, finding: str
) -> None:
    planted(site, tmp_path, name=name, text=text)
    fact = refusal(site, tmp_path / "to").fact
    assert "  audit: " in fact
    assert f"  audit: {finding}" in fact, fact


def test_forged_word_that_kernels_ran_needs_the_option_still(
    site: Site, tmp_path: Path, trusting: None
) -> None:
    assert publish(site, tmp_path / "before") == Exit.OK
    record = site.store / "smoke" / f"{NAME}.json"
    whole = json.loads(record.read_bytes())
    fact = f"{NAME}\n  12.0a: not run here: the receipt says so, and this store has no record of it"
    for told in (
        {**whole, "sha256": "f" * 64},
        {**whole, "kernels": proved.NOT_RUN},
        {**whole, "kernels": {"12.0a": 7}},
        {**whole, "kernels": [1]},
        [whole],
    ):
        record.write_text(json.dumps(told))
        error = refusal(site, tmp_path / "to")
        assert (error.name, error.code) == ("kernels-not-run", Exit.SMOKE)
        assert fact in error.fact
    record.write_text("[" * 200_000)
    assert fact in refusal(site, tmp_path / "to").fact
    record.unlink()
    assert fact in refusal(site, tmp_path / "to").fact
    assert publish(site, tmp_path / "to", allow_unrun=True) == Exit.OK


def listed(to: Path) -> list[str]:
    return [one.path.name for one in index.shelved(to / "toy")]


def test_wheel_that_was_not_read_back_is_taken_back(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        assert len(listed(tmp_path / "to")) == 2, "installers read the pages while it is read back"
        raise BlackwheelError("does-not-install", "no", code=Exit.READBACK)

    monkeypatch.setattr(readback, "install", fails)
    error = refusal(site, tmp_path / "to")
    assert error.code == Exit.READBACK
    assert sorted(error.__notes__) == sorted(
        f"taken back, it is listed no more: {one.path.name}"
        for one in index.shelved(site.wheels / "toy")
    )
    assert listed(tmp_path / "to") == []
    assert list((tmp_path / "to" / "toy").glob("*.whl*")) == []
    for page in (tmp_path / "to").rglob("*.html"):
        assert "toy-1.0" not in page.read_text(encoding="utf-8")


def test_bytes_that_another_writer_changed_are_taken_back(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusting: None
) -> None:
    real = readback.read_folder

    def changed(shelf: Path, proved_set: Any) -> None:
        (shelf / NAME).write_bytes(b"another's")
        real(shelf, proved_set)

    monkeypatch.setattr(readback, "read_folder", changed)
    error = refusal(site, tmp_path / "to")
    assert (error.name, error.code) == ("not-what-was-sent", Exit.READBACK)
    assert listed(tmp_path / "to") == []


def test_wheels_that_were_there_and_read_back_before_stay(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readback, "install", lambda *_, **__: ())
    assert publish(site, tmp_path / "to", only=["other"]) == Exit.OK
    (before,) = listed(tmp_path / "to")

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(readback, "install", stopped)
    with pytest.raises(KeyboardInterrupt):
        publish(site, tmp_path / "to")
    assert listed(tmp_path / "to") == [before]


def test_folder_that_cannot_be_written_any_more_is_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        (tmp_path / "to" / "toy" / "simple" / "toy" / "index.json").write_text("{")
        raise BlackwheelError("does-not-install", "no", code=Exit.READBACK)

    monkeypatch.setattr(readback, "install", broken)
    notes = "\n".join(refusal(site, tmp_path / "to").__notes__)
    assert f"cannot be taken back, it may still be listed: {NAME}: the index page cannot" in notes


def test_receipt_is_published_as_it_was_verified(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusting: None
) -> None:
    """Whoever writes the shelf between the check and the copy publishes nothing by that."""
    real = publishing._state
    path = site.wheels / "toy" / f"{NAME}.receipt.json"
    before = path.read_bytes()

    def meanwhile(*given: Any) -> str:
        forge(site, lambda held: held["smoke"].update(device="forged"))
        return real(*given)

    monkeypatch.setattr(publishing, "_state", meanwhile)
    assert publish(site, tmp_path / "to") == Exit.OK
    assert path.read_bytes() != before
    assert (tmp_path / "to" / "toy" / path.name).read_bytes() == before
