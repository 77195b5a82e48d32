"""What can still be had: a real index over HTTP, a real repository, and addresses of wheels."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nightly_index
import pytest
from checkout import git, persons_environment
from nightly_index import Index

from blackwheel.core.console import Quiet
from blackwheel.core.errors import Exit
from blackwheel.core.site import Site
from blackwheel.pins.availability import Pin, pins_of, seen, show_availability
from blackwheel.stacks import loader

ROOT = Path(__file__).parents[2]
TOY = "toy-1.0-py3-none-any.whl"
STACK = """
description = "one sdist and one package"
python = ["3.11"]
archs = ["12.0a"]
driver = 580
glibc = "2.39"
build = ["toy"]

[torch]
version = "2.11.0"
runtime = "2.11.0+cu130"
cuda = "13.0"
source = "registry"

[toolchain]
source = "host"
cuda = "13.0"

[projects.toy]
version = "1.0"
modules = ["toy"]

[projects.toy.source]
url = "https://upstream.invalid/toy/toy"

[projects.toy.sdist]
name = "toy-1.0.tar.gz"
sha256 = "@sha256@"
size = 4
tree = "1111111111111111111111111111111111111111"
"""


@pytest.fixture
def index() -> Iterator[Index]:
    with nightly_index.serving() as served:
        yield served


@pytest.fixture
def site(tmp_path: Path, index: Index) -> Site:
    environment = {**persons_environment(), "UV_DEFAULT_INDEX": index.channel()}
    return Site(
        checkout=tmp_path / "checkout",
        store=tmp_path / "store",
        environment=environment,
        console=Quiet(),
    )


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def package(*digests: str, version: str = "1.0") -> Pin:
    return Pin(kind="package", name=f"toy=={version}", sha256=frozenset(digests))


def test_file_of_the_index_by_its_digest(site: Site, index: Index) -> None:
    index.add(TOY, b"toy")
    assert seen(site, package(digest(b"toy"), digest(b"for another Python"))).state == "there"
    other = seen(site, package(digest(b"else")))
    assert (other.state, other.fact) == ("other", "the index lists it with other sha256 alone")
    gone = seen(site, package(digest(b"toy"), version="2.0"))
    assert (gone.state, gone.fact) == ("gone", "the index lists no file of toy 2.0")


def test_project_that_the_index_has_not(site: Site) -> None:
    found = seen(site, package(digest(b"toy")))
    assert (found.state, found.fact) == ("gone", "the package index has no project 'toy'")


@pytest.mark.parametrize("status", [403, 503])
def test_index_that_does_not_answer_says_nothing_of_the_pin(
    site: Site, index: Index, status: int
) -> None:
    index.answers["/toy/"] = [status]
    assert seen(site, package(digest(b"toy"))).state == "unknown"


def wheel_at(index: Index, data: bytes, *, size: int) -> Pin:
    name = "torch-2.16.0.dev20261006+cu134-cp312-cp312-manylinux_2_28_x86_64.whl"
    index.add(name, data)
    url = f"{index.channel()}/{name.replace('+', '%2B')}"
    digests = frozenset([digest(data)])
    return Pin(kind="wheel", name=name, url=url, sha256=digests, size=size)


def test_wheel_by_its_address(site: Site, index: Index) -> None:
    pin = wheel_at(index, b"torch", size=5)
    found = seen(site, pin)
    assert (found.state, str(found.since)) == ("there", "2026-10-06")
    assert seen(site, wheel_at(index, b"torch", size=0)).state == "there"  # nobody had its bytes
    other = seen(site, wheel_at(index, b"torch!", size=5))
    assert (other.state, other.fact) == ("other", "6 bytes instead of 5")
    index.files.clear()
    assert seen(site, pin).state == "gone"
    index.answers[".whl"] = [502]
    assert seen(site, pin).state == "unknown"


@pytest.mark.parametrize("size", [0, 1, 5])
def test_part_of_a_file_whose_length_nobody_tells_says_nothing_of_it(
    site: Site, index: Index, size: int
) -> None:
    index.totals = False
    found = seen(site, wheel_at(index, b"torch", size=size))
    assert (found.state, found.fact.endswith("does not tell how long the file is")) == (
        "unknown",
        True,
    )
    index.ranges = False  # then the length of the whole answer counts
    assert seen(site, wheel_at(index, b"torch", size=size)).state == (
        "other" if size == 1 else "there"
    )


def test_commit_is_fetched_without_its_files(site: Site, tmp_path: Path) -> None:
    upstream = tmp_path / "upstream"
    upstream.mkdir()
    git(upstream, "init", "--quiet")
    (upstream / "file").write_text("x")
    git(upstream, "add", ".")
    git(upstream, "commit", "--quiet", "--message", "one")
    git(upstream, "config", "uploadpack.allowAnySHA1InWant", "true")
    git(upstream, "config", "uploadpack.allowFilter", "true")
    commit = git(upstream, "rev-parse", "HEAD").strip()
    url = f"file://{upstream}"
    found = seen(site, Pin(kind="commit", name="u", url=url, commit=commit))
    assert (found.state, found.since is not None) == ("there", True)
    assert seen(site, Pin(kind="commit", name="u", url=url, commit="0" * 40)).state == "gone"
    assert not list(site.store.glob("commit-*"))


def test_git_host_that_is_away_says_nothing_of_the_commit(site: Site) -> None:
    pin = Pin(kind="commit", name="u", url="https://upstream.invalid/a/b", commit="0" * 40)
    assert seen(site, pin).state == "unknown"


def test_repository_that_git_may_not_read_says_nothing_of_the_commit(
    site: Site, tmp_path: Path, index: Index
) -> None:
    for url in (f"file://{tmp_path}/nowhere", f"{index.root}/a/b"):  # the server refuses: 403
        found = seen(site, Pin(kind="commit", name="u", url=url, commit="0" * 40))
        assert (found.state, bool(found.fact)) == ("unknown", True)


def shown(site: Site, sha256: str, **how: bool) -> tuple[int, str]:
    site.constraints.mkdir(parents=True, exist_ok=True)
    text = STACK.replace("@sha256@", sha256)
    (site.constraints / "own.toml").write_text(text)
    (site.checkout / "patches").mkdir(exist_ok=True)
    for path in loader.load("own", site.constraints).lock_files(site.constraints):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    console = Quiet()
    object.__setattr__(site, "console", console)
    code = show_availability(site, "own", **{"every": False, "as_json": False, **how})
    return code, console.results


def test_stack_can_be_had_or_not(site: Site, index: Index) -> None:
    index.add("toy-1.0.tar.gz", b"data")
    code, told = shown(site, digest(b"data"))
    assert (code, told) == (Exit.OK, "own: can be had; 1 of 1 pins are there\n")
    code, told = shown(site, digest(b"else"))
    assert (code, told) == (
        Exit.SOURCE,
        "own: CANNOT BE HAD; 0 of 1 pins are there\n"
        "  other   sdist toy-1.0.tar.gz: the index lists it with other sha256 alone\n",
    )
    index.answers["/toy/"] = [503]
    code, told = shown(site, digest(b"data"))
    assert code == Exit.AWAY
    assert told.startswith("own: cannot be told; 0 of 1 pins are there\n  unknown sdist toy-1.0")
    code, told = shown(site, digest(b"data"), as_json=True)
    document = json.loads(told)
    assert document["schema"] == "blackwheel.pins/1"
    assert document["stacks"][0]["pins"][0]["state"] == "unknown"


def test_packages_of_the_locks_are_asked_for_only_on_demand(site: Site, index: Index) -> None:
    index.add("toy-1.0.tar.gz", b"data")
    index.add("dep-3.0-py3-none-any.whl", b"dep")
    locks = site.constraints / "own"
    locks.mkdir(parents=True)
    both = f"    --hash=sha256:{digest(b'another')} \\\n    --hash=sha256:{digest(b'dep')}"
    lines = f"dep==3.0 \\\n{both}\ntorch==2.11.0 \\\n    --hash=sha256:"
    (locks / "run-toy-py311.txt").write_text(lines + digest(b"torch") + "\n")
    code, told = shown(site, digest(b"data"))
    assert (code, "dep" in told, "torch torch==2.11.0" in told) == (Exit.SOURCE, False, True)
    assert not index.requests_for("/dep/")
    assert "2 of 3 pins are there" in shown(site, digest(b"data"), every=True)[1]
    assert index.requests_for("/dep/")


def test_missing_lock_file_is_told(site: Site, index: Index) -> None:
    index.add("toy-1.0.tar.gz", b"data")
    assert shown(site, digest(b"data"))[0] == Exit.OK
    (site.constraints / "own" / "run-toy-py311.txt").unlink()
    console = Quiet()
    object.__setattr__(site, "console", console)
    assert show_availability(site, "own", every=False, as_json=False) == Exit.AWAY
    assert console.results == (
        "own: cannot be told; 1 of 2 pins are there\n"
        "  unknown lock own/run-toy-py311.txt: there is no such file: nox -s lock\n"
    )


@pytest.mark.parametrize("name", loader.names(ROOT / "constraints"))
def test_every_stack_pins_something_that_can_be_asked_for(name: str) -> None:
    environment = persons_environment()
    site = Site(checkout=ROOT, store=ROOT / "none", environment=environment, console=Quiet())
    stack = loader.load(name, site.constraints)
    kinds = Counter(pin.kind for pin in pins_of(site, stack))
    assert kinds["sdist"] + kinds["commit"] >= len(stack.build)
    assert (kinds["lock"] > 0) is (name == "report-2025-10")  # its torch is not locked
    if stack.torch.source == "registry":
        assert kinds["torch"] >= 1
