"""Commands of the real quickstart: flash-attention's sdist and series, and the sync of its pins.

Everything comes from an index of this process, which offers the files of the registry that the
locks of this checkout name: fetched once, by this machine's own pip and configuration.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import checkout
from uv import find_uv_bin

from .case import Case
from .indexes import TrueIndex
from .liars import Liar
from .mounts import SkippedError

STACK = ("--stack", "quickstart", "--only", "flash-attn")
SOURCES = "quickstart: sdist, export, series"
SYNC = "quickstart: sync of hashed pins"
LEFT_OUT = re.compile(r"cuda-|nvidia-|torch|triton|sympy|mpmath|networkx")
"""Gigabytes, and thousands of files, of which none is read otherwise than the rest."""


def command(case: Case, *, together: bool = False) -> tuple[str, ...]:
    """Begin with a state of the quickstart's store; return a command of it."""
    which = case.dice.choice(["clone", "apply", *([] if together else ["sync", "sync"])])
    return {"clone": clone, "apply": apply_patches, "sync": sync}[which](case)


def clone(case: Case) -> tuple[str, ...]:
    """Fetch and unpack the sdist into an empty store."""
    _served(case, SOURCES)
    case.begin("repository")
    return ("clone", *STACK)


def apply_patches(case: Case, *, applied: bool = False) -> tuple[str, ...]:
    """Apply the series to an export that is there; or find that it was `applied` before."""
    _served(case, SOURCES)
    case.world.makers.setdefault("fetched", lambda: done(case, "clone", *STACK))
    case.world.makers.setdefault("patched", lambda: done(case, "apply-patches", *STACK))
    case.begin("patched" if applied else "fetched")
    return ("apply-patches", *STACK)


def sync(case: Case) -> tuple[str, ...]:
    """Install the pins into an environment that was just made, as each session does first."""
    _served(case, SYNC)
    store = case.world.store

    def make() -> None:
        uv = [find_uv_bin(), "venv", "--quiet", "--python", sys.executable, str(store / "env")]
        subprocess.run(uv, env=case.world.environment, check=True)
        shutil.copy2(_files(case) / "lock.txt", store / "lock.txt")
        (store / "order.json").write_text("{}", encoding="utf-8")

    case.world.makers.setdefault("pins", make)
    case.begin("pins")
    places = ("--environment", str(store / "env"), "--locks", str(store / "lock.txt"))
    return ("session", "sync", str(store / "order.json"), *places)


def index(case: Case) -> Liar:
    """Return the index that offers the quickstart's files, and may be told to lie."""
    liar: Liar | None = case.lab.servers.get("quickstart")
    if liar is None:
        files = {
            path.name: path.read_bytes()
            for path in _files(case).iterdir()
            if path.suffix in (".whl", ".gz")
        }
        liar = case.lab.servers["quickstart"] = Liar(TrueIndex(files))
    return liar


def _served(case: Case, part: str) -> None:
    """Let the commands of this injection know that index alone, with a cache of their own."""
    case.part = part
    case.extra = {
        "UV_DEFAULT_INDEX": f"{index(case).root}/simple",
        "UV_CACHE_DIR": str(case.world.part("home") / ".cache" / "uv"),
        "UV_HTTP_TIMEOUT": "20",
        "PIP_FIND_LINKS": "",
    }


def done(case: Case, *words: str) -> None:
    """Run a command of a template's making."""
    variables = {**case.world.environment, **case.extra}
    ended = case.lab.shell.ended(case.lab.shell.start(words, variables), seconds=1200)
    if ended.code:
        raise SkippedError(f"{words[0]}: {' '.join(ended.said.split())[-200:]}")


def _files(case: Case) -> Path:
    """Fetch the quickstart's sdist and wheels once for all worlds; return their folder."""
    folder = case.world.shared / "quickstart"
    if not (folder / "lock.txt").exists():
        folder.mkdir(parents=True, exist_ok=True)
        stack = checkout.REPOSITORY / "constraints" / "stable"
        text = (stack / f"build-flash-attn-{checkout.TAG}.txt").read_text("utf-8")
        pins = re.findall(r"(?ms)^[a-z][^ ]*==.*?(?=^[a-z]|\Z)", text)
        wanted = "".join(pin for pin in pins if not LEFT_OUT.match(pin))
        (folder / "wanted.txt").write_text(wanted, encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--dest"]
        argv = [*pip, str(folder), "--require-hashes", "-r", str(folder / "wanted.txt")]
        environment = checkout.persons_environment()
        got = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        if got.returncode:
            raise SkippedError(f"the registry: {' '.join(got.stderr.split())[-200:]}")
        case.world.put("repository")
        shell = case.lab.shell
        fetched = shell.ended(shell.start(("clone", *STACK), case.world.environment), seconds=1200)
        sdists = list(case.world.store.glob("sdists/flash_attn-*.tar.gz"))
        if fetched.code or not sdists:
            raise SkippedError(f"no sdist: {' '.join(fetched.said.split())[-200:]}")
        shutil.copy2(sdists[0], folder)
        (folder / "wanted.txt").rename(folder / "lock.txt")
    return folder
