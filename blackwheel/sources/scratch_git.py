"""Runs git on a plain folder; no configuration, attribute or enclosing repository has effect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.process import Completed, capture
from blackwheel.sources.series import Patch, Series

# Above the tree's own .gitattributes: no line end or filter may change what a patch meets.
_ATTRIBUTES: Final = "* -text -filter -ident -working-tree-encoding !diff !merge\n"
# It lives for seconds: nothing needs to survive a power cut, and no clean-up may start behind it.
_CONFIGURATION: Final = "[core]\n\tfsync = none\n\tlooseCompression = 0\n[gc]\n\tauto = 0\n"
_LINK_MODE: Final = re.compile(r"^ (?:create mode |mode change \d+ => )(120000|160000)\b")
QUIET: Final = ("--whitespace=nowarn",)
_OFFSET: Final = re.compile(r"Hunk #(\d+) succeeded at (\d+) \(offset (-?\d+) lines?\)")
_KINDS: Final = {"120000": "a symlink", "160000": "a submodule"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Scratch:
    """A tree, with a throw-away repository outside of it.

    In a folder of somebody's checkout `git apply` skips every path, silently and with exit code 0;
    with a GIT_DIR of its own it looks for no other.
    """

    tree: Path
    repository: Path
    environment: Mapping[str, str]

    def git(self, *arguments: str, check: bool = True) -> Completed:
        """Run git in the tree."""
        own = {
            "PATH": self.environment.get("PATH", "/usr/bin:/bin"),
            "LC_ALL": "C",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_DIR": str(self.repository),
            "GIT_WORK_TREE": str(self.tree),
            # commits of `refresh` live as long as its scratch folder
            "GIT_AUTHOR_NAME": "blackwheel",
            "GIT_AUTHOR_EMAIL": "blackwheel@localhost",
            "GIT_COMMITTER_NAME": "blackwheel",
            "GIT_COMMITTER_EMAIL": "blackwheel@localhost",
        }
        return capture(("git", *arguments), environment=own, cwd=self.tree, check=check)

    def make(self) -> None:
        """Create the repository."""
        self.git("init", "--quiet", "--template=")
        (self.repository / "info").mkdir(exist_ok=True)
        (self.repository / "info/attributes").write_text(_ATTRIBUTES, encoding="utf-8")
        with (self.repository / "config").open("a", encoding="utf-8") as config:
            config.write(_CONFIGURATION)

    def misfit(self, patch: Path, *, apply: bool) -> str:
        """Return git's reason why a patch does not fit, or nothing; with `apply`, apply it.

        Every line of context must be there, and at the line that the patch says. What was found in
        another place is applied nevertheless: drop the tree then.
        """
        look = () if apply else ("--check",)
        done = self.git("apply", *look, "--verbose", *QUIET, str(patch), check=False)
        if done.code != 0:
            return "\n".join(f"git: {reason}" for reason in reasons(done.stderr))
        file, moved = "", []
        for line in done.stderr.splitlines():
            if line.startswith("Checking patch "):
                file = line.removeprefix("Checking patch ").removesuffix("...")
            elif offset := _OFFSET.match(line):
                moved.append(
                    f"{file}: hunk {offset[1]} fits at line {offset[2]} ({offset[3]}) only"
                )
        return "\n".join(moved)

    def summary(self, patch: Path, *options: str) -> tuple[dict[str, str], list[str]]:
        """Return git's count of lines by path, and its notes on modes and renames.

        Raises `command-failed` for what git cannot read.
        """
        argv = ("apply", "--numstat", "--summary", "-z", *options, str(patch))
        *records, modes = self.git(*argv).stdout.split("\0")
        counts = [record.rpartition("\t") for record in records]
        return {path: count for count, _, path in counts}, modes.splitlines()


def reasons(stderr: str) -> list[str]:
    """Return git's error lines without the hunk that it quotes between them."""
    found = [line.removeprefix("error: ") for line in stderr.splitlines() if "error: " in line[:7]]
    return [line for line in found if line != "while searching for:"]


def allowed_paths(scratch: Scratch, series: Series, patch: Patch, file: Path) -> tuple[str, ...]:
    """Return the paths that a patch touches; raise by name for paths that no patch may touch."""
    try:
        counts, modes = scratch.summary(file)
        names = set(counts)
        if any(line.startswith((" rename ", " copy ")) for line in modes):
            names |= set(scratch.summary(file, "-R")[0])  # reversed, it shows their old names
    except BlackwheelError as error:
        text = "\n".join(f"git: {reason}" for reason in reasons(error.fact)) or error.fact
        raise refusal("patch-unreadable", text, series, patch) from None
    paths = tuple(sorted(names))
    for path in paths:
        if fact := _leaving(path, scratch.tree):
            raise refusal("patch-outside-tree", fact, series, patch)
    for line in modes:
        if found := _LINK_MODE.search(line):
            fact = f"it makes {_KINDS[found[1]]}: {line.strip()}"
            raise refusal("patch-makes-link", fact, series, patch)
    if binary := [path for path, count in counts.items() if count == "-\t-"]:
        fact = f"it changes in binary form: {', '.join(binary)}"
        raise refusal("patch-is-binary", fact, series, patch)
    return paths


def _leaving(path: str, tree: Path) -> str:
    """Say how a path leaves the tree, or nothing."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or ".git" in {part.lower() for part in parts}:
        return f"it touches '{path}'"
    for number in range(1, len(parts) + 1):
        if tree.joinpath(*parts[:number]).is_symlink():
            return f"it touches '{path}' through the symlink '{'/'.join(parts[:number])}'"
    return ""


def refusal(name: str, fact: str, series: Series, patch: Patch) -> BlackwheelError:
    """Return the error of a patch that no tree may take."""
    return BlackwheelError(
        name,
        f"{patch.name} is refused for {series.project}\n{fact}",
        where=f"{series.place}, line {patch.line}",
        fix="correct the patch, or take it out of the series",
        code=Exit.PATCH,
    )
