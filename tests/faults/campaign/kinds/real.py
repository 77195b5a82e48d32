"""Faults in parts of the real quickstart: its sources, patches and hashed environments."""

from __future__ import annotations

from pathlib import Path

from .. import quickstart
from ..case import Case
from ..liars import page_prefix
from ..worlds import same
from .broken import broken, files_of
from .indexes import lie_of
from .stops import SIGNALS, send


def source_files(case: Case) -> None:
    """Each file of the real store, broken: it is fetched, exported or patched anew, or named."""
    words = quickstart.apply_patches(case, applied=True)
    if case.dice.random() < 0.3:
        words = ("clone", *quickstart.STACK)
    files = files_of(case.world.store, without=(".lock",))
    records = [path for path in files if "/tree/" not in str(path)]
    broken(case.dice.choice(records if case.dice.random() < 0.4 else files), case)
    before = {path.parent for path in case.world.store.glob("*/*/*/tree")}
    done = case.run(*words)
    if not done.code and words[0] == "apply-patches":
        for tree in before:
            case.fault(_changed(case, tree))

    def heal() -> None:
        same(case.world.kept("patched", "store"), case.world.store)

    case.settle(*words, heal=heal)


def _changed(case: Case, folder: Path) -> list[str]:
    """Say which files of an export or a patched tree have other bytes than the template's."""
    kept = case.world.kept("patched", "store") / folder.relative_to(case.world.store)
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
    """A signal while the real sdist is unpacked, the series applied, or the pins installed."""
    words = quickstart.command(case)
    signum = case.dice.choice(SIGNALS)
    case.run(*words, signals=[signum], during=send(case, signum, case.dice.uniform(0, 2.5)))
    case.settle(*words)


def environment_files(case: Case) -> None:
    """Each file of an environment, broken: the next session's sync notices and mends, or names."""
    words = quickstart.sync(case)

    def make() -> None:
        case.world.put("pins")
        quickstart.done(case, *words)

    case.world.makers.setdefault("synced", make)
    case.begin("synced")
    env = case.world.store / "env"
    files = files_of(env / "lib", without=("_virtualenv", ".pyc"))
    changed = case.dice.choice(files)
    content = changed.read_bytes()
    broken(changed, case)
    done = case.run(*words)
    whole = changed.is_file() and not changed.is_symlink() and changed.read_bytes() == content
    if not done.code and not whole:
        case.fault([f"other bytes, and nobody noticed: {changed.relative_to(env)}"])

    def heal() -> None:
        same(case.world.kept("synced", "store"), case.world.store)

    case.settle(*words, heal=heal, leftovers=False)


def lying_sync(case: Case) -> None:
    """The first step of every session, `sync`, with an index that lies to uv."""
    words, liar = quickstart.sync(case), quickstart.index(case)
    liar.lie = lie_of(case, page_prefix)
    done = case.run(*words)
    liar.lie = None
    if not done.code and not _installed(case):
        case.fault(["success was said, and nothing is installed"])
    case.settle(*words, leftovers=False)
    if not _installed(case):
        case.fault(["the rerun installed nothing"])


def _installed(case: Case) -> list[Path]:
    return list(case.world.store.glob("env/lib/*/site-packages/ninja/__init__.py"))


KINDS = {
    "quickstart-store-files": source_files,
    "quickstart-signals": source_signals,
    "quickstart-environment": environment_files,
    "lying-sync": lying_sync,
}
