"""Collects jobs, memory, variables and every other input of one build into a BuildPlan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from blackwheel.core.units import duration
from blackwheel.pytorch.identity import TorchIdentity
from blackwheel.sources.patch import PatchedTree
from blackwheel.stacks.key import Key
from blackwheel.stacks.projects import UNKNOWN_GIB, Cost, Project
from blackwheel.stacks.request import Request
from blackwheel.toolchain.toolkit import Toolchain

SOURCE_DATE_EPOCH: Final = 1577836800
"""2020-01-01: a zip cannot hold dates before 1980, and any fixed day serves."""
UNMEASURED: Final = (
    Cost(source="*.cu", gib=UNKNOWN_GIB, seconds=30),
    Cost(source="*", gib=2, seconds=25),
)
"""What an object is expected to take that neither an earlier build nor the project's file tells."""
QUEUED: Final = 8
"""Objects a core that ninja hands out at least: the launcher begins the longest of them first."""
WAITS: Final = 4 << 20
"""Bytes of a launcher that waits: 3.2 MiB were seen."""


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
    known: Project = field(default_factory=Project)
    """What the project's own file tells."""
    pools: tuple[tuple[Path, str], ...] = ()
    """Files that share out memory among builds, with the cgroup that each stands for."""

    @property
    def folder(self) -> PurePosixPath:
        """Folder that is built, below the source tree."""
        return PurePosixPath(self.request.pin.subfolder or "")

    @property
    def objects(self) -> str:
        """Folder of its objects: a glob below the source tree."""
        return self.known.build.objects or str(self.folder / "build/temp*")


def cpu_seconds(request: Request) -> int:
    """Return the CPU seconds of all objects, for the measured number of archs; 0 if unmeasured."""
    return request.pin.cpu_seconds * len(request.archs)


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


def queued(cores: int, memory_bytes: int) -> int:
    """Return how many objects ninja hands out: all that 1/64 of the free memory lets wait.

    One that ninja holds back may be the longest: of 132 on 16 cores the last ten held four of
    those, and the build took 20 minutes and not 14.
    """
    return max(QUEUED * cores, memory_bytes // 64 // WAITS)


def width(
    cores: int, memory_bytes: int, largest_object: int, *, jobs: int = 0, pooled: bool = True
) -> Width:
    """Return the bounds of parallel compiles; in a pool each object waits for its own memory."""
    fits = max(1, min(jobs or cores, memory_bytes // largest_object))
    most = jobs or (cores if pooled else fits)
    return Width(most=most, least=fits if pooled else most)
