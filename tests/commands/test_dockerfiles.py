"""What can be held of the container files without Docker; benchmarks/containers.py runs them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import programs
import pytest

from blackwheel.commands import dockerfiles
from blackwheel.core.console import Console
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.site import Site
from blackwheel.stacks import loader

ROOT = Path(__file__).parents[2]
PATCHES = ROOT / "patches"
STABLE = loader.load("stable", ROOT / "constraints")
REGISTRY = ("stable", "quickstart", "latest", "torch211")


def test_files_of_the_checkout_are_those_that_stable_gives(tmp_path: Path) -> None:
    site = Site(checkout=ROOT, store=tmp_path, environment={}, console=Console(environment={}))
    assert dockerfiles.write(site, "stable", out=str(tmp_path)) == Exit.OK
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["Dockerfile.build", "Dockerfile.serve"]
    for name in written:
        held = (ROOT / "docker" / name).read_text(encoding="utf-8")
        assert held == (tmp_path / name).read_text(encoding="utf-8"), "invoke dockerfiles -s stable"


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("python", STABLE.python)
def test_files_say_what_was_not_seen_and_take_hashed_files_only(name: str, python: str) -> None:
    stack = loader.load(name, ROOT / "constraints")
    texts = dockerfiles.files(stack, python, PATCHES)
    assert all("Never run under Docker" in text for text in texts.values())
    assert all(f"ARG BASE={dockerfiles.BASES[python].image}\n" in text for text in texts.values())
    assert f'CMD ["build-wheels", "--stack", "{name}"]' in texts["Dockerfile.build"]
    serve = texts["Dockerfile.serve"].replace("\\\n", "")
    assert all("--require-hashes" in line for line in re.findall(r"RUN .*pip install.*", serve))
    assert "docker run --gpus all --ipc=host" in serve
    assert f"driver {stack.driver} or newer" in serve
    served = ("EXPOSE 8000", "vllm serve openai/gpt-oss-20b", "VLLM_WORKER_MULTIPROC_METHOD=spawn")
    assert [words in serve for words in served] == ["vllm" in stack.build] * 3


def test_image_is_not_made_of_a_wheel_that_does_not_import(tmp_path: Path) -> None:
    (run,) = [
        line
        for line in dockerfiles.files(STABLE, "3.11", PATCHES)["Dockerfile.serve"]
        .replace("\\\n", "")
        .splitlines()
        if " -c " in line
    ]
    code = shlex.split(run)[-1]

    def ends(module: str) -> int:
        (tmp_path / "flash_attn.py").write_text(module, encoding="utf-8")
        argv = [sys.executable, "-c", code]
        return subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False).returncode

    assert ends("") == 0, "what the requirements leave out is not imported"
    assert ends("raise ImportError('GLIBC_2.39 not found')") == 1


def refused(name: str, python: str) -> BlackwheelError:
    with pytest.raises(BlackwheelError) as caught:
        dockerfiles.files(loader.load(name, ROOT / "constraints"), python, PATCHES)
    assert caught.value.code is Exit.USAGE
    return caught.value


def test_python_without_a_base_image_is_refused() -> None:
    assert str(refused("stable", "3.10")) == (
        "error: no-base-image\n"
        "  no base image is known that has Python 3.10 and that stack stable serves\n"
        "  where: --python\n"
        "  fix:   --python 3.11 or 3.12 or 3.13"
    )


def test_stack_that_takes_the_hosts_toolkit_is_refused() -> None:
    assert str(refused("report-2025-10", "3.11")) == (
        "error: no-container-file\n"
        "  stack report-2025-10 takes CUDA 12.8 of the host, and no image with\n"
        "  it was ever seen here\n"
        "  where: constraints/report-2025-10.toml, toolchain.source\n"
        "  fix:   a stack whose compiler comes from the package registry: --stack stable"
    )


@pytest.mark.needs("hadolint")
def test_linter_of_container_files_finds_nothing(tmp_path: Path) -> None:
    hadolint = programs.found("hadolint")
    assert hadolint
    for name in REGISTRY:
        texts = dockerfiles.files(loader.load(name, ROOT / "constraints"), "3.12", PATCHES)
        for file, text in texts.items():
            argv = [hadolint, str(tmp_path / f"{name}-{file}")]
            Path(argv[1]).write_text(text, encoding="utf-8")
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout) == (0, "")
