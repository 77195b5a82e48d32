"""Refuses FlashAttention-3 for archs that cannot run it, before anything is fetched or made.

vLLM's upstream builds it whatever the archs are: without 9.0 as hundreds of objects of no arch that
was asked for. What it is made of is in docs/decisions/0026-vllm-0.11.0.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from blackwheel.core import archs
from blackwheel.core.errors import BlackwheelError, Exit
from blackwheel.stacks.request import Request

_NAMES: Final = frozenset({"fa3", "flashattn3", "flashattention3", "hopper"})
"""How people call it, without hyphens."""
_HOPPER: Final = 9
_SMALL_TILES: Final = 12
"""The compute capability whose shared memory is 99 KB a block."""


def refuse(request: Request) -> None:
    """Raise `no-flash-attn-3` where vLLM would build it for an arch that is newer than 9.0."""
    if request.project != "vllm":
        return
    without = request.pin.variables.get("VLLM_WITHOUT", "")
    if "fa3" not in re.findall(r"\w+", without):
        _refuse(
            f"vllm {request.pin.version} would build FlashAttention-3",
            request.archs,
            where=f"constraints/{request.stack.name}.toml, projects.vllm.variables.VLLM_WITHOUT",
            fix="name fa3 in it: FlashAttention-2 is what runs there",
        )


def refuse_project(name: str, wanted: Iterable[str]) -> None:
    """Raise `no-flash-attn-3` where it is asked for as a project: no stack has one."""
    if re.sub(r"[^a-z0-9]", "", name.lower()) in _NAMES:
        _refuse(
            f"'{name}' is FlashAttention-3",
            wanted,
            where="--only",
            fix="--only flash-attn: FlashAttention-2 is what runs there",
        )


def _refuse(what: str, wanted: Iterable[str], *, where: str, fix: str) -> None:
    newer = [arch for arch in map(archs.parse, wanted) if arch.major > _HOPPER]
    if not newer:
        return
    reasons = ["it is made of wgmma, an instruction that only sm_90a has"]
    if any(arch.major == _SMALL_TILES for arch in newer):
        reasons.append("its tiles are larger than the 99 KB of shared memory of 12.0")
    raise BlackwheelError(
        "no-flash-attn-3",
        f"{what}, which cannot run on {', '.join(map(str, newer))}:\n" + "\n".join(reasons),
        where=where,
        fix=fix,
        code=Exit.CONFIG if where.startswith("constraints/") else Exit.USAGE,
    )
