"""Runs commands and captures their output; only `isolation` and `git_host` start others."""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.core.isolation import bound_to_parent
from blackwheel.core.redact import masked, secrets_of

TAIL_LINES: Final = 40
LOG_BYTES: Final = 16 << 20
"""Of a log that is continued: a longer one is set aside, in the place of the one before it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """A finished process: exit code (128 + n for signal n) and the captured text."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str = ""

    hung: bool = False
    """Whether it was ended because its time was over."""

    @property
    def tail(self) -> str:
        """The last lines of stderr: as much as a message takes."""
        return "\n".join(self.stderr.splitlines()[-12:])

    @property
    def end(self) -> str:
        """Words for its failure (hung, a signal, an exit code), and its last lines."""
        if self.hung:
            return self.stderr
        killed = f"killed by signal {self.code - 128}"
        return f"{killed if self.code > 128 else f'ended with code {self.code}'}\n{self.tail}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits of a program that reads files of strangers."""

    seconds: int
    """Of CPU; ten times as many on the clock: the machine may be busy."""
    memory: int
    output: int
    """Bytes that it may write into the file it is given."""


def _start(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    stdout: int | None,
    stderr: int | None,
    stdin: int = subprocess.DEVNULL,
    umask: int = -1,
    bound: bool = True,
) -> subprocess.Popen[bytes]:
    """Start a child that is killed when this process ends: no stop may leave a compiler behind.

    One that is not `bound` starts 20 ms sooner, and must come to its end by itself.
    """
    if not shutil.which(argv[0], path=environment.get("PATH", "")):
        raise BlackwheelError(
            "program-missing",
            f"'{argv[0]}' is not on PATH or not executable",
            where=f"in {cwd}",
            fix="invoke doctor",
            code=Exit.MACHINE,
        )
    return subprocess.Popen(
        bound_to_parent(argv) if bound else list(argv),
        env=dict(environment),
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        umask=umask,
    )


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave no child behind on an exception: ask first, then insist."""
    try:
        yield
    except BaseException as stop:
        if isinstance(stop, KeyboardInterrupt):  # Ctrl-C reached the child too: let it tidy up
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
        _end(process)
        raise


def _end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        process.kill()
        process.wait()


def _exit_code(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode


def capture(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    timeout: float | None = None,
    check: bool = True,
    given: bytes = b"",
) -> Completed:
    """Run to the end and return the output; raise `command-failed` unless `check` is off.

    It reads the `given` bytes as its input.
    """
    process = _start(
        argv,
        environment=environment,
        cwd=cwd,
        stdin=subprocess.PIPE if given else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with _ended(process):
        out, err = process.communicate(given or None, timeout=timeout)
    secrets = secrets_of(environment)
    done = Completed(
        argv=tuple(argv),
        code=_exit_code(process.returncode),
        stdout=masked(out.decode("utf-8", "replace"), secrets),
        stderr=masked(err.decode("utf-8", "replace"), secrets),
    )
    if check and done.code != 0:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-TAIL_LINES:])
        if process.returncode < 0:
            raise BlackwheelError(
                "program-killed",
                f"{masked(' '.join(argv), secrets)}\nended with signal {-process.returncode}",
                where=f"in {cwd}",
                fix="the same command again; a kill for want of memory is in the kernel's log",
                code=Exit.MACHINE,
            )
        raise BlackwheelError(
            "command-failed",
            f"{masked(' '.join(argv), secrets)}\nended with exit code {done.code}\n{tail}",
            where=f"in {cwd}",
            code=Exit.FAULT,
        )
    return done


def capture_within(
    seconds: float, argv: Sequence[str], *, environment: Mapping[str, str], cwd: Path
) -> Completed:
    """Run as `capture` does, and raise for no end; a process that hangs is ended, with code 124."""
    try:
        return capture(argv, environment=environment, cwd=cwd, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        words = f"hung: {seconds:g} s went by"
        return Completed(argv=tuple(argv), code=124, stdout="", stderr=words, hung=True)


def capture_into(
    output: int, argv: Sequence[str], *, environment: Mapping[str, str], cwd: Path, limits: Limits
) -> Completed:
    """Run to the end with stdout in an open file; a broken limit ends as a signal's code.

    The limits are the kernel's: a program that is fed garbage cannot fill memory, disk or time,
    not even one whose parent is gone.
    """
    process = _start(
        argv,
        environment=environment,
        cwd=cwd,
        stdout=output,
        stderr=subprocess.PIPE,
        bound=False,
    )
    said = b""
    with _ended(process):
        for kind, most in (
            (resource.RLIMIT_CPU, limits.seconds),
            (resource.RLIMIT_AS, limits.memory),
            (resource.RLIMIT_FSIZE, limits.output),
            (resource.RLIMIT_CORE, 0),
        ):
            with contextlib.suppress(ProcessLookupError):  # it came to its end already
                resource.prlimit(process.pid, kind, (most, most))
        try:
            _, said = process.communicate(timeout=10 * limits.seconds)
        except subprocess.TimeoutExpired:
            _end(process)
    text = said[: 1 << 16].decode("utf-8", "replace")
    return Completed(argv=tuple(argv), code=_exit_code(process.returncode), stdout="", stderr=text)


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    log: Path,
    on_line: Callable[[str], None] | None = None,
    umask: int = -1,
) -> Completed:
    """Run to the end; every line goes to `log` and to `on_line`, the last 40 are in `stdout`.

    `umask` is the child's; -1 leaves it the caller's. Never raises for an exit code: the caller
    knows what the failure means.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.old"))
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
            umask=umask,
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
    return Completed(argv=tuple(argv), code=_exit_code(process.returncode), stdout="\n".join(tail))


class Together:
    """Commands that run at the same time; their output arrives as whole lines, by name.

    A command has ended when its own process has: what it leaves behind may hold its output open.
    """

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._said: dict[str, bytes] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Together:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        left = self._running.values()
        if kind and issubclass(kind, KeyboardInterrupt):  # Ctrl-C reached them too
            for process in left:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
        _end(*left)
        for key in list(self._selector.get_map().values()):
            self._close(key.fd)
        self._selector.close()

    def start(
        self, name: str, argv: Sequence[str], *, environment: Mapping[str, str], cwd: Path
    ) -> None:
        """Start a command under a name that no running command has."""
        output, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(theirs, True)
        try:
            process = _start(argv, environment=environment, cwd=cwd, stdout=theirs, stderr=theirs)
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(theirs)
        self._running[name], self._said[name] = process, b""
        said = self._selector.register(output, selectors.EVENT_READ, (name, None))
        end = os.pidfd_open(process.pid)
        self._selector.register(end, selectors.EVENT_READ, (name, said))

    def stop(self) -> None:
        """Ask all running commands to end; their last lines still arrive."""
        for process in self._running.values():
            process.terminate()

    def events(self, *, every: float | None = None) -> Iterator[tuple[str, str | int | None]]:
        """Yield (name, line) and, at a command's end, (name, exit code) until none runs.

        What is started meanwhile joins in. After `every` seconds without any comes ("", None).
        """
        while self._running:
            ready = self._selector.select(every)
            if not ready:
                yield "", None
            for key, _ in ready:
                if not self._open(key):
                    continue  # closed by what came just before
                name, said = key.data
                if said is None:
                    content = self._read(name, key.fd)
                    if content == b"":
                        self._close(key.fd)
                    if content and b"\n" in content:
                        yield from self._lines(name)
                    continue
                self._close(key.fd)
                if self._open(said):
                    while self._read(name, said.fd):
                        pass
                    self._close(said.fd)
                self._said[name] += b"\n" if self._said[name] else b""
                yield from self._lines(name)
                yield name, _exit_code(self._running.pop(name).wait())

    def _lines(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield the whole lines that came."""
        *lines, self._said[name] = self._said[name].split(b"\n")
        for line in lines:
            yield name, line.decode("utf-8", "replace")

    def _read(self, name: str, output: int) -> bytes | None:
        """Take what is there: empty at the output's end, None where nothing came."""
        try:
            content = os.read(output, 1 << 16)
        except BlockingIOError:
            return None
        self._said[name] += content
        return content

    def _open(self, key: selectors.SelectorKey) -> bool:
        """Tell whether it is this file that is waited for, and no later one of the same number."""
        return self._selector.get_map().get(key.fd) is key

    def _close(self, file: int) -> None:
        self._selector.unregister(file)
        os.close(file)
