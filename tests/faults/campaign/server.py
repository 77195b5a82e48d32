"""Forks commands from a process that has imported the package: imports are most of a short command.

Reads one JSON request a line from stdin, writes `{"pid"}` at once and, when the command has ended,
`{"ended", "status", "cpu", "peak"}`. A start from nothing, with its imports, is a kind of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

LEFT_OUT = (".inside", ".checks", "__main__")
"""Modules for other interpreters."""


def preload() -> None:
    import blackwheel

    for found in pkgutil.walk_packages(blackwheel.__path__, "blackwheel."):
        if not any(part in found.name for part in LEFT_OUT):
            importlib.import_module(found.name)
    for name in ("invoke.main", "pypi_simple", "requests", "rich.table", "filelock", "git"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def become(request: dict[str, Any]) -> int:
    """Be the command: its streams, variables, limits and words; return its exit code."""
    os.setsid()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    if request["umask"] >= 0:
        os.umask(request["umask"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    tempfile.tempdir = None
    for name, most in request["limits"].items():
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most, most if hard < 0 else min(most, hard)))
    words = request["words"]
    code = 0
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if words[0] == "session":  # `python -m blackwheel …`, as a nox session starts it
            from blackwheel.commands.session import main
            from blackwheel.core import isolation

            isolation.die_with_parent()
            isolation.become_subreaper()
            code = main(words[1:])
        else:
            from invoke.main import program

            sys.argv = ["invoke", *words]
            program.run()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 130
    except BaseException:  # noqa: BLE001  what the interpreter would print
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return code


def tell(**what: Any) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())


def serve() -> None:
    children = 0
    buffer = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.01 if children else None)
        if ready:
            content = os.read(0, 1 << 16)
            if not content:
                return
            *lines, buffer = (buffer + content).split(b"\n")
            for line in lines:
                request = json.loads(line)
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                pid = os.fork()
                if not pid:
                    code = 1
                    try:
                        code = become(request)
                    except KeyboardInterrupt:  # before the command has begun
                        code = 130
                    finally:
                        os._exit(code)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                children += 1
                tell(pid=pid)
        while children:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                break
            children -= 1
            cpu = usage.ru_utime + usage.ru_stime
            code = os.waitstatus_to_exitcode(status)
            tell(ended=pid, status=code, cpu=cpu, peak=usage.ru_maxrss << 10)


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    preload()
    tell(ready=True)
    serve()
