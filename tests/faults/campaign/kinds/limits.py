"""Takes away descriptors, file sizes and memory, as `ulimit` and containers do."""

from __future__ import annotations

import signal

from .. import choices
from ..case import Case


def descriptors(case: Case) -> None:
    words = choices.any_command(case)
    most = case.dice.randint(4, 48)
    case.note(f"{most} descriptors")
    case.run(*words, limits={"RLIMIT_NOFILE": most})
    case.settle(*words)


def file_size(case: Case) -> None:
    words = choices.any_command(case, writing=True)
    most = int(2 ** case.dice.uniform(0, 23 if case.number % 2 else 16))
    case.note(f"files of {most} bytes")
    # The output of the command is a file of the campaign's own, and has the same limit.
    mute = most < 8192
    case.run(*words, limits={"RLIMIT_FSIZE": most}, signals=[signal.SIGXFSZ], mute=mute)
    case.settle(*words)


def memory(case: Case) -> None:
    words = choices.any_command(case)
    most = case.dice.randint(60, 900) << 20
    case.note(f"{most >> 20} MiB of address space")
    case.run(*words, fresh=True, limits={"RLIMIT_AS": most})
    case.settle(*words)


KINDS = {"descriptors": descriptors, "file-size": file_size}
