"""Hashed requirements for another machine, installed by real pip and uv into an environment."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import proved
import pytest
from test_index import environment, make_wheel, pip, shelve, simple  # noqa: F401  pip is a fixture
from uv import find_uv_bin

from blackwheel.core.console import Console
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.shelf import consumer_lock, index, server

LABEL = "cu130torch2.11.0.sm120a"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two revisions of ours, what they need, and the official wheel of the same version."""
    home = tmp_path_factory.mktemp("shelf")
    for number in (1, 2):
        shelve(make_wheel(home, f"1.0+{LABEL}.{number}", requires="dep===2.0"), home / "ours")
    for version in ("2.0", "3.0"):
        shelve(make_wheel(home, version, name="dep"), home / "registry")
    shelve(make_wheel(home, "1.0"), home / "registry")
    return home


def file_of(shelf: Path, revision: int, *, address: str = "") -> str:
    (wheel,) = (
        one for one in index.shelved(shelf / "ours") if one.version.endswith(f".{revision}")
    )
    dep = next(one for one in index.shelved(shelf / "registry") if one.version == "2.0")
    lock = f"# made\ndep==2.0 \\\n    --hash=sha256:{dep.sha256}\n"
    return consumer_lock.requirements(
        [(wheel, lock)], stack="toy", python="3.12", address=address or simple(shelf / "ours")
    )


def test_file_names_label_hash_and_everything_that_is_needed(shelf: Path) -> None:
    wheel = next(iter(index.shelved(shelf / "ours")))
    dep = next(iter(index.shelved(shelf / "registry")))
    assert file_of(shelf, 1, address="https://wheels.example/toy/simple/") == (
        "# toy for Python 3.12, every file by hash. Made by invoke lock-consumer.\n"
        "# Install: pip install --require-hashes -r THIS, or uv pip install in its place.\n"
        "--extra-index-url https://wheels.example/toy/simple/\n"
        f"toy==1.0+{LABEL}.1 \\\n    --hash=sha256:{wheel.sha256}\n"
        f"dep==2.0 \\\n    --hash=sha256:{dep.sha256}\n"
    )


def test_pins_that_contradict_each_other_are_refused(shelf: Path) -> None:
    wheel = next(iter(index.shelved(shelf / "ours")))
    with pytest.raises(BlackwheelError) as caught:
        consumer_lock.requirements(
            [(wheel, "dep==2.0 --hash=sha256:0\n"), (wheel, "dep==3.0 --hash=sha256:1\n")],
            stack="toy",
            python="3.12",
            address="",
        )
    assert caught.value.code is Exit.CONFIG
    assert str(caught.value) == (
        "error: locks-differ\n"
        "  the projects of toy are pinned to run with different versions or files\n"
        "  of dep\n"
        "  where: constraints/toy.toml\n"
        "  fix:   nox -s lock, or a file for each project: --only"
    )


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_file_installs_in_an_empty_environment_over_the_official_wheel_and_back(
    shelf: Path,
    tool: str,
    tmp_path: Path,
    pip: Path,  # noqa: F811
) -> None:
    home = tmp_path / "environment"
    subprocess.run(
        [find_uv_bin(), "venv", "--quiet", "--python", sys.executable, str(home)], check=True
    )
    python = str(home / "bin" / "python")
    command = [sys.executable, str(pip), "--python", python] if tool == "pip" else []
    command = command or [find_uv_bin(), "pip"]
    tail = ["--python", python] if tool == "uv" else []

    def install(*words: str) -> None:
        argv = [*command, "install", *tail, "--index-url", simple(shelf / "registry"), *words]
        done = subprocess.run(
            argv, env=environment(tmp_path), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def installed() -> list[str]:
        return sorted(path.name for path in home.glob("lib/*/site-packages/*.dist-info"))

    files = {}
    for number in (1, 2):
        files[number] = tmp_path / f"{number}.txt"
        files[number].write_text(file_of(shelf, number), encoding="utf-8")

    def expected(number: int) -> list[str]:
        return ["dep-2.0.dist-info", f"toy-1.0+{LABEL}.{number}.dist-info"]

    install("--require-hashes", "-r", str(files[1]))
    assert installed() == expected(1), "an empty environment"
    install("--force-reinstall" if tool == "pip" else "--reinstall", "toy===1.0")
    assert installed() == ["dep-2.0.dist-info", "toy-1.0.dist-info"]
    install("toy==1.0", "--extra-index-url", simple(shelf / "ours"))
    assert installed()[1] == "toy-1.0.dist-info", "by its public version the official one is kept"
    install("--require-hashes", "-r", str(files[2]))
    assert installed() == expected(2), "over the official wheel"
    install("--require-hashes", "-r", str(files[1]))
    assert installed() == expected(1), "back to the revision before"


def test_other_bytes_than_the_file_names_are_refused(
    shelf: Path,
    tmp_path: Path,
    pip: Path,  # noqa: F811
) -> None:
    text = file_of(shelf, 2)
    wheel = next(one for one in index.shelved(shelf / "ours") if one.version.endswith(".2"))
    other = hashlib.sha256(b"other").hexdigest()
    file = tmp_path / "r.txt"
    file.write_text(text.replace(wheel.sha256, other), encoding="utf-8")
    where = ["--index-url", simple(shelf / "registry"), "--target", str(tmp_path / "t")]
    for argv in (
        [sys.executable, str(pip), "install"],
        [find_uv_bin(), "pip", "install", "--python", sys.executable],
    ):
        done = subprocess.run(
            [*argv, *where, "--require-hashes", "-r", str(file)],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert other in done.stdout + done.stderr


def test_newest_revision_is_locked_or_the_one_that_is_asked_for(tmp_path: Path) -> None:
    site = proved.new_checkout(tmp_path / "checkout")
    toml, code = site.constraints / "toy.toml", proved.library(tmp_path)
    text = toml.read_text(encoding="utf-8")
    for number in (1, 2, 11):
        toml.write_text(text.replace("revision = 1", f"revision = {number}", 1), encoding="utf-8")
        proved.shelve(site, proved.make_wheel(tmp_path / "w", "toy", code, revision=number))

    def locked(revision: int) -> str:
        out = tmp_path / f"{revision}.txt"
        consumer_lock.lock_consumer(
            site,
            "toy",
            python=proved.PYTHON,
            projects=["toy"],
            revision=revision,
            out=str(out),
        )
        return out.read_text(encoding="utf-8")

    for asked, given in ((0, 11), (1, 1), (2, 2)):
        assert f"toy==1.0+{LABEL}.{given} \\\n" in locked(asked)
        assert (
            f"install --require-hashes --extra-index-url '{simple(site.wheels / 'toy')}/' -r '"
            in (proved.said(site))
        )
    with pytest.raises(BlackwheelError, match=r"revision 3 of toy for Python .* is not on the"):
        locked(3)
    with pytest.raises(BlackwheelError) as caught:
        locked(3)
    assert caught.value.name == "no-revision"
    assert f"there: 1.0+{LABEL}.1, 1.0+{LABEL}.11, 1.0+{LABEL}.2" in caught.value.fact
    assert "build-wheels" not in caught.value.fix


@contextlib.contextmanager
def served(wheels: Path) -> Iterator[str]:
    """The address of the toy's index in a folder of shelves."""
    web = server.listening(wheels, 0)
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{web.server_port}/toy/simple/"
    finally:
        web.shutdown()
        web.server_close()
        thread.join()


def test_index_is_asked_for_the_wheels_before_a_file_names_it(tmp_path: Path) -> None:
    site = proved.new_checkout(tmp_path / "checkout")
    code, out = proved.library(tmp_path), tmp_path / "r.txt"
    published, other = tmp_path / "published", tmp_path / "other"
    proved.shelve(site, proved.make_wheel(tmp_path / "w", "toy", code))
    for folder in (published, other):
        shutil.copytree(site.wheels, folder)
    (wheel,) = index.shelved(other / "toy")
    page = other / "toy" / "simple" / "toy" / "index.json"
    page.write_text(page.read_text().replace(wheel.sha256, "f" * 64))
    toml = site.constraints / "toy.toml"

    def lock(address: str) -> str:
        words = {"python": proved.PYTHON, "projects": ["toy"], "out": str(out)}
        consumer_lock.lock_consumer(site, "toy", address=address, **words)  # type: ignore[arg-type]
        return proved.said(site)

    def refused(address: str) -> str:
        out.unlink(missing_ok=True)
        with pytest.raises(BlackwheelError) as caught:
            lock(address)
        assert (caught.value.name, caught.value.code) == ("not-on-index", Exit.INDEX)
        assert not out.exists()
        return caught.value.fact

    with served(other) as address:
        assert refused(address) == f"{wheel.path.name} is there with other bytes, sha256 {'f' * 64}"
    with served(published) as address:
        assert "not asked" not in lock(address)
        assert f"--extra-index-url {address}\n" in out.read_text(encoding="utf-8")
        toml.write_text(toml.read_text().replace("revision = 1", "revision = 2", 1))
        proved.shelve(site, proved.make_wheel(tmp_path / "w", "toy", code, revision=2))
        newer = wheel.path.name.replace(".1-", ".2-")
        assert refused(address) == f"{newer} is not there"
    assert refused(f"{(published / 'toy' / 'simple').as_uri()}/") == f"{newer} is not there"
    told = lock(address)
    assert f"{address}: not asked whether {newer} is there: " in told
    assert out.exists(), "only the machine that installs must reach the index"


def test_project_that_is_not_on_the_shelf_is_named_with_those_that_are(tmp_path: Path) -> None:
    site = Site(checkout=tmp_path, store=tmp_path, environment={}, console=Console(environment={}))
    shutil.copytree(Path(__file__).parents[2] / "constraints", tmp_path / "constraints")
    shelve(make_wheel(tmp_path, "1.0"), tmp_path / "wheels" / "torch211")
    with pytest.raises(BlackwheelError) as caught:
        consumer_lock.lock_consumer(site, "torch211", python="3.12", projects=["flash-attn"])
    assert caught.value.code is Exit.INDEX
    assert str(caught.value) == (
        "error: no-wheel\n"
        "  flash-attn for Python 3.12 is not on the shelf\n"
        "  where: wheels/torch211/\n"
        "  fix:   invoke build-wheels --stack torch211 --python 3.12\n"
        "         or only what is there: --only toy"
    )


def test_python_that_is_on_the_shelf_is_named(tmp_path: Path) -> None:
    site = proved.new_checkout(tmp_path / "checkout")
    proved.shelve(site, proved.make_wheel(tmp_path / "w", "toy", proved.library(tmp_path)))
    toml = site.constraints / "toy.toml"
    text = toml.read_text(encoding="utf-8")
    toml.write_text(text.replace(f'["{proved.PYTHON}"]', f'["{proved.PYTHON}", "3.99"]'), "utf-8")
    with pytest.raises(BlackwheelError) as caught:
        consumer_lock.lock_consumer(site, "toy", python="3.99", projects=["toy"])
    assert caught.value.fix == (
        "invoke build-wheels --stack toy --python 3.99\n"
        f"or for a Python that is there: --python {proved.PYTHON}"
    )


def test_shelf_without_a_wheel_is_not_served(tmp_path: Path) -> None:
    site = Site(checkout=tmp_path, store=tmp_path, environment={}, console=Console(environment={}))
    with pytest.raises(BlackwheelError) as caught:
        server.serve_index(site)
    assert str(caught.value) == (
        "error: nothing-to-serve\n"
        "  no wheel is on any shelf\n"
        "  where: wheels/\n"
        "  fix:   invoke build-wheels --stack quickstart"
    )


def test_wheel_that_no_registry_has_is_named_by_its_address(shelf: Path) -> None:
    wheel = next(iter(index.shelved(shelf / "ours")))
    nightly = (
        "torch @ https://nightly.invalid/torch-3%2Bcu134.whl#sha256=00 \\\n    --hash=sha256:00\n"
    )
    lock = f"# made\ndep[extra]==2.0 \\\n    --hash=sha256:11\n{nightly}"
    text = consumer_lock.requirements(
        [(wheel, lock)], stack="toy", python="3.12", address="https://wheels.invalid/"
    )
    assert text.endswith(f"dep[extra]==2.0 \\\n    --hash=sha256:11\n{nightly}")
    with pytest.raises(BlackwheelError, match=r"(?s)different versions or files.*of torch"):
        consumer_lock.requirements(
            [(wheel, lock), (wheel, lock.replace(":00", ":22"))],
            stack="toy",
            python="3.12",
            address="",
        )
