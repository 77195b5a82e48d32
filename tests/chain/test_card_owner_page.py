"""docs/rtx5090.md: its lines are run with a toy, but those that need a card, weights or systemd."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import Checkout, Done

from blackwheel.core.errors import Exit

pytestmark = [
    pytest.mark.toolchain,
    pytest.mark.torch,
    pytest.mark.network,
    pytest.mark.slow,
]

PAGE = Path(__file__).parents[2] / "docs" / "rtx5090.md"
NOT_RUN = {
    "nvidia-smi ": "a driver",
    "git clone ": "an address; .ci/run begins with it",
    "python3 -m venv ": "README's first command; .ci/run begins with it",
    "python3 -m pip install -e ": "README's second command",
    "~/vllm/current/bin/vllm --version": "the real wheel: the toy is imported in its place",
    "export ": "the server's environment",
    "~/vllm/current/bin/vllm serve ": "weights and a card",
    "nox -s bench -- serving ": "a server",
}
"""What a line begins with, and what it takes that no CI has."""
LACKS_A_CARD = {"invoke doctor --serve": Exit.MACHINE, "--require-gpu": Exit.SMOKE}
"""Lines that are run, and must end with this code where there is no card."""


def lines() -> list[str]:
    """Each command line of the page, in order, less its comment."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    commands = [block for block in blocks if not block.startswith("[Unit]")]
    return [re.sub(r"\s+#.*", "", line) for block in commands for line in block.splitlines()]


def unit() -> list[str]:
    """The commands of the systemd unit that this repository answers for."""
    found = re.findall(r"^ExecStartPre=(.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(found) == 1
    return [str(found[0])]


class Owner:
    """Types the page's lines: the toy for `stable`, folders of a test for the home."""

    def __init__(self, checkout: Checkout, home: Path) -> None:
        self.checkout, self.home = checkout, home
        places = Path(sys.executable).parent
        self.words = {
            "%h/blackwheel/.venv/bin": str(places),
            "%h/blackwheel": str(checkout.root),
            "%h": str(home),
            "~": str(home),
            "--stack stable": "--stack toy",
        }

    def types(self, line: str) -> Done:
        """Run one line as a shell would, in the checkout."""
        for old, new in self.words.items():
            line = line.replace(old, new)
        program, *rest = shlex.split(line)
        if program == "nox":
            return self.checkout.nox(*rest)
        return self.checkout.invoke(*rest)


@pytest.fixture
def owner(built: Checkout, tmp_path: Path) -> Owner:
    return Owner(built, tmp_path)


def test_each_line_of_the_page_is_run_or_says_what_it_takes() -> None:
    unknown = [
        line for line in lines() if not line.startswith(("invoke ", "nox -s smoke ", *NOT_RUN))
    ]
    assert unknown == []
    stale = [words for words in NOT_RUN if not any(one.startswith(words) for one in lines())]
    assert stale == []


def test_lines_lead_from_a_built_wheel_to_one_that_is_installed_and_back(owner: Owner) -> None:
    run = [line for line in lines() if not line.startswith(tuple(NOT_RUN))]
    assert [" ".join(shlex.split(line)[:3]) for line in run] == [
        "invoke doctor --stack",
        "invoke doctor --serve",
        "invoke plan --stack",
        "invoke build-wheels --stack",
        "nox -s smoke",
        "invoke install --stack",
        "nox -s smoke",
        "invoke report --bundle",
    ]
    for line in run:
        done = owner.types(line)
        code = next((code for words, code in LACKS_A_CARD.items() if words in line), Exit.OK)
        assert done.code == code, f"{line}\n{done.said}"
    assert (owner.checkout.root / "blackwheel-report-toy.tar.gz").is_file()

    current = owner.home / "vllm" / "current"
    first = current.resolve()
    python = current / "bin" / "python"
    code = "import toy_cuda, torch; print(torch.__version__)"
    seen = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout == "2.11.0+cu130\n"
    for line in unit():
        assert owner.types(line).code == Exit.OK

    install = next(line for line in run if line.startswith("invoke install"))
    (back,) = re.findall(r"`(invoke install --into \S+ --rollback)`", PAGE.read_text("utf-8"))[:1]
    assert owner.types(install).code == Exit.OK
    assert current.resolve() != first
    assert owner.types(back).code == Exit.OK
    assert current.resolve() == first
