"""Starts commands, from a warm process or from nothing, and waits for them within bounds."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MARK = "BLACKWHEEL_CAMPAIGN"
"""A variable that every process of a family has, and by which it is found."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """An ended command: its words, code (negative: of a signal), output and cost."""

    words: tuple[str, ...]
    code: int
    said: str
    wall: float
    cpu: float
    peak: int
    overdue: bool = False


@dataclass(kw_only=True)
class Running:
    """A command that was started; `ended` tells how."""

    words: tuple[str, ...]
    pid: int
    out: Path
    err: Path
    began: float = field(default_factory=time.monotonic)
    status: int | None = None
    cpu: float = 0.0
    peak: int = 0

    def done(self, *, overdue: bool = False) -> Done:
        said = "".join(p.read_text("utf-8", "replace") for p in (self.out, self.err) if p.exists())
        assert self.status is not None
        return Done(
            words=self.words,
            code=self.status,
            said=said,
            wall=time.monotonic() - self.began,
            cpu=self.cpu,
            peak=self.peak,
            overdue=overdue,
        )


class Shell:
    """Starts the commands of one checkout."""

    def __init__(
        self, root: Path, outputs: Path, mark: str, environment: Mapping[str, str]
    ) -> None:
        self.root, self.outputs, self.mark = root, outputs, mark
        self._environment = dict(environment)
        self._count = 0
        self._fresh: dict[int, tuple[subprocess.Popen[bytes], Running]] = {}
        self._warm: dict[int, Running] = {}
        self._server: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    @property
    def server(self) -> int:
        """Process number of the warm process, 0 where there is none: no part of a family."""
        return self._server.pid if self._server else 0

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        *,
        fresh: bool = False,
        umask: int = -1,
        limits: Mapping[str, int] | None = None,
        prepare: Callable[[], None] | None = None,
        wrapped: Sequence[str] = (),
    ) -> Running:
        """Begin `invoke …`, `python -m …` for words that begin with `-m`, or a nox session's own
        `python -m blackwheel …` for words that begin with `session`.

        `prepare` runs in the child just before the program, `wrapped` are words before it; both
        make a start from nothing.
        """
        self._count += 1
        out, err = (self.outputs / f"{self._count}.{name}" for name in ("out", "err"))
        variables = {**environment, MARK: self.mark}
        if fresh or prepare or wrapped or words[0] == "-m":
            running = Running(words=tuple(words), pid=0, out=out, err=err)
            module = {"-m": (), "session": ("-m", "blackwheel")}.get(words[0], ("-m", "invoke"))
            rest = words[1:] if words[0] == "session" else words
            argv = [sys.executable, *module, *rest]
            with out.open("wb") as sink, err.open("wb") as errors:
                process = subprocess.Popen(
                    [*wrapped, *argv],
                    cwd=self.root,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=errors,
                    start_new_session=True,
                    umask=umask,
                    preexec_fn=_prepared(prepare, limits),  # noqa: PLW1509  one thread forks
                )
            running.pid = process.pid
            self._fresh[process.pid] = process, running
            return running
        return self._forked(words, variables, umask=umask, limits=limits or {}, out=out, err=err)

    def _forked(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        *,
        out: Path,
        err: Path,
        **more: Any,
    ) -> Running:
        server = self._serving()
        request = {"words": list(words), "environment": dict(environment), "cwd": str(self.root)}
        request |= {"out": str(out), "err": str(err), **more}
        assert server.stdin
        server.stdin.write((json.dumps(request) + "\n").encode())
        server.stdin.flush()
        told: dict[str, Any] = {}
        while "pid" not in told:
            told = self._told(60) or {}
        running = Running(words=tuple(words), pid=told["pid"], out=out, err=err)
        self._warm[running.pid] = running
        return running

    def _serving(self) -> subprocess.Popen[bytes]:
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, str(HERE / "server.py")],
                cwd=self.root,
                env={**self._environment, MARK: self.mark},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            while "ready" not in (self._told(300) or {}):
                assert self._server.poll() is None, "the warm process ended"
        return self._server

    def _told(self, seconds: float) -> dict[str, Any] | None:
        """Take one line of the warm process, noting the ends of commands."""
        assert self._server
        assert self._server.stdout
        output = self._server.stdout.fileno()
        if b"\n" not in self._buffer:
            if not select.select([output], [], [], seconds)[0]:
                return None
            content = os.read(output, 1 << 16)
            assert content, "the warm process ended"
            self._buffer += content
        line, _, self._buffer = self._buffer.partition(b"\n")
        told: dict[str, Any] = json.loads(line) if line else {}
        if "ended" in told:
            running = self._warm.pop(told["ended"])
            running.status, running.cpu, running.peak = told["status"], told["cpu"], told["peak"]
        return told

    def poll(self, running: Running, seconds: float = 0.01) -> bool:
        """Tell whether a command has ended."""
        if running.status is None and running.pid in self._warm:
            self._told(seconds)
        elif running.status is None:
            pid, status, usage = os.wait4(running.pid, os.WNOHANG)
            if pid:
                process, _ = self._fresh.pop(pid)
                running.status = process.returncode = os.waitstatus_to_exitcode(status)
                running.cpu = usage.ru_utime + usage.ru_stime
                running.peak = usage.ru_maxrss << 10
            else:
                time.sleep(seconds)
        return running.status is not None

    def ended(self, running: Running, *, seconds: float) -> Done:
        """Wait for a command; one that is overdue is killed with all of its family.

        A family that mostly waited for a core gets that time again, four times at most.
        """
        deadline = time.monotonic() + seconds
        overdue = False
        again = 4
        while not self.poll(running):
            if time.monotonic() > deadline and again and not overdue and self._starved(seconds):
                deadline, again = time.monotonic() + seconds, again - 1
            elif time.monotonic() > deadline:
                overdue = True
                self.kill_family()
                deadline = time.monotonic() + 30
        return running.done(overdue=overdue)

    def family(self) -> dict[int, str]:
        """Process numbers and command lines of all that was started here and still runs."""
        found = {}
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit() or int(entry.name) == self.server:
                continue
            try:
                variables = Path(entry.path, "environ").read_bytes()
                if self.mark.encode() not in variables:
                    continue
                line = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue
            if line:
                found[int(entry.name)] = line.decode("utf-8", "replace")
        return found

    def _starved(self, seconds: float) -> bool:
        """Tell whether a process of the family was ready to run, and got no core, half the time."""
        waits = [0.0]
        for pid in self.family():
            with contextlib.suppress(OSError, ValueError, IndexError):
                told = Path(f"/proc/{pid}/schedstat").read_text("ascii").split()
                waits.append(int(told[1]) / 1e9)
        return max(waits) > seconds / 2

    def kill_family(self) -> None:
        for pid in self.family():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def close(self) -> None:
        self.kill_family()
        if self._server:
            assert self._server.stdin
            self._server.stdin.close()
            self._server.wait()
            self._server = None


def _prepared(
    prepare: Callable[[], None] | None, limits: Mapping[str, int] | None
) -> Callable[[], None] | None:
    if not prepare and not limits:
        return None

    def both() -> None:
        import resource

        for name, most in (limits or {}).items():
            kind = getattr(resource, name)
            _, hard = resource.getrlimit(kind)
            resource.setrlimit(kind, (most, most if hard < 0 else min(most, hard)))
        if prepare:
            prepare()

    return both
