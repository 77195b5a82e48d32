"""One folder with everything of one run: checkout, toolkit, wheels, variables, patched source."""

from __future__ import annotations

import difflib
import http.server
import io
import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from checkout import Checkout, new_checkout, persons_environment
from measure import Cost, measured, say
from uv import find_uv_bin

from blackwheel.stacks import loader, request
from blackwheel.toolchain import toolkit

REQUIRES = ("setuptools", "wheel", "ninja", "packaging")
CHANGED = {
    "flash-attn": "csrc/flash_attn/src/flash_fwd_hdim64_bf16_sm80.cu",
    "toy-cuda": "csrc/scale.cu",
}
"""The kernel file that gets one more line."""


@dataclass
class Bench:
    """One folder with everything of one run, and what is built in it."""

    work: Path
    toy: bool
    jobs: int

    def __post_init__(self) -> None:
        home = self.work / "blackwheel"
        if home.exists():
            self.checkout = Checkout(home=home)
        else:
            self.checkout = new_checkout(home, self.work / "shared")
        self.choose("toy" if self.toy else "quickstart")

    def choose(self, name: str) -> None:
        """Take the one project of a stack, for the Python that runs this."""
        constraints = self.checkout.root / "constraints"
        stack = loader.load(name, constraints)
        (project,) = stack.build
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        self.request = request.Request(
            stack=stack, project=project, python=python, archs=stack.archs
        )
        self.lock = self.request.lock("build", constraints)
        if self.toy:  # its sources include nothing of torch: gigabytes less for pip and fromager
            self.lock = _reduced(self.lock, self.work / "build.txt")

    @property
    def environment(self) -> dict[str, str]:
        """What a person's shell holds; the toys' mirror and pool only for toys."""
        ours = self.checkout.environment if self.toy else persons_environment()
        return {**ours, "BLACKWHEEL_HOME": str(self.store), "BLACKWHEEL_CACHE": "off"}

    @property
    def store(self) -> Path:
        """Of this run alone."""
        return self.checkout.store

    @property
    def cuda(self) -> Path:
        """The toolkit, assembled where it is not there yet."""
        lock = self.checkout.root / "constraints" / "stable" / "toolchain.txt"
        return toolkit.assemble(
            lock, store=self.store, uv=Path(find_uv_bin()), environment=persons_environment()
        ).root

    @property
    def python(self) -> Path:
        """The interpreter that all three build for: the one that runs this."""
        return Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"

    def log(self, name: str) -> Path:
        """Where a command's whole output goes."""
        return self.work / "logs" / f"{name}.log"

    def do(self, name: str, *argv: str | Path, **changes: Any) -> Cost:
        """Run one command as a person does."""
        given = {"environment": self.environment, "cwd": self.checkout.root, **changes}
        return measured(argv, log=self.log(name), **given)

    def invoke(self, name: str, *words: str, **variables: str) -> Cost:
        """Run `invoke …` in this run's checkout."""
        argv = (sys.executable, "-m", "invoke", *words)
        return self.do(name, *argv, environment={**self.environment, **variables})

    @property
    def variables(self) -> dict[str, str]:
        """What the stack tells the upstream build, and where its compilers are."""
        return {
            **request.build_variables(self.request, jobs=self.jobs),
            "CUDA_HOME": str(self.cuda),
            "LIBRARY_PATH": f"{self.cuda}/lib64/stubs",
        }

    def tree(self) -> Path:
        """Return the patched source, as `invoke apply-patches` leaves it."""
        words = ("apply-patches", "--stack", self.request.stack.name)
        done = self.checkout.invoke(*words) if self.toy else None
        if done is None:
            log = self.log("apply-patches")
            log.unlink(missing_ok=True)
            self.invoke("apply-patches", *words)
            text = log.read_text(encoding="utf-8")
        else:
            text = done.out
        return Path(re.findall(r": (/\S+)$", text, re.MULTILINE)[-1])

    def wheels(self) -> Path:
        """Return a folder of the locked wheels, fetched once by pip."""
        folder = self.work / "wheels"
        if not (self.work / "wheels.done").exists():
            tools = self.work / "tools"
            self.do("wheels", self.python, "-m", "venv", tools)
            words = ("--quiet", "--no-deps", "--require-hashes", "--dest", folder)
            pip = (tools / "bin" / "pip", "download", *words, "--requirement", self.lock)
            say("the locked wheels, from the package registry")
            self.do("wheels", *pip)
            (self.work / "wheels.done").touch()
        return folder

    def patch(self) -> str:
        """Return a patch that adds one line to one kernel file."""
        name = CHANGED[self.request.project]
        before = (self.tree() / name).read_text(encoding="utf-8").splitlines(keepends=True)
        after = ["// one line more\n", *before]
        diff = difflib.unified_diff(before, after, f"a/{name}", f"b/{name}")
        return f"diff --git a/{name} b/{name}\n{''.join(diff)}"


def git_bytes(folder: Path) -> int:
    """Return the bytes of git's objects in a folder of repositories, packed or not."""
    files = (file for file in folder.glob("**/objects/**/*") if file.is_file())
    return sum(file.stat().st_size for file in files if file.suffix not in (".idx", ".rev"))


def _reduced(lock: Path, target: Path) -> Path:
    """Write what a lock says of REQUIRES alone."""
    blocks = re.split(r"(?m)^(?=\S)", lock.read_text(encoding="utf-8"))
    kept = [block for block in blocks if block.partition("==")[0] in REQUIRES]
    target.write_text("".join(kept), encoding="utf-8")
    return target


class Served:
    """A folder over HTTP on loopback."""

    def __init__(self, folder: Path) -> None:
        handler = partial(_Quiet, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def list_directory(self, path: str | os.PathLike[str]) -> io.BytesIO:
        """Return a page that is an index too: the handler's own marks links with an @."""
        names = sorted(entry.name for entry in Path(path).iterdir())
        links = "".join(f'<a href="{quote(name)}">{name}</a>\n' for name in names)
        page = f"<!DOCTYPE html><html><body>\n{links}</body></html>\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        return io.BytesIO(page)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def compiled(log: Path) -> int:
    """Return how many steps ninja ran, by its own counter."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return sum(int(total) for done, total in steps(text) if done == total)


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Yield ninja's `[done/total]`."""
    for found in re.finditer(r"^\s*\[(\d+)/(\d+)\] ", text, re.MULTILINE):
        yield found[1], found[2]
