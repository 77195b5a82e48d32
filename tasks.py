"""The verbs people type: `invoke --list`. Each is a few lines over blackwheel.commands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from invoke import Collection, Context, task

from blackwheel import edge
from blackwheel.site import Site

DEFAULTS = {"stack": "nightly", "python": "", "arch": "", "jobs": 0}
"""Set others in invoke.yaml (`blackwheel: {stack: stable}`) or by INVOKE_BLACKWHEEL_STACK."""


def _run(action: Callable[[Site], Any]) -> None:
    sys.exit(edge.run(action))


def _words(text: str) -> tuple[str, ...]:
    """`a,b` arrives as one string: Invoke 3 has no positional lists that work."""
    return tuple(word for word in text.replace(",", " ").split() if word)


@task(
    help={
        "stack": "which combination to build (default: nightly); invoke stacks lists them",
        "only": "build only these projects: flash-attn,vllm (default: all of the stack)",
        "arch": "other archs than the stack's: '9.0;12.0a'",
        "jobs": "compilers at once (default: as cores and memory allow)",
        "python": "a version or a path (default: the running one, where the stack serves it)",
        "again": "build from nothing although nothing changed",
        "keep-going": "go on with the next project when one fails",
    }
)
def build_wheels(
    c: Context,
    stack: str = "",
    only: str = "",
    arch: str = "",
    jobs: int = 0,
    python: str = "",
    again: bool = False,
    keep_going: bool = False,
) -> None:
    """Build, prove and shelve a stack's wheels, e.g. invoke build-wheels --stack quickstart."""
    from blackwheel import commands

    default = c.config.blackwheel
    _run(
        lambda site: commands.build_wheels(
            site,
            stack or default.stack,
            only=_words(only),
            arch=arch or default.arch,
            jobs=jobs or int(default.jobs),
            python=python or default.python,
            again=again,
            keep_going=keep_going,
        )
    )


namespace = Collection(build_wheels)
namespace.configure({"blackwheel": DEFAULTS})
