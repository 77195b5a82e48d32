"""`invoke pin torch X` of a torch of the package registry: one plan, all of it or nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from checkout import persons_environment
from nightly_index import PLATFORM, File, Index, serving, torch, wheel

from blackwheel.core.console import Quiet
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.pins import changes, pin
from blackwheel.pytorch import identity
from blackwheel.stacks import loader

PYTHON = f"3.{sys.version_info.minor}"
TAG = f"cp3{sys.version_info.minor}"
GIT = {"2.14.0": "4" * 40, "2.15.0": "5" * 40}
TRITON = {"2.14.0": "3.8.0", "2.15.0": "3.9.0"}
TOOLKIT = {"2.14.0": "13.0.3", "2.15.0": "13.2.2"}
NVCC = {"13.0.3": "13.0.88", "13.2.2": "13.2.86"}
STACK = f"""\
# Ours.
description = "torch 2.14.0, CUDA 13.0.3 from the registry"
python = ["{PYTHON}"]
archs = ["12.0a"]
driver = 580 # of 13.0
glibc = "2.39"
build = ["toy"]

[torch]
source = "registry" # mine/torch.toml

[toolchain]
source = "registry"
cuda = "13.0.3"
nvcc = "13.0.88"
requirements = [
  "cuda-toolkit[nvcc]==13.0.3",
  "nvidia-nvjitlink==13.0.88", # the extra lets it float
]

[projects.toy]
version = "1.0"
modules = ["toy"]
runtime = ["{{torchvision}}"]
objects = 3
cpu_seconds = 90

[projects.toy.source]
url = "https://upstream.invalid/toy"
commit = "{"a" * 40}"
tree = "{"b" * 40}"
"""
OWN = f"""\
# The torch of this stack.
version = "2.14.0"
runtime = "2.14.0+cu130"
cuda = "13.0"
git_version = "{GIT["2.14.0"]}"

[wheels.{TAG}]
name = "torch-2.14.0-{TAG}-{TAG}-{PLATFORM}.whl"
sha256 = "{"0" * 64}"
size = 1
"""


def put(
    index: Index, project: str, version: str, data: bytes, *, tags: str = "py3-none-any"
) -> str:
    name = f"{project}-{version}-{tags}.whl"
    index.files[f"/simple/{name}"] = File(data=data)
    return name


def listed(index: Index, version: str, *, tag: str = TAG, **how: str) -> None:
    cuda = TOOLKIT[version][:4]
    requires = (f"cuda-toolkit[nvcc]=={TOOLKIT[version]}", f"triton=={TRITON[version]}")
    runtime = f"{version}+cu{cuda.replace('.', '')}"
    how = {"git": GIT[version], "cuda": cuda, "runtime": runtime, **how}
    data = torch(version, requires=requires, size=1000, **how)  # type: ignore[arg-type]
    put(index, "torch", version, data, tags=f"{tag}-{tag}-{PLATFORM}")


@pytest.fixture
def index() -> Iterator[Index]:
    """A registry with two releases of torch, and with whatever belongs to each."""
    with serving() as index:
        for version, toolkit in TOOLKIT.items():
            listed(index, version)
            triton = wheel("triton", TRITON[version])
            put(index, "triton", TRITON[version], triton, tags=f"{TAG}-{TAG}-{PLATFORM}")
            nvcc = NVCC[toolkit]
            parts = (
                f"nvidia-cuda-nvcc=={nvcc}.*; extra == 'nvcc'",
                f"nvidia-nvjitlink<14,>={nvcc}; extra == 'nvjitlink'",
            )
            put(index, "cuda_toolkit", toolkit, wheel("cuda_toolkit", toolkit, requires=parts))
            put(index, "nvidia_cuda_nvcc", nvcc, wheel("nvidia_cuda_nvcc", nvcc))
            put(index, "nvidia_nvjitlink", nvcc, wheel("nvidia_nvjitlink", nvcc))
        for version, wanted in {"0.29.0": "==2.14.0", "0.29.2": ">=2.14.0"}.items():
            data = wheel("torchvision", version, requires=(f"torch{wanted}",))
            put(index, "torchvision", version, data)
        yield index


@pytest.fixture
def site(tmp_path: Path, index: Index) -> Site:
    constraints = tmp_path / "constraints"
    (constraints / "mine").mkdir(parents=True)
    (constraints / "mine.toml").write_text(STACK, encoding="utf-8")
    (constraints / "mine" / "torch.toml").write_text(OWN, encoding="utf-8")
    (constraints / "child.toml").write_text('extends = "mine"\nlocks = "mine"\n', encoding="utf-8")
    environment = {
        **persons_environment(),
        "UV_DEFAULT_INDEX": f"{index.root}/simple",
        "UV_CACHE_DIR": str(tmp_path / "uv"),
    }
    return Site(
        checkout=tmp_path, store=tmp_path / "store", environment=environment, console=Quiet()
    )


def files(site: Site) -> dict[str, bytes]:
    found = (path for path in site.constraints.rglob("*") if path.is_file())
    return {str(path.relative_to(site.constraints)): path.read_bytes() for path in found}


def pinned(site: Site, version: str = "2.15.0", **how: bool) -> None:
    pin.pin(site, "torch", version, stack="mine", **how)  # type: ignore[arg-type]


def refused(site: Site, version: str = "2.15.0") -> BlackwheelError:
    """Pin, expect an error, and that no file changed by it."""
    before = files(site)
    with pytest.raises(BlackwheelError) as caught:
        pinned(site, version)
    assert files(site) == before
    return caught.value


def results(site: Site) -> str:
    assert isinstance(site.console, Quiet)
    return site.console.results


def test_torch_family_toolkit_and_locks_move_together(site: Site, index: Index) -> None:
    pinned(site)
    stack = loader.load("mine", site.constraints)
    assert (stack.torch.version, stack.torch.runtime) == ("2.15.0", "2.15.0+cu132")
    assert (stack.torch.cuda, stack.torch.git_version) == ("13.2", GIT["2.15.0"])
    held = stack.torch.wheels[TAG]
    data = index.files[f"/simple/{held.name}"].data
    assert (held.size, held.url) == (len(data), "")
    assert [one.name.split("-")[:2] for one in held.family] == [
        ["triton", "3.9.0"],
        ["torchvision", "0.29.2"],
    ]
    assert (stack.toolchain.cuda, stack.toolchain.nvcc) == ("13.2.2", "13.2.86")
    assert stack.toolchain.requirements == (
        "cuda-toolkit[nvcc]==13.2.2",
        "nvidia-nvjitlink==13.2.86",
    )
    tag = TAG.replace("cp", "py")
    for kind in ("build", "run"):
        lock = site.constraints / "mine" / f"{kind}-toy-{tag}.txt"
        assert identity.locked_digests(lock) == (held.sha256,)
    assert "nvidia-cuda-nvcc==13.2.86" in (site.constraints / "mine/toolchain.txt").read_text()
    text = (site.constraints / "mine.toml").read_text(encoding="utf-8")
    for line in ("# Ours.", "driver = 580 # of 13.0", 'source = "registry" # mine/torch.toml'):
        assert line in text
    assert '"torch 2.15.0, CUDA 13.2.2 from the registry"' in text
    assert "# the extra lets it float" in text


def test_plan_says_what_moves_and_what_it_costs(site: Site) -> None:
    pinned(site, dry_run=True)
    said = results(site)
    assert said.startswith(
        "torch in stack mine: 2.14.0 → 2.15.0\n"
        "  runtime    2.14.0+cu130 → 2.15.0+cu132\n"
        "  git        444444444444 → 555555555555\n"
    )
    assert "  toolkit    13.0.3 → 13.2.2, nvcc 13.0.88 → 13.2.86\n" in said
    assert "  compile    another nvcc: every object\n" in said
    assert "  toy: 3 objects, 1 min 30 s of CPU without a cache\n" in said
    assert '\n-version = "2.14.0"\n' in said and '\n+cuda = "13.2.2"\n' in said
    assert "constraints/mine/toolchain.txt: " in said
    assert files(site)["mine.toml"] == STACK.encode()
    assert isinstance(site.console, Quiet)
    assert "mine: would write toolchain.txt" in site.console.lines
    assert not [line for line in site.console.lines if line.endswith(".txt written")]


def test_same_nvcc_is_said_and_the_newest_is_found(site: Site) -> None:
    pinned(site, "2.14.0")
    assert "the same nvcc: objects whose text stays the same come from" in results(site)
    assert loader.load("mine", site.constraints).toolchain.cuda == "13.0.3"
    pinned(site, "latest")
    assert loader.load("mine", site.constraints).torch.version == "2.15.0"
    before = files(site)
    pinned(site, "latest")
    assert files(site) == before


def test_nothing_is_written_where_anything_cannot_be_resolved(site: Site, index: Index) -> None:
    part = index.files.pop("/simple/nvidia_cuda_nvcc-13.2.86-py3-none-any.whl")
    assert refused(site).name == "no-lock"
    index.files["/simple/nvidia_cuda_nvcc-13.2.86-py3-none-any.whl"] = part
    assert refused(site, "2.17.0").name == "no-wheel-there"
    listed(index, "2.15.0", git="")
    assert refused(site).name == "not-a-torch"
    index.ranges = False
    error = refused(site)
    assert (error.name, "sends no part of a file" in error.fact) == ("no-answer", True)


def test_torchvision_that_fits_no_more_is_named_and_ends_a_stack_that_needs_it(
    site: Site, index: Index
) -> None:
    del index.files["/simple/torchvision-0.29.2-py3-none-any.whl"]
    assert refused(site).name == "companion-not-locked"
    assert isinstance(site.console, Quiet)
    assert f"torchvision: no release of it goes with torch 2.15.0 on {TAG}" in site.console.lines


def test_two_pythons_with_two_torches_are_refused(site: Site, index: Index) -> None:
    path = site.constraints / "mine.toml"
    path.write_text(STACK.replace(f'["{PYTHON}"]', f'["{PYTHON}", "3.10"]'), encoding="utf-8")
    own = site.constraints / "mine" / "torch.toml"
    own.write_text(OWN + OWN.partition("\n\n")[2].replace(TAG, "cp310"), encoding="utf-8")
    listed(index, "2.15.0", tag="cp310", git="f" * 40)
    error = refused(site)
    assert error.name == "other-torch" and "git_version: ffff" in error.fact


def test_disk_that_fills_between_two_files_leaves_all_as_they_were(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned(site, "2.14.0")
    real, count = changes._put, iter(range(99))

    def full(path: Path, data: bytes) -> None:
        if path.is_relative_to(site.constraints) and next(count) == 2:
            raise OSError(28, "No space left on device")
        real(path, data)

    before = files(site)
    monkeypatch.setattr(changes, "_put", full)
    with pytest.raises(OSError, match="No space"):
        pinned(site)
    assert files(site) == before
    assert next(count) > 3, "it was in the middle, and files were put back"


def test_what_cannot_be_moved_says_where_instead(site: Site) -> None:
    with pytest.raises(BlackwheelError) as caught:
        pin.pin(site, "torch", "2.15.0", stack="child")
    assert caught.value.fix.startswith("give it a [torch] table of its own")
    assert caught.value.fix.endswith("invoke pin torch latest --stack mine")
    assert refused(site, "newest").name == "cannot-pin"
    with pytest.raises(BlackwheelError) as caught:
        pin.pin(site, "torch", "2.15.0", stack="mine", channel="cu132")
    assert (caught.value.name, caught.value.code) == ("bad-option", Exit.USAGE)
    path = site.constraints / "mine.toml"
    host = 'source = "host"\ncuda = "13.0"\n\n[projects.toy]'
    head, _, rest = STACK.partition('source = "registry"\ncuda')
    path.write_text(head + host + rest.partition("[projects.toy]")[2], encoding="utf-8")
    error = refused(site)
    assert error.name == "cannot-pin" and "CUDA 13.0 of the host" in error.fact


def test_release_of_cuda_that_nobody_has_written_down_is_refused(
    site: Site, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOOLKIT, "2.15.0", "13.9.1")
    listed(index, "2.15.0")
    assert refused(site).name == "unknown-cuda-release"


def test_registry_is_named_by_the_caller_alone(site: Site) -> None:
    elsewhere = replace(
        site, environment={**site.environment, "UV_DEFAULT_INDEX": "http://x.invalid/"}
    )
    assert refused(elsewhere).name == "no-answer"
