"""What git, ssh and a host say, and what is made of it."""

from __future__ import annotations

import pytest

from blackwheel.sources.git_host import cure, reason, said

ERROR = "fatal: unable to access 'https://h/x/': The requested URL returned error: {}\n"
DUBIOUS = """fatal: detected dubious ownership in repository at '/m/x.git'
To add an exception for this directory, call:

\tgit config --global --add safe.directory /m/x.git
fatal: Could not read from remote repository.

Please make sure you have the correct access rights
"""


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_a_host_in_trouble_counts_as_not_reached(code: int) -> None:
    assert reason(ERROR.format(code)) == f"the host answers {code}: busy or broken for now"


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_host_that_refuses_was_reached(code: int) -> None:
    assert reason(ERROR.format(code)) is None


@pytest.mark.parametrize(
    "line",
    [
        "fatal: https://h/x/info/refs not valid: is this a git repository?",
        "fatal: dumb http transport does not support shallow capabilities",
    ],
)
def test_a_page_of_a_captive_portal_is_no_git_host(line: str) -> None:
    assert "a web page answers instead of git" in str(reason(line))


def test_the_command_for_a_dubious_owner_is_the_cure() -> None:
    assert cure(DUBIOUS) == "git config --global --add safe.directory /m/x.git"
    assert any("safe.directory" in line for line in said(DUBIOUS))


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("git@github.com: Permission denied (publickey).", "ssh-add"),
        ("Host key verification failed.", "ssh git@HOST"),
    ],
)
def test_the_words_of_ssh_stay_and_name_the_cure(line: str, word: str) -> None:
    text = f"{line}\nfatal: Could not read from remote repository.\n"
    assert line in said(text)
    assert word in cure(text)
    assert reason(text) is None
