"""What can be held of the container files without Docker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[2] / "docker"
FILES = ("Dockerfile.serve", "Dockerfile.build")


@pytest.mark.parametrize("name", FILES)
def test_file_says_that_docker_never_ran_it(name: str) -> None:
    assert "Never run under Docker" in (DOCKER / name).read_text(encoding="utf-8")


def test_served_image_takes_hashed_files_only_and_what_the_user_sets() -> None:
    text = (DOCKER / "Dockerfile.serve").read_text(encoding="utf-8")
    assert all("--require-hashes" in line for line in re.findall(r"RUN .*pip install.*", text))
    assert "VLLM_WORKER_MULTIPROC_METHOD=spawn" in text
    assert "EXPOSE 8000" in text
