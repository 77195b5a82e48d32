"""`invoke sign`, `publish` to indexes that ask for signatures, `verify --key` with nothing else."""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import proved
import pytest

from blackwheel.commands import sign as commands
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.receipts import document as receipts
from blackwheel.receipts import keys
from blackwheel.receipts.beside import bundle_path, receipt_path
from blackwheel.shelf import index, readback, signing, verify
from blackwheel.shelf import publish as publishing
from blackwheel.shelf.remote_index import Limits

ROOT = Path(__file__).parents[2]
QUICK = Limits(seconds=30, pause=lambda _: None)
NAME = f"toy-1.0+{proved.LABEL}.1-{proved.TAG}-{proved.TAG}-linux_x86_64.whl"


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose two wheels are signed; the keys lie beside it."""
    home = tmp_path_factory.mktemp("signing")
    site = proved.new_checkout(home / "checkout")
    code = proved.library(tmp_path_factory.mktemp("library"))
    for name in proved.PROJECTS:
        proved.shelve(site, proved.make_wheel(home / "built", name, code))
    for name in ("ours", "theirs"):
        keys.new_key(home / name)
    signing.sign(site, "toy", str(home / "ours"))
    return home


@pytest.fixture
def home(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(readback, "install", lambda *_, **__: ())
    shutil.copytree(original, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def site(home: Path) -> Site:
    return proved.site_of(home / "checkout")


def publish(site: Site, home: Path, **how: Any) -> int:
    to = str(home / "to")
    return publishing.publish(site, "toy", to=to, yes=True, limits=QUICK, **how)


def refusal(site: Site, home: Path, **how: Any) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        publish(site, home, **how)
    assert caught.value.code == Exit.SIGNATURE
    assert not (home / "to" / "toy" / "simple").exists()
    return caught.value


def wheel_of(site: Site) -> Path:
    return site.wheels / "toy" / NAME


def unsign(site: Site) -> None:
    for path in (site.wheels / "toy").glob("*.intoto.jsonl"):
        path.unlink()


def forge(site: Site, stage: str, **change: Any) -> None:
    path = receipt_path(wheel_of(site))
    document = receipts.load(path)
    section = {**copy.deepcopy(dict(receipts.sections(document)[stage])), **change}
    receipts.write(path, receipts.with_section(document, stage, section))


def faults(site: Site, **how: Any) -> list[tuple[str, str]]:
    done = verify.verify(site, wheel_of(site), **how)
    return [(check.what, check.found.partition(":")[0]) for check in done.faults]


def public(home: Path, name: str = "ours") -> str:
    return str(home / f"{name}.pub")


def test_signed_set_is_published_with_its_signatures(site: Site, home: Path) -> None:
    assert publish(site, home, signed_by=[public(home)]) == Exit.OK
    published = index.shelved(home / "to" / "toy")
    assert len(published) == 2
    for wheel in published:
        here = site.wheels / "toy" / wheel.bundle.name
        assert wheel.bundle.read_bytes() == here.read_bytes()
    assert verify.show_verify(site, str(home / "to" / "toy"), key=[public(home)]) == Exit.OK


def naming(folder: Path, places: set[str]) -> list[str]:
    """Files of a folder, and those inside of its wheels, that name one of these places."""
    found = []
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        held = {path.name: path.read_bytes()}
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as archive:
                held |= {name: archive.read(name) for name in archive.namelist()}
        found += [n for n, data in held.items() if any(one.encode() in data for one in places)]
    return found


def test_no_published_file_names_a_place_of_the_builder(
    site: Site, home: Path, original: Path
) -> None:
    """Receipt, SBOM, signature, pages of wheels and of the index; a real wheel: `tests/chain`."""
    assert publish(site, home) == Exit.OK
    places = {str(home), str(original), str(Path.home()), sys.prefix, sys.base_prefix}
    places -= {"/", "/usr"}  # where the compilers lie, which a receipt names
    assert naming(home / "to", places) == []
    assert len(list((home / "to").rglob("*.*"))) > 15
    (home / "to" / "x.html").write_text(f"<p>{original}</p>")
    assert naming(home / "to", places) == ["x.html"]


@pytest.mark.parametrize("place", ["option", "stack", "index", "index of the stack"])
def test_unsigned_and_foreign_wheels_are_refused_where_a_policy_asks(
    site: Site, home: Path, place: str
) -> None:
    files = {
        "stack": site.constraints / "toy" / "signers.pub",
        "index": home / "to" / "signers.pub",
        "index of the stack": home / "to" / "toy" / "signers.pub",
    }
    how = {"signed_by": [public(home, "theirs")]} if place == "option" else {}
    where = str(files.get(place, "--signed-by"))
    if place in files:
        files[place].parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(public(home, "theirs"), files[place])
    error = refusal(site, home, **how)
    assert error.name == "foreign-signature"
    assert error.__notes__[0].startswith(f"{where} asks for a signature of ")
    unsign(site)
    assert refusal(site, home, **how).name == "unsigned"
    signing.sign(site, "toy", str(home / "theirs"))
    assert publish(site, home, **how) == Exit.OK


def test_who_runs_an_index_whose_key_was_replaced_signs_again(site: Site, home: Path) -> None:
    (home / "to").mkdir()
    shutil.copy(public(home, "theirs"), home / "to" / "signers.pub")
    error = refusal(site, home)
    assert error.name == "foreign-signature"
    assert "sign it again with a key that is asked for (invoke sign)" in error.fix
    signing.sign(site, "toy", str(home / "theirs"))
    assert publish(site, home) == Exit.OK


def test_each_policy_must_be_met(site: Site, home: Path) -> None:
    (home / "to").mkdir()
    shutil.copy(public(home, "theirs"), home / "to" / "signers.pub")
    assert refusal(site, home, signed_by=[public(home)]).name == "foreign-signature"
    both = Path(public(home)).read_text() + Path(public(home, "theirs")).read_text()
    (home / "to" / "signers.pub").write_text(both)
    assert publish(site, home, signed_by=[public(home)]) == Exit.OK


@pytest.mark.parametrize("text", ["", "nobody\n"])
def test_policy_without_a_key_publishes_nothing(site: Site, home: Path, text: str) -> None:
    (home / "to").mkdir()
    (home / "to" / "signers.pub").write_text(text)
    assert refusal(site, home).name == "bad-key"
    (home / "to" / "signers.pub").unlink()
    (home / "to" / "signers.pub").symlink_to("nowhere")
    assert refusal(site, home).name == "no-key"
    assert refusal(site, home, signed_by=[str(home / "none.pub")]).name == "no-key"


def test_without_a_policy_an_unsigned_set_is_published_and_a_broken_signature_is_not(
    site: Site, home: Path
) -> None:
    held = json.loads(receipt_path(wheel_of(site)).read_text())
    times = held["predicate"]["runDetails"]["metadata"]
    forge(site, "run", metadata={**times, "startedOn": "2020-01-01T00:00:00Z"})
    assert refusal(site, home).name == "other-payload"
    bundle_path(wheel_of(site)).write_text("{}")
    assert refusal(site, home).name == "bad-envelope"
    unsign(site)
    assert publish(site, home) == Exit.OK
    assert list((home / "to").rglob("*.intoto.jsonl")) == []


def test_signature_of_an_earlier_receipt_goes_when_another_is_shelved(site: Site) -> None:
    wheel = wheel_of(site)
    document = receipts.load(receipt_path(wheel))
    shelf = site.wheels / "toy"
    assert bundle_path(wheel).exists()
    index.shelve(wheel, document, shelf)
    assert not bundle_path(wheel).exists()


def test_taken_back_wheel_leaves_no_signature(site: Site, home: Path) -> None:
    assert publish(site, home) == Exit.OK
    shelf = home / "to" / "toy"
    for wheel in index.shelved(shelf):
        index.withdraw(wheel, shelf)
    assert list(shelf.glob("*.whl*")) == []


def test_wheel_that_is_not_proved_is_not_signed(site: Site, home: Path) -> None:
    forge(site, "stack", name="nosuch")
    with pytest.raises(BlackwheelError) as caught:
        commands.sign(site, "toy", str(home / "ours"))
    assert caught.value.name == "unproved"
    assert not bundle_path(wheel_of(site)).exists()
    with pytest.raises(BlackwheelError, match="nothing says which key signs"):
        commands.sign(site, "toy", "")


def test_signing_shows_its_progress_apart_from_its_results(site: Site, home: Path) -> None:
    """And what was signed before a wheel that is not proved is told, too."""
    signing.sign(site, "toy", str(home / "ours"))
    out, err = site.console._out, site.console._err
    assert isinstance(out, io.StringIO)
    assert isinstance(err, io.StringIO)
    first, last = err.getvalue().splitlines()
    assert first == "sign: verify and sign 2 wheels"
    assert last.startswith("sign: verify and sign 2 wheels: done in ")
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["signed", "signed"]
    out.truncate(0)
    sorted((site.wheels / "toy").glob("*.receipt.json"))[1].unlink()
    with pytest.raises(BlackwheelError, match="not signed"):
        signing.sign(site, "toy", str(home / "ours"))
    assert out.getvalue().count("signed ") == 1
    assert "sign: verify and sign 2 wheels: failed after " in err.getvalue()


def test_word_of_a_signer_that_kernels_ran_is_believed(site: Site, home: Path) -> None:
    shutil.rmtree(site.store / "smoke")
    with pytest.raises(BlackwheelError, match="kernels-not-run"):
        publish(site, home)
    assert publish(site, home, signed_by=[public(home)]) == Exit.OK


def test_verify_tells_of_a_signature_what_it_proves(site: Site, home: Path) -> None:
    (ours,), (theirs,) = (keys.public_keys(Path(public(home, n))) for n in ("ours", "theirs"))
    done = verify.verify(site, wheel_of(site))
    (check,) = [check for check in done.checks if check.what == "signature"]
    assert check.state == "open"
    assert check.found == f"says that it is by {ours.keyid}: --key FILE.pub proves it"
    done = verify.verify(site, wheel_of(site), signers=[theirs, ours])
    checks = {check.what: check for check in done.checks}
    assert (checks["signature"].state, checks["signature"].found) == ("ok", f"by {ours.keyid}")
    assert (checks["sources"].state, checks["sources"].found) == ("ok", "as it was signed")
    assert faults(site, signers=[theirs]) == [("signature", "foreign-signature")]
    assert verify.show_verify(site, "toy", key=[public(home, "theirs")]) == Exit.SIGNATURE
    forge(site, "smoke", device="forged")
    assert faults(site) == [("signature", "other-payload")]
    assert faults(site, signers=[ours]) == [("signature", "other-payload")]
    unsign(site)
    assert faults(site) == []
    assert faults(site, signers=[ours]) == [("signature", "unsigned")]


def bare(tmp_path: Path) -> Path:
    """A machine with blackwheel's code, and neither stacks nor patches nor a store."""
    root = tmp_path / "bare"
    shutil.copytree(ROOT / "blackwheel", root / "blackwheel")
    shutil.copy(ROOT / "tasks.py", root / "tasks.py")
    return root


def invoke(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(root / "home"), "COLUMNS": "200"}
    argv = [sys.executable, "-m", "invoke", *words]
    return subprocess.run(
        argv, cwd=root, env=environment, check=False, capture_output=True, text=True
    )


def test_wheel_signature_and_public_key_are_enough(site: Site, home: Path, tmp_path: Path) -> None:
    root, there = bare(tmp_path), tmp_path / "there"
    there.mkdir()
    wheel = wheel_of(site)
    for path in (wheel, bundle_path(wheel), Path(public(home)), Path(public(home, "theirs"))):
        shutil.copy(path, there)
    done = invoke(root, "verify", "--key", str(there / "ours.pub"), str(there / NAME))
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    assert done.stdout.endswith("no faults\n")
    assert "its signer knows it" in done.stdout
    assert not (root / "home").exists(), "no store was made"
    done = invoke(root, "verify", "--key", str(there / "theirs.pub"), str(there / NAME))
    assert done.returncode == Exit.SIGNATURE
    assert "foreign-signature" in done.stdout
    assert "not read: no signature of it holds" in done.stdout
    assert done.stdout.count("FAULT") == 1
    done = invoke(root, "verify", str(there / NAME))
    assert done.returncode == Exit.INDEX, "without a key its stack is unknown, and proves nothing"
    with (there / NAME).open("r+b") as file:
        file.seek(200)
        file.write(b"\xff")
    done = invoke(root, "verify", "--key", str(there / "ours.pub"), str(there / NAME))
    assert done.returncode == Exit.INDEX
    assert "FAULT wheel sha256" in done.stdout
    for name in ("none.pub", NAME):
        done = invoke(root, "verify", "--key", str(there / name), str(there / NAME))
        assert done.returncode == Exit.SIGNATURE
        assert "Traceback" not in done.stderr


def test_keys_are_made_and_wheels_signed_from_the_command_line(
    site: Site, home: Path, tmp_path: Path
) -> None:
    root, key = bare(tmp_path), tmp_path / "made.key"
    assert invoke(root, "new-key", str(key)).returncode == Exit.OK
    done = invoke(root, "new-key", str(key))
    assert (done.returncode, "error: key-exists" in done.stderr) == (Exit.SIGNATURE, True)
    for folder in ("constraints", "patches", "wheels"):
        shutil.copytree(site.checkout / folder, root / folder)
    done = invoke(root, "sign", "toy", "--key", str(key))
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    assert done.stdout.count("signed ") == 2
    key.chmod(0o644)
    done = invoke(root, "sign", "toy", "--key", str(key))
    assert (done.returncode, "error: open-key" in done.stderr) == (Exit.SIGNATURE, True)
