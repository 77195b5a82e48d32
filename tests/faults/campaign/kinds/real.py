"""Faults in parts of the real quickstart: flash-attention's sources and patches, and uv's sync."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import nightly_index
from uv import find_uv_bin

from ..case import Case
from ..liars import Liar, page_prefix
from ..mounts import SkippedError
from ..worlds import same
from .broken import broken, files_of
from .indexes import TrueIndex, lie_of
from .stops import SIGNALS, send

STACK = ("--stack", "quickstart", "--only", "flash-attn")
REAL = "quickstart: flash-attention and CUTLASS, git store, export, series"


def _sources(case: Case) -> None:
    """Begin with the quickstart's sources fetched and patched, by this person's own git."""
    case.part = REAL
    own = os.environ.get("CAMPAIGN_GIT_CONFIG", str(Path("~/.gitconfig").expanduser()))
    case.extra = {"GIT_CONFIG_GLOBAL": own}

    def make() -> None:
        variables = {**case.world.environment, **case.extra}
        shell = case.lab.shell
        done = shell.ended(shell.start(("apply-patches", *STACK), variables), seconds=1200)
        if done.code:
            raise SkippedError(f"no sources: {' '.join(done.said.split())[-200:]}")

    case.world.makers.setdefault("quickstart", make)
    case.begin("quickstart")


def source_files(case: Case) -> None:
    """Each file of the real store, broken: it is fetched, exported or patched anew, or named."""
    _sources(case)
    words = (case.dice.choice(["clone", "apply-patches", "apply-patches"]), *STACK)
    files = files_of(case.world.store, without=(".lock",))
    records = [path for path in files if path.suffix in (".json", ".pack", ".idx", ".jsonl")]
    records += [path for path in files if "/git/" in str(path) and "/objects/" not in str(path)]
    broken(case.dice.choice(records if case.dice.random() < 0.5 else files), case)
    before = {path.parent for path in case.world.store.glob("*/*/*/tree")}
    done = case.run(*words)
    if not done.code and words[0] == "apply-patches":
        for tree in before:
            case.fault(_changed(case, tree))

    def heal() -> None:
        same(case.world.kept("quickstart", "store"), case.world.store)

    case.settle(*words, heal=heal)


def _changed(case: Case, folder: Path) -> list[str]:
    """Say which files of an export or a patched tree have other bytes than the template's."""
    kept = case.world.kept("quickstart", "store") / folder.relative_to(case.world.store)
    wanted = {path.relative_to(kept): path for path in kept.rglob("*") if path.is_file()}
    found = [
        f"other bytes, and nobody noticed: {folder.name}/{name}"
        for name, path in wanted.items()
        if not (folder / name).is_file()
        or (folder / name).stat().st_size != path.stat().st_size
        or (folder / name).read_bytes() != path.read_bytes()
    ]
    return [one for one in found if not one.endswith(".json")][:3]


def source_signals(case: Case) -> None:
    """A signal while the real series is applied to a patched tree that is not there yet."""
    _sources(case)
    for path in case.world.store.glob("patched/*/*"):
        (path / "patched.json").unlink(missing_ok=True)
    words = ("apply-patches", *STACK)
    signum = case.dice.choice(SIGNALS)
    case.run(*words, signals=[signum], during=send(case, signum, case.dice.uniform(0, 2.5)))
    case.settle(*words)


def lying_sync(case: Case) -> None:
    """The first step of every session, `sync`, with an index that lies to uv."""
    case.part = "uv sync of hashed pins, as each session of the quickstart begins"
    liar: Liar | None = case.lab.servers.get("sync")
    if liar is None:
        wheel = nightly_index.wheel("toy", "1.0")
        liar = case.lab.servers["sync"] = Liar(TrueIndex({"toy-1.0-py3-none-any.whl": wheel}))
    store = case.world.store

    def make() -> None:
        uv = [find_uv_bin(), "venv", "--quiet", "--python", sys.executable, str(store / "env")]
        subprocess.run(uv, env=case.world.environment, check=True)
        digest = hashlib.sha256(nightly_index.wheel("toy", "1.0")).hexdigest()
        (store / "lock.txt").write_text(f"toy==1.0 --hash=sha256:{digest}\n", encoding="utf-8")
        (store / "order.json").write_text("{}", encoding="utf-8")

    case.world.makers.setdefault("sync", make)
    case.begin("sync")
    case.extra = {
        "UV_DEFAULT_INDEX": f"{liar.root}/simple",
        "UV_CACHE_DIR": str(case.world.part("home") / ".cache" / "uv"),
        "UV_HTTP_TIMEOUT": "20",
    }
    liar.lie = lie_of(case, page_prefix)
    places = ("--environment", str(store / "env"), "--locks", str(store / "lock.txt"))
    words = ("session", "sync", str(store / "order.json"), *places)
    done = case.run(*words)
    liar.lie = None
    installed = list(store.glob("env/lib/*/site-packages/toy/__init__.py"))
    if not done.code and not installed:
        case.fault(["success was said, and nothing is installed"])
    case.settle(*words, leftovers=False)
    if not list(store.glob("env/lib/*/site-packages/toy/__init__.py")):
        case.fault(["the rerun installed nothing"])


KINDS = {
    "quickstart-store-files": source_files,
    "quickstart-signals": source_signals,
    "lying-sync": lying_sync,
}
