"""Run and capture; the only module that starts processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from blackwheel.errors import BlackwheelError, Exit

TAIL_LINES: Final = 40
_PR_SET_PDEATHSIG: Final = 1
_SECRET_NAMES: Final = ("TOKEN", "PASSWORD", "SECRET", "CREDENTIAL", "API_KEY")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """A finished process: exit code (128 + n for signal n) and the captured text."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str = ""


def secrets_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Values that must not reach a log: variables named like secrets, and user:password in addresses."""
    found = [
        value
        for name, value in environment.items()
        if value and any(word in name.upper() for word in _SECRET_NAMES)
    ]
    for value in environment.values():
        head, at, _ = value.partition("@")
        _, scheme, userinfo = head.partition("://")
        if at and scheme and "/" not in userinfo and userinfo:
            found.append(userinfo)
    return tuple(sorted(set(found), key=len, reverse=True))


def masked(text: str, secrets: Sequence[str]) -> str:
    """Replace every secret by ****."""
    for secret in secrets:
        text = text.replace(secret, "****")
    return text


def _die_with_parent(parent: int) -> None:
    """In the child: be killed when the parent dies, also when it died before this call."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _start(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    stdout: int | IO[bytes] | None,
    stderr: int | IO[bytes] | None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    try:
        return subprocess.Popen(
            list(argv),
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            # Needed although it forbids vfork: no stop may leave a compiler behind. The parent
            # starts children from its main thread only, so that thread death is process death.
            preexec_fn=lambda: _die_with_parent(parent),  # noqa: PLW1509
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise BlackwheelError(
            "program-missing",
            f"'{argv[0]}' cannot be started: {error.strerror}",
            where=f"in {cwd}",
            fix="invoke doctor",
            code=Exit.MACHINE,
        ) from error


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no child behind on an exception: ask first, then insist."""
    try:
        yield
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        process.kill()
        process.wait()
        raise


def _exit_code(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode


def capture(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    timeout: float | None = None,
    check: bool = True,
) -> Completed:
    """Run to the end and return what it printed; raise `command-failed` unless `check` is off."""
    process = _start(
        argv, environment=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with _ended(process):
        out, err = process.communicate(timeout=timeout)
    secrets = secrets_of(environment)
    done = Completed(
        argv=tuple(argv),
        code=_exit_code(process.returncode),
        stdout=masked(out.decode("utf-8", "replace"), secrets),
        stderr=masked(err.decode("utf-8", "replace"), secrets),
    )
    if check and done.code != 0:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-TAIL_LINES:])
        raise BlackwheelError(
            "command-failed",
            f"{masked(' '.join(argv), secrets)}\nended with exit code {done.code}\n{tail}",
            where=f"in {cwd}",
            code=Exit.FAULT,
        )
    return done


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    log: Path,
    on_line: Callable[[str], None] | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run to the end, append every line to `log`, hand each to `on_line`; `stdout` holds the last 40 lines.

    Never raises for an exit code: the caller knows what the failure means.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    secrets = secrets_of(environment)
    with log.open("a", encoding="utf-8") as sink:
        sink.write(masked(f"$ {' '.join(argv)}\n", secrets))
        sink.flush()
        process = _start(
            argv,
            environment=environment,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
        )
        with _ended(process):
            assert process.stdout is not None  # noqa: S101  PIPE was asked for
            for raw in process.stdout:
                line = masked(raw.decode("utf-8", "replace").rstrip("\n"), secrets)
                sink.write(line + "\n")
                sink.flush()
                tail.append(line)
                if on_line:
                    on_line(line)
            process.wait()
    return Completed(
        argv=tuple(argv), code=_exit_code(process.returncode), stdout="\n".join(tail)
    )


def hand_over(argv: Sequence[str], *, environment: Mapping[str, str], cwd: Path) -> int:
    """Run with this terminal's own output (progress bars stay alive) and return the exit code."""
    process = _start(argv, environment=environment, cwd=cwd, stdout=None, stderr=None)
    with _ended(process):
        process.wait()
    return _exit_code(process.returncode)
