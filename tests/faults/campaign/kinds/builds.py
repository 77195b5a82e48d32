"""Builds a real kernel with a compiler that crashes, hangs, lies and writes half of its object."""

from __future__ import annotations

import signal

from .. import toolchains
from ..case import Case
from ..worlds import same
from .broken import broken, files_of
from .stops import SIGNALS, send

SOURCES = ("scale.cu", "offset.cu")
KILLS = ("SEGV", "ABRT", "BUS", "ILL", "KILL", "TERM", "HUP", "INT", "PIPE", "XFSZ", "XCPU", "FPE")
ACTIONS = (
    *(f"signal-{name}" for name in KILLS),
    *(f"late-{name}" for name in ("SEGV", "KILL", "TERM")),
    *(f"exit-{code}" for code in (1, 2, 97, 98, 126, 127, 255)),
    *(f"fails-{code}" for code in (1, 139)),
    *("nothing", "no-depfile", "empty", "half", "zeros", "junk", "other", "folder", "link", "mute"),
    *("hang", "writes-and-hangs", "child", "noise", "escapes", "error-words", "no-source"),
    *("touches", "late-write"),
)


def compilers(case: Case) -> None:
    """A build ends with the same bytes or a named error, and never with a compiler left behind."""
    case.part = "registry's toolchain and torch, nvcc launcher, isolation, audit"
    words = toolchains.build_command(case)
    action = ACTIONS[case.number % len(ACTIONS)]
    source = case.dice.choice(SOURCES)
    times = case.dice.choice([1, 1, 2, 99])
    case.note(f"{action} for {source}, {times} times")
    behaviour = toolchains.memo(case.world) / "behaviour"
    behaviour.write_text(f"{action} {source} {times}\n", encoding="utf-8")
    case.cleanups.append(lambda: behaviour.unlink(missing_ok=True))
    if "hang" in action:
        signum = case.dice.choice([signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
        delay = case.dice.uniform(2, 5)
        case.run(*words, signals=[signum], during=send(case, signum, delay), peak=toolchains.PEAK)
    else:
        done = case.run(*words, peak=toolchains.PEAK)
        if not done.code:
            case.fault(toolchains.other_wheel(case, words))
    behaviour.unlink(missing_ok=True)
    case.settle(*words, peak=toolchains.PEAK)


def build_signals(case: Case) -> None:
    """A signal to any process of a build, nox and compilers too, at any moment."""
    case.part = "registry's toolchain and torch, nox, nvcc launcher, isolation, audit"
    words = toolchains.build_command(case)
    file, environment = words[2], words[-1]
    if case.dice.random() < 0.3:
        words = ("-m", "nox", "--session", "build(toy-cuda)", "--", "--session-file", file)
    signum = case.dice.choice(SIGNALS)
    act = send(case, signum, case.dice.uniform(0, 4))
    case.run(*words, signals=[signum], during=act, nox=words[0] == "-m", peak=toolchains.PEAK)
    case.settle("session", "build", file, "--environment", environment, peak=toolchains.PEAK)


def store_files(case: Case) -> None:
    """Each file of the store of a build, broken in turn: the same bytes, or a named error."""
    case.part = "store of a build: git, export, patched tree, build tree, records"
    words = toolchains.build_command(case, built=case.dice.random() < 0.5)
    files = files_of(case.world.store, without=(".lock", "/torch/", "campaign.json"))
    path = case.dice.choice(files)
    broken(path, case)
    done = case.run(*words, peak=toolchains.PEAK)
    if not done.code:
        case.fault(toolchains.other_wheel(case, words))

    def heal() -> None:
        same(case.world.kept(case.template, "store"), case.world.store)

    case.settle(*words, heal=heal, peak=toolchains.PEAK)


KINDS = {"compilers": compilers, "build-signals": build_signals, "build-store-files": store_files}
