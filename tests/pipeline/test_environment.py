"""What uv refuses while an environment is synced: by name, with its words, and a code."""

from __future__ import annotations

import base64
import hashlib
import os
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from blackwheel.core import caller, recorded
from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.settled import Digests
from blackwheel.core.site import Site
from blackwheel.pipeline import environment, own_faults


@pytest.mark.parametrize(
    ("code", "said", "name", "kind"),
    [
        (1, "error: Hash mismatch for `a==1`", "wrong-sha256", Exit.SOURCE),
        (
            2,
            "error: Failed to fetch: `http://x/a/`\n Caused by: HTTP status server error (503"
            " Service Unavailable)",
            "no-answer",
            Exit.AWAY,
        ),
        (
            2,
            "error: failed to write: No space left on device (os error 28)",
            "disk-full",
            Exit.MACHINE,
        ),
        (137, "", "program-killed", Exit.MACHINE),
        (2, "error: Couldn't parse requirement", "environment-refused", Exit.CONFIG),
    ],
)
def test_what_uv_says_has_a_name_and_a_code(code: int, said: str, name: str, kind: Exit) -> None:
    error = environment.refused(code, said, where="a lock")
    assert (error.name, error.code) == (name, kind)
    assert said.splitlines()[-1:] == [] or said.splitlines()[-1].strip() in error.fact
    assert error.fix


def test_a_torch_backend_of_the_person_does_not_reach_uv_and_an_index_that_is_down_is_away(
    tmp_path: Path,
) -> None:
    variables = {"UV_TORCH_BACKEND": "cu128", "UV_REQUIRE_HASHES": "1", "HOME": str(tmp_path)}
    variables |= {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "PATH": "/usr/bin:/bin"}
    variables |= {"UV_CACHE_DIR": str(tmp_path / "cache"), "UV_HTTP_RETRIES": "0"}
    lock = tmp_path / "lock.txt"
    lock.write_text(f"toy==1 --hash=sha256:{'0' * 64}\n")
    site = Site(
        checkout=tmp_path, store=tmp_path, environment=caller.chosen(variables), console=Quiet()
    )
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    with pytest.raises(BlackwheelError) as error:
        environment.sync(site, tmp_path / "env", [str(lock)])
    assert (error.value.name, error.value.code) == ("no-answer", Exit.AWAY), str(error.value)
    lock.write_text("")
    environment.sync(site, tmp_path / "env", [str(lock)])


FILES = {
    "toy/__init__.py": "VALUE = 1\n",
    "toy/data/header.h": "#define VALUE 1\n",
    "toy-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: toy\nVersion: 1\n",
    "toy-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}


@dataclass
class World:
    """A lock with one wheel, a cache of uv, and environments that are synced from it."""

    home: Path
    lock: Path

    @property
    def site(self) -> Site:
        variables = {"PATH": os.environ["PATH"], "HOME": str(self.home)}
        variables |= {"UV_CACHE_DIR": str(self.home / "cache"), "UV_OFFLINE": "1"}
        return Site(checkout=self.home, store=self.home, environment=variables, console=Quiet())

    def sync(self, name: str) -> Path:
        """Sync an environment; return its site-packages."""
        folder = self.home / name
        if not folder.exists():
            venv.create(folder, with_pip=False, symlinks=True)
        (packages,) = folder.glob("lib/python3*/site-packages")
        environment.sync(self.site, folder, [str(self.lock)])
        return packages

    def refusal(self, name: str) -> BlackwheelError:
        with pytest.raises(BlackwheelError) as caught:
            self.sync(name)
        assert (caught.value.name, caught.value.code) == ("changed-package", Exit.SOURCE)
        return caught.value


def pinned(folder: Path, name: str = "toy", *, other: str = "", more: str = "") -> str:
    """Make a wheel and return its pin; RECORD is wrong about the file `other`."""
    wheel = folder / f"{name}-1-py3-none-any.whl"
    files = {one.replace("toy", name): text.replace("toy", name) for one, text in FILES.items()}
    files |= {more: f"# of {name}\n"} if more else {}
    rows = []
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
            told = text if path != other else "something else"
            digest = base64.urlsafe_b64encode(hashlib.sha256(told.encode()).digest())
            rows.append(f"{path},sha256={digest.decode().rstrip('=')},{len(text)}\n")
        record = f"{name}-1.dist-info/RECORD"
        archive.writestr(record, "".join([*rows, f"{record},,\n"]))
    digest_of_all = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name} @ {wheel.as_uri()} --hash=sha256:{digest_of_all}\n"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    lock = tmp_path / "lock.txt"
    lock.write_text(pinned(tmp_path))
    yield World(home=tmp_path, lock=lock)


def test_a_wheel_whose_own_record_is_wrong_is_what_its_hash_says(world: World) -> None:
    """As PyNvVideoCodec 2.0.4 is published, which vLLM 0.28.0 requires."""
    world.lock.write_text(pinned(world.home, other="toy/data/header.h"))
    log = world.home / "logs" / "environments.log"
    world.sync("env")
    assert log.read_text(encoding="utf-8").count("--no-cache") == 1
    world.sync("env")
    assert log.read_text(encoding="utf-8").count("--no-cache") == 1, "the answer is kept"
    (cached,) = (world.home / "cache").rglob("toy/data/header.h")
    cached.write_text("#define VALUE 2\n", encoding="utf-8")
    error = world.refusal("other")
    assert error.fact.splitlines()[1].startswith("toy/data/header.h of toy has sha256 ")


def test_a_wheel_that_cannot_be_fetched_again_excuses_nothing(world: World) -> None:
    world.lock.write_text(pinned(world.home, other="toy/__init__.py"))
    packages = world.sync("env")
    (kept,) = (world.home / "own-faults").glob("*.json")
    kept.unlink()
    (world.home / "toy-1-py3-none-any.whl").unlink()
    found = recorded.changed(packages, Digests(packages, None))
    assert [one.path for one in found] == ["toy/__init__.py"]
    env, locks = world.home / "env", [str(world.lock)]
    assert own_faults.changed_since(world.site, env, packages, found, locks) == found


def test_a_file_that_two_wheels_bring_is_right_as_one_of_them_has_it(world: World) -> None:
    pins = [pinned(world.home, name, more="build_backend.py") for name in ("toy", "other")]
    world.lock.write_text("".join(pins))
    packages = world.sync("env")
    (packages / "build_backend.py").write_text("# of nobody\n", encoding="utf-8")
    said = world.refusal("env").fact.splitlines()[1:]
    assert [line.partition(" has ")[0] for line in said] == [
        "build_backend.py of other",
        "build_backend.py of toy",
    ]


def test_a_synced_environment_holds_the_files_of_its_wheels(world: World) -> None:
    packages = world.sync("env")
    assert (packages / "toy" / "__init__.py").is_file()
    (packages / "toy" / "__pycache__").mkdir()
    (packages / "toy" / "__pycache__" / "__init__.cpython-311.pyc").touch()
    world.sync("env")


def test_a_file_that_was_changed_in_the_cache_of_uv_is_named_with_its_cure(world: World) -> None:
    world.sync("env")
    (cached,) = (world.home / "cache").rglob("toy/data/header.h")
    times = cached.stat().st_mtime_ns
    cached.write_text("#define VALUE 2\n", encoding="utf-8")
    os.utime(cached, ns=(times, times))
    error = world.refusal("other")
    assert error.fact.splitlines()[0] == "installed files are not those of their wheels"
    assert error.fact.splitlines()[1].startswith("toy/data/header.h of toy has sha256 ")
    assert error.fix.splitlines() == [
        "uv cache clean toy",
        f"rm -r '{world.home / 'other'}'",
        "and run the same command again",
    ]
    for _ in range(2):  # also out of the digests that were kept
        assert world.refusal("env").fact == error.fact


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sitecustomize.py", "sitecustomize.py is in no RECORD"),
        ("evil.pth", "evil.pth is in no RECORD"),
        ("toy/more.so", "toy/more.so is in no RECORD"),
        ("toy/more.pyc", "toy/more.pyc is in no RECORD"),
    ],
)
def test_a_file_that_no_wheel_brought_is_named(world: World, name: str, said: str) -> None:
    (world.sync("env") / name).write_text("", encoding="utf-8")
    error = world.refusal("env")
    assert error.fact.splitlines()[1:] == [said]
    assert error.fix.startswith("rm -r ")


def test_a_missing_file_and_a_record_without_its_digest_are_named(world: World) -> None:
    packages = world.sync("env")
    (packages / "toy" / "__init__.py").unlink()
    assert "toy/__init__.py of toy is missing" in world.refusal("env").fact
    (packages / "toy" / "__init__.py").write_text("VALUE = 1\n", encoding="utf-8")
    record = packages / "toy-1.dist-info" / "RECORD"
    lines = record.read_text(encoding="utf-8").splitlines()
    lines = ["toy/__init__.py,," if one.startswith("toy/__init__") else one for one in lines]
    record.write_text("\n".join(lines), encoding="utf-8")
    assert "toy/__init__.py of toy has no sha256 in RECORD" in world.refusal("env").fact


def test_an_install_that_did_not_end_is_begun_anew(world: World) -> None:
    """What uv had unpacked before the disk was full is a package for the next uv."""
    (world.home / "env").mkdir()
    right = world.lock.read_text(encoding="utf-8")
    venv.create(world.home / "env", with_pip=False, symlinks=True)
    world.lock.write_text(f"{right}other==1 --hash=sha256:{'0' * 64}\n", encoding="utf-8")
    with pytest.raises(BlackwheelError):
        world.sync("env")
    world.lock.write_text(right, encoding="utf-8")
    (packages,) = (world.home / "env").glob("lib/python3*/site-packages")
    (packages / "toy-1.dist-info").mkdir()
    for name in ("METADATA", "WHEEL", "RECORD"):
        text = FILES.get(f"toy-1.dist-info/{name}", "toy/__init__.py,sha256=x,1\n")
        (packages / "toy-1.dist-info" / name).write_text(text, encoding="utf-8")
    (packages / "_virtualenv.py").touch()
    world.sync("env")
    assert (packages / "toy" / "__init__.py").is_file()
    assert (packages / "_virtualenv.py").is_file(), "the environment's own"
    (packages / "toy" / "__init__.py").unlink()
    world.refusal("env")  # this one did end: what is missing was taken from it
