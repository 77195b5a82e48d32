"""Runs git, and tells from its output whether the host was reached."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.isolation import bound_to_parent

if TYPE_CHECKING:
    import git

_ANSWERED: Final = re.compile(
    r"requested url returned error|remote error|authentication failed|terminal prompts disabled"
    r"|not found|permission denied",
)
_NOT_REACHED: Final = re.compile(
    r"could not resolve|couldn.t connect|failed to connect|unable to connect|cannot connect"
    r"|connection (refused|reset|closed|timed out|was)|timed out|operation too slow"
    r"|network is unreachable|no route to host|name or service not known"
    r"|temporary failure in name resolution|empty reply from server|from proxy after connect"
    r"|proxy connect aborted|ssl[ _:]|tls[ _:]|gnutls|server certificate"
    r"|certificate (problem|verif)",
)

_TRY_LATER: Final = re.compile(r"(?:returned error:|HTTP) (408|425|429|5\d\d)\b")
_NO_GIT: Final = re.compile(r"info/refs not valid|dumb http transport does not support")
"""What git says of an answer that is a web page: a login of the network, or no git host."""
NO_COMMIT: Final = re.compile(r"not our ref ([0-9a-f]{40})|couldn't find remote ref")
"""Git's words for a host that has no such commit; any other failure says nothing of it."""
_OWN_WORDS: Final = re.compile(
    r"^(?:fatal|error|remote): |permission denied|host key verification|publickey|safe\.directory",
    re.IGNORECASE,
)
_SAFE: Final = re.compile(r"git config --global --add safe\.directory .+")


class UnreachableError(Exception):
    """Raised where a git host could not be reached; the text is git's reason."""

    def __init__(self, why: str, *, url: str, where: str) -> None:
        super().__init__(why)
        self.url, self.where = url, where


def store_path(url: str, store: Path) -> Path:
    """Return `git/<host>/<path>.git` for an address in any of git's notations."""
    _, _, rest = url.rpartition("://")
    rest = re.sub(r"^[^/@]*@", "", rest)
    if "://" not in url:
        rest = rest.replace(":", "/", 1)  # host:path, as ssh writes it
    parts = [part for part in rest.split("/") if part not in ("", ".", "..")]
    parts[0] = parts[0].replace(":", "_")
    return store / "git" / f"{'/'.join(parts).removesuffix('.git')}.git"


def reason(text: str) -> str | None:
    """Return git's line that says why the host was not reached; None when the host did answer.

    Only what git printed (in English: LC_ALL=C) tells the two apart, its exit code is 128 for both.
    """
    for line in text.splitlines():
        if found := _TRY_LATER.search(line):
            return f"the host answers {found[1]}: busy or broken for now"
        if _NO_GIT.search(line):
            return "a web page answers instead of git: a login of this network?"
        bare = re.sub(r"'[^']*'", "", line).lower()  # an address may hold any of the words
        if _ANSWERED.search(bare):
            return None
        if _NOT_REACHED.search(bare):
            return re.sub(r"^fatal: (unable to access '[^']*': )?", "", line).strip()
    return None


def said(text: str) -> list[str]:
    """Return the lines of git, ssh and the host that tell why it refused."""
    return [line.strip() for line in text.splitlines() if _OWN_WORDS.search(line)]


def has_not(commit: str, text: str) -> bool:
    """Tell whether git says that the host was asked for this commit, and does not have it."""
    found = NO_COMMIT.search(text)
    return found is not None and found[1] in (None, commit)


def cure(text: str) -> str:
    """Return the cure of a refusal, by the words of git and ssh."""
    if found := _SAFE.search(text):
        return found[0].strip()
    if "publickey" in text:
        return "give ssh a key that the host knows (ssh-add -l lists them), or use https"
    if "Host key verification failed" in text:
        return "connect once by hand (ssh git@HOST), and accept the host's key"
    return "correct the address, or give git access to it (credentials, url.*.insteadOf)"


def disk_full(where: Path) -> BlackwheelError:
    """Return the error for a store on a full disk."""
    return BlackwheelError(
        "disk-full",
        "no space left while sources were fetched; nothing half-written was kept",
        where=str(where),
        fix="free space there, or set BLACKWHEEL_HOME to a folder on another disk",
        code=Exit.SOURCE,
    )


def git_program(environment: Mapping[str, str]) -> type[git.Git]:
    """Return GitPython's git, or raise `git-missing`."""
    missing = BlackwheelError(
        "git-missing",
        "there is no git program on PATH",
        where=f"PATH={environment.get('PATH', '')}",
        fix="install git (apt install git, dnf install git), then run again",
        code=Exit.SOURCE,
    )
    if not shutil.which("git", path=environment.get("PATH", "")):
        raise missing
    try:
        import git  # noqa: PLC0415  takes 0.1 s, and fails without git
    except ImportError:
        raise missing from None
    return git.Git


def run(
    program: git.Git,
    *args: str,
    seconds: float | None = None,
    stdin: Any = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[int, str]:
    """Run git in a session of its own: it cannot prompt, and its transport ends with it.

    Return its exit code and what it printed; after `seconds` it is stopped.
    """
    from git.cmd import handle_process_output  # noqa: PLC0415  takes 0.1 s
    from git.util import CallableRemoteProgress  # noqa: PLC0415

    def tell(_op: int, done: Any, total: Any, note: str = "") -> None:
        if progress:
            progress(int(done or 0), int(total or 0), note)

    lines = CallableRemoteProgress(tell)
    process = program.execute(
        bound_to_parent(["git", *args]),
        as_process=True,
        istream=stdin,
        universal_newlines=True,
        with_stdout=False,
        start_new_session=True,
    )
    overdue = threading.Event()

    def end() -> None:
        overdue.set()
        _end(process.pid, signal.SIGTERM)

    timer = threading.Timer(seconds, end) if seconds else None
    try:
        if timer:
            timer.start()
        handle_process_output(process, None, lines.new_message_handler(), decode_streams=False)
        assert process.proc  # noqa: S101  it was just started
        code = process.proc.wait()
    except BaseException:
        _end(process.pid, signal.SIGTERM)
        raise
    finally:
        if timer:
            timer.cancel()
    if overdue.is_set():
        return code or 128, f"fatal: timed out: no answer within {seconds:g} s"
    return code, "\n".join([*lines.other_lines, *lines.error_lines])


def _end(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
