"""From a pinned nightly to an installed one: hashed pins, the archive, and what asks first."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import persons_environment
from nightly_index import PLATFORM, TRITON, Index, serving, torch, wheel

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import capture
from blackwheel.core.site import Site
from blackwheel.pins import lock_all, move_torch, offer, stack_file
from blackwheel.pytorch import archive
from blackwheel.pytorch import identity as torchpin
from blackwheel.stacks import loader, records

REPOSITORY = Path(__file__).parents[2]
VERSION = "2.10.0.dev20251016+cu128"
TAG = f"cp3{sys.version_info.minor}"
PYTHON = f"3.{sys.version_info.minor}"
LOCK = f"build-flash-attn-py3{sys.version_info.minor}.txt"


class Person(Quiet):
    """A console with somebody at it, who answers every question alike."""

    def __init__(self, answer: bool) -> None:
        super().__init__()
        self.answer = answer
        self.questions: list[str] = []

    def ask(self, question: str) -> bool:
        self.questions.append(question)
        return self.answer


@pytest.fixture
def index() -> Iterator[Index]:
    with serving() as index:
        for name, data in {
            f"torch-{VERSION}": torch(VERSION, requires=(f"pytorch-triton=={TRITON}",)),
            f"pytorch_triton-{TRITON}": wheel("pytorch_triton", TRITON),
        }.items():
            index.add(f"{name}-{TAG}-{TAG}-{PLATFORM}.whl", data)
        yield index


@pytest.fixture
def site(tmp_path: Path, index: Index) -> Site:
    """A stack for the running Python that needs torch and its triton alone."""
    constraints = tmp_path / "checkout" / "constraints"
    constraints.mkdir(parents=True)
    text = (REPOSITORY / "constraints" / "report-2025-10.toml").read_text(encoding="utf-8")
    text = text.partition("[projects.vllm]")[0].replace('["flash-attn", "vllm"]', '["flash-attn"]')
    text = text.replace("https://download.pytorch.org/whl/nightly/cu128", index.channel())
    text = re.sub(r"^requirements = .*$", "requirements = []", text, flags=re.MULTILINE)
    text = re.sub(r"^runtime = \[.*$", "runtime = []", text, flags=re.MULTILINE)
    text = text.replace('python = ["3.11"]', f'python = ["{PYTHON}"]')
    (constraints / "nightly.toml").write_text(text, encoding="utf-8")
    empty = tmp_path / "no-packages"
    empty.mkdir()
    environment = {**persons_environment(), "UV_DEFAULT_INDEX": empty.as_uri()}
    return Site(
        checkout=tmp_path / "checkout",
        store=tmp_path / "store",
        environment=environment,
        console=Quiet(),
    )


def stack(site: Site) -> records.Stack:
    return loader.load("nightly", site.constraints)


def test_lock_of_a_nightly_names_address_and_bytes_of_its_own_wheels_alone(site: Site) -> None:
    move_torch.pin_torch(site, "nightly", VERSION)
    lock_all.lock_all(site, names=["nightly"])
    lock = site.constraints / "nightly" / LOCK
    text = lock.read_text(encoding="utf-8")
    torch_wheel = stack(site).torch.wheels[TAG]
    assert torchpin.locked_digests(lock) == (torch_wheel.sha256,)
    assert torchpin.locked_digests(lock, "pytorch-triton") == (torch_wheel.family[0].sha256,)
    addresses = {f"{one.url}#sha256={one.sha256}" for one in torch_wheel.by_url}
    assert set(re.findall(r" @ (\S+)", text)) == addresses
    assert text.count("://") == 2 and str(site.store) not in text


@pytest.mark.parametrize("setting", ["", "UV_NO_CONFIG", "UV_CONFIG_FILE"])
def test_wheels_that_nobody_has_had_are_locked_without_a_request(
    site: Site, index: Index, tmp_path: Path, setting: str
) -> None:
    """Whatever the person's own uv configuration is."""
    (site.checkout / "pyproject.toml").write_text('[project]\nname = "it"\nversion = "1"\n')
    move_torch.pin_torch(site, "nightly", VERSION)
    torch = stack(site).torch
    wheel = torch.wheels[TAG]
    told = [replace(one, size=0, told_by="somebody") for one in wheel.family]
    unseen = replace(wheel, size=0, told_by="somebody", family=tuple(told))
    stack_file.rewrite("nightly", site.constraints, replace(torch, wheels={TAG: unseen}))
    shutil.rmtree(site.store)
    index.files.clear()
    index.asked.clear()
    (tmp_path / "uv.toml").write_text("no-cache = true\n", encoding="utf-8")
    value = {"UV_NO_CONFIG": "1", "UV_CONFIG_FILE": str(tmp_path / "uv.toml")}.get(setting, "")
    environment = {**site.environment, **({setting: value} if setting else {})}
    lock_all.lock_all(replace(site, environment=environment), names=["nightly"])
    lock = site.constraints / "nightly" / LOCK
    assert torchpin.locked_digests(lock) == (wheel.sha256,)
    assert torchpin.locked_digests(lock, "pytorch-triton") == (wheel.family[0].sha256,)
    assert index.asked == []


def installed(site: Site, lock: Path, venv: Path) -> subprocess.CompletedProcess[str]:
    """Install hashed pins into a new environment, as nox does it."""
    environment = {**site.environment, "VIRTUAL_ENV": str(venv)}
    uv = str(site.uv)
    argv = [uv, "venv", "--quiet", "--python", sys.executable, str(venv)]
    capture(argv, environment=environment, cwd=venv.parent)
    return subprocess.run(
        [uv, "pip", "sync", "--require-hashes", str(lock)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def installable(site: Site, name: str = "nightly") -> Path:
    kept = archive.archive(site.store, site.environment, site.console)
    loaded = loader.load(name, site.constraints)
    return archive.installable(loaded, TAG, site.constraints / name / LOCK, kept)


def test_locked_nightly_is_installed_from_the_archive_alone(
    site: Site, index: Index, tmp_path: Path
) -> None:
    move_torch.pin_torch(site, "nightly", VERSION)
    lock_all.lock_all(site, names=["nightly"])
    index.files.clear()
    index.asked.clear()
    lock = installable(site)
    assert (lock.name, index.asked) == (LOCK, [])
    done = installed(site, lock, tmp_path / "venv")
    assert done.returncode == 0, done.stderr
    identity = torchpin.seen(torchpin.site_packages(tmp_path / "venv"))
    torchpin.check(identity, stack(site).torch, where="venv")


def test_kept_wheel_of_one_stack_never_reaches_another(
    site: Site, index: Index, tmp_path: Path
) -> None:
    """Two nightlies and a stack of the registry, whose triton has one public version."""
    text = (site.constraints / "nightly.toml").read_text(encoding="utf-8")
    other, triton = index.channel("mirror/cu128"), "3.5.0+git99999999"
    (site.constraints / "other.toml").write_text(
        text.replace(index.channel(), other).replace("20251016", "20251017"), encoding="utf-8"
    )
    version = VERSION.replace("20251016", "20251017")
    marked = wheel("pytorch_triton", triton, files={"mark.py": "2"})
    for name, data in {
        f"torch-{version}": torch(version, requires=(f"pytorch-triton=={triton}",)),
        f"pytorch_triton-{triton}": marked,
    }.items():
        index.add(f"{name}-{TAG}-{TAG}-{PLATFORM}.whl", data, channel="mirror/cu128")
    for name, pinned, marks in (("nightly", VERSION, 0), ("other", version, 1)):
        move_torch.pin_torch(site, name, pinned)
        lock_all.lock_all(site, names=[name])
        done = installed(site, installable(site, name), tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert len(list((tmp_path / name).glob("lib/*/site-packages/mark.py"))) == marks
    data = wheel("pytorch_triton", "3.5.0")
    (tmp_path / "no-packages" / f"pytorch_triton-3.5.0-{TAG}-{TAG}-{PLATFORM}.whl").write_bytes(
        data
    )
    pins = tmp_path / "registry.txt"
    digest = hashlib.sha256(data).hexdigest()
    pins.write_text(f"pytorch-triton==3.5.0 --hash=sha256:{digest}\n", encoding="utf-8")
    registry = {**site.environment, "UV_FIND_LINKS": str(tmp_path / "no-packages")}
    done = installed(replace(site, environment=registry), pins, tmp_path / "registry")
    assert done.returncode == 0, done.stderr
    registry["UV_FIND_LINKS"] += f",{site.store / 'torch'}"
    done = installed(replace(site, environment=registry), pins, tmp_path / "shown")
    assert done.returncode != 0
    assert "3.5.0+git" in done.stderr, "so no installer may see the folder of kept wheels"
    sync = (REPOSITORY / "noxfile.py").read_text("utf-8").partition("def _sync")[2]
    assert "find" not in sync.partition("\ndef ")[0].lower()


def test_lock_of_another_torch_is_refused_before_a_build(site: Site) -> None:
    move_torch.pin_torch(site, "nightly", VERSION)
    lock_all.lock_all(site, names=["nightly"])
    lock = site.constraints / "nightly" / LOCK
    locked = stack(site).torch.wheels[TAG].sha256
    lock.write_text(lock.read_text("utf-8").replace(locked, "0" * 64), "utf-8")
    kept = archive.archive(site.store, site.environment, site.console)
    with pytest.raises(BlackwheelError) as caught:
        archive.obtain(stack(site), TAG, kept, lock=lock)
    assert str(caught.value) == (
        "error: lock-of-another-torch\n"
        "  these hashed pins accept another torch wheel than the stack\n"
        f"  pins:  {'0' * 64}\n"
        f"  stack: {locked}\n"
        f"  where: constraints/nightly/{LOCK}\n"
        "  fix:   nox -s lock -- nightly"
    )
    lock_all.lock_all(site, names=["nightly"])
    assert torchpin.locked_digests(lock) == (locked,)


def test_lock_option_locks_an_unlocked_stack_without_asking(site: Site) -> None:
    person = Person(answer=False)
    site = replace(site, console=person)
    assert offer.lock_first(site, stack(site), lock=True)
    assert person.questions == []
    assert (site.constraints / "nightly" / LOCK).is_file()
    assert not offer.lock_first(site, stack(site), lock=True), "it is locked now"


def test_person_is_asked_once_and_may_refuse(site: Site) -> None:
    person = Person(answer=False)
    site = replace(site, console=person)
    assert not offer.lock_first(site, stack(site), lock=False)
    assert person.questions == [f"torch {VERSION} of stack 'nightly' is not locked. Lock it now?"]
    assert stack(site).torch.wheels == {}
    person.answer = True
    assert offer.lock_first(site, stack(site), lock=False)
    assert TAG in stack(site).torch.wheels


def test_ci_is_never_asked_and_never_locks(site: Site) -> None:
    person = Person(answer=True)
    site = replace(site, console=person, environment={**site.environment, "CI": "true"})
    assert not offer.lock_first(site, stack(site), lock=False)
    assert person.questions == []


def test_locked_pin_without_hashed_pins_is_offered_those(site: Site) -> None:
    move_torch.pin_torch(site, "nightly", VERSION)
    person = Person(answer=True)
    site = replace(site, console=person)
    assert offer.lock_first(site, stack(site), lock=False)
    assert person.questions == [
        f"torch {VERSION} of stack 'nightly' has no hashed pins. Lock it now?"
    ]


@pytest.fixture
def checkout(tmp_path: Path, site: Site) -> Path:
    """What a person has cloned, with that stack."""
    for name in ("blackwheel", "tasks.py", "patches"):
        origin = REPOSITORY / name
        target = site.checkout / name
        if origin.is_dir():
            shutil.copytree(origin, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(origin, target)
    return site.checkout


def invoke(checkout: Path, site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**site.environment, "BLACKWHEEL_HOME": str(site.store)}
    return subprocess.run(
        [sys.executable, "-m", "invoke", *words],
        cwd=checkout,
        env=environment,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        check=False,
    )


def test_person_types_pin_torch_latest(checkout: Path, site: Site) -> None:
    done = invoke(checkout, site, "pin", "torch", "latest", "--archive", "shared")
    assert done.returncode == 0, done.stderr
    assert f"torch: the newest of cu128 is {VERSION}" in done.stderr
    assert f"+[torch.wheels.{TAG}]" in done.stdout
    assert (checkout / "shared" / stack(site).torch.wheels[TAG].name).is_file()
    assert "nightly: next: nox -s lock -- nightly" in done.stderr


def test_unlocked_stack_in_a_pipe_is_an_error_that_names_the_command(
    checkout: Path, site: Site
) -> None:
    done = invoke(checkout, site, "build-wheels")
    assert done.returncode == Exit.TORCH
    assert f"fix:   invoke pin torch {VERSION} --stack nightly" in done.stderr
    assert stack(site).torch.wheels == {}


def test_killed_pin_leaves_the_stack_file_and_is_continued(
    checkout: Path, site: Site, index: Index
) -> None:
    name = f"torch-{VERSION}-{TAG}-{TAG}-{PLATFORM}.whl"
    before = (site.constraints / "nightly.toml").read_bytes()
    index.slow[name] = 30.0
    process = subprocess.Popen(
        [sys.executable, "-m", "invoke", "pin", "torch", VERSION],
        cwd=checkout,
        env={**site.environment, "BLACKWHEEL_HOME": str(site.store)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not index.requests_for(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert (site.constraints / "nightly.toml").read_bytes() == before
    assert not (site.store / "torch" / name).exists()
    index.slow.clear()
    done = invoke(checkout, site, "pin", "torch", VERSION)
    assert done.returncode == 0, done.stderr
    assert (site.store / "torch" / name).is_file()
    assert TAG in stack(site).torch.wheels
