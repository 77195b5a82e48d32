"""Lists the tags of a remote repository without cloning it, and the releases that they name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from packaging.version import InvalidVersion, Version

from blackwheel.core.addresses import shown
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import capture_within
from blackwheel.sources.git_host import UnreachableError, cure, git_program, reason, said

ANSWER_SECONDS: Final = 30.0
"""For the whole list of tags; thousands of them are some hundred kilobytes."""
SHOWN: Final = 6
_TAG: Final = re.compile(r"^([0-9a-f]{40})\trefs/tags/(.+?)(\^\{\})?$", re.MULTILINE)


def tags(url: str, *, where: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the commit of each tag; for an annotated tag, the commit behind it.

    Raises `UnreachableError`, `git-refused` and `git-missing`.
    """
    git_program(environment)
    # GIT_DIR: no repository that this runs in has a say
    own = {**environment, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_DIR": "/"}
    argv = ["git", "ls-remote", "--tags", "--", url]
    done = capture_within(ANSWER_SECONDS, argv, environment=own, cwd=Path("/"))
    if done.hung:
        why = f"timed out: no answer within {ANSWER_SECONDS:g} s"
        raise UnreachableError(why, url=shown(url), where=where)
    if done.code != 0:
        if why := reason(done.stderr) or "":
            raise UnreachableError(shown(why), url=shown(url), where=where)
        raise BlackwheelError(
            "git-refused",
            "\n".join([f"{shown(url)} does not tell its tags", *said(shown(done.stderr))]),
            where=where,
            fix=cure(done.stderr),
            code=Exit.SOURCE,
        )
    found = {}
    for commit, name, _ in _TAG.findall(done.stdout):  # the peeled line follows its tag's
        found[name] = commit
    return found


def releases(known: Mapping[str, str]) -> dict[Version, str]:
    """Return the tag of each release: of `v2.8.3` and `2.8.3` the first."""
    found: dict[Version, str] = {}
    for name in sorted(known, key=lambda name: not name.startswith("v")):
        try:
            found.setdefault(Version(name.removeprefix("v")), name)
        except InvalidVersion:
            continue
    return found


def newest(versions: Mapping[Version, str] | list[Version]) -> Version | None:
    """Return the newest final release; a post-release is one."""
    return max((version for version in versions if not version.is_prerelease), default=None)
