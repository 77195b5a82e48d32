"""Collects jobs, memory, variables and every other input of one build into a BuildPlan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blackwheel.core.units import duration
from blackwheel.pytorch.identity import TorchIdentity
from blackwheel.sources.patch import PatchedTree
from blackwheel.stacks.key import Key
from blackwheel.stacks.records import ProjectPin
from blackwheel.stacks.request import Request
from blackwheel.toolchain.toolkit import Toolchain

SOURCE_DATE_EPOCH: Final = 1577836800
"""2020-01-01: a zip cannot hold dates before 1980, and any fixed day serves."""
OBJECTS: Final = (
    ("*scaled_mm_c2x", 6, 630),
    ("*split", 5, 140),
    ("*bwd", 7, 100),
    ("*fwd_hdim64", 5, 80),
    ("*fwd_hdim32", 5, 70),
    ("*fwd", 5, 90),
    ("*scaled_mm", 9, 100),
    ("gemm.cu", 10, 150),
    ("*nvfp4_blockwise", 6, 70),
    ("*fused_quantize", 5, 100),
    ("*sm80_kernel", 1, 55),
    ("*sm89_kernel", 1, 40),
    ("*.cu", 3, 30),
    ("*", 2, 25),
)
"""What an object that no earlier build recorded takes: GiB of its largest process, CPU seconds of
one arch. The first that is its source's name, or with a star a part of it. Measured with nvcc 13.0,
flash-attention 2.8.3 and vLLM 0.26.0."""
QUEUED: Final = 4
"""Objects a core that ninja hands to the launcher, which begins the longest of them first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildPlan:
    """All inputs of one build, with its key."""

    request: Request
    tree: PatchedTree
    torch: TorchIdentity
    toolchain: Toolchain
    environment: Path
    variables: Mapping[str, str]
    jobs: int
    """Objects compiled at once."""
    queued: int
    """Objects that ninja hands out; where they are more, the launcher holds them back."""
    key: Key
    pools: tuple[tuple[Path, str], ...] = ()
    """Files that share out memory among builds, with the cgroup that each stands for."""


def cpu_seconds(request: Request) -> int:
    """Return the CPU seconds of all objects, for the measured number of archs; 0 if unmeasured."""
    return request.pin.cpu_seconds * len(request.archs)


def job_count(cores: int, memory_bytes: int, largest_object: int) -> int:
    """Return how many compilers run at once: one per core, as far as memory reaches."""
    return max(1, min(cores, memory_bytes // largest_object))


@dataclass(frozen=True, kw_only=True, slots=True)
class Width:
    """Upper and lower bound of parallel compiles, before actual memory use is known."""

    most: int
    """As many as cores, or as `--jobs` says."""
    least: int
    """As many of the hungriest as the memory that is free now holds."""

    def __str__(self) -> str:
        return f"{self.most}" if self.least == self.most else f"{self.least} to {self.most}"

    def took(self, seconds: float) -> str:
        """Return the wall time of CPU seconds: `59 min 15 s`, or `59 min 15 s to 1 h 58 min`."""
        times = [duration(seconds / self.most), duration(seconds / self.least)]
        return " to ".join(dict.fromkeys(times))


def width(
    cores: int, memory_bytes: int, largest_object: int, *, jobs: int = 0, pooled: bool = True
) -> Width:
    """Return the bounds of parallel compiles; in a pool each object waits for its own memory."""
    fits = job_count(cores, memory_bytes, largest_object)
    if not pooled:
        return Width(most=jobs or fits, least=jobs or fits)
    most = jobs or cores
    return Width(most=most, least=max(1, min(most, memory_bytes // largest_object)))


def largest_object(pin: ProjectPin) -> int:
    """Return the bytes that the largest object of this selection needs."""
    passes = pin.variables.get("FLASH_ATTN_PASSES", "bwd")
    word = "*bwd" if "bwd" in passes.split(",") else "*fwd"
    return pin.object_bytes or next(gib << 30 for text, gib, _ in OBJECTS if text == word)
