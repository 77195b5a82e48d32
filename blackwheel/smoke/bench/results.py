"""Compares two series of measurements, and judges them by their noise. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from blackwheel.core import records
from blackwheel.core.errors import BlackwheelError, Exit

CONFIDENCE_Z: Final = 1.96
"""Of a two-sided test at 5 %."""

REPORTED: Final[Mapping[str, tuple[float, ...]]] = {
    "official": (136.0, 143.0),
    "nightly": (260.8, 264.2),
}
"""Tokens per second on the RTX 5090 of the report behind this project (docs/from-the-reports.md):
the lowest and highest that it gives, of the official image 0.11.0 and of the nightly image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One answer of a served model."""

    tokens: Annotated[int, Field(ge=1, le=1 << 40)]
    seconds: Annotated[float, Field(gt=1e-9, le=1e9)]
    """From the request to its last token."""
    first: records.Seconds
    """Seconds to the first token."""

    @property
    def rate(self) -> float:
        """Tokens per second, the wait for the first one included, as the report counted."""
        return self.tokens / self.seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Results of one serving benchmark; `--against` reads its JSON."""

    model: str
    server: Mapping[str, Any]
    """What the server says of itself, and what its log tells: backends, CUDA graphs, KV cache."""
    first_request_seconds: records.Seconds
    """Of the warm-up: it may compile."""
    runs: Annotated[tuple[Run, ...], Field(min_length=1, max_length=100_000)]

    @property
    def rates(self) -> tuple[float, ...]:
        """Tokens per second of each run."""
        return tuple(run.rate for run in self.runs)

    def document(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {"kind": "blackwheel-serving-1", **asdict(self)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Document(Result):
    """Its JSON."""

    kind: Literal["blackwheel-serving-1"]


def summary(result: Result) -> tuple[str, ...]:
    """Return the lines for a person: each run as the report wrote it, then mean and spread."""
    lines = [
        f"Run {number}: {run.tokens} tokens in {run.seconds * 1e3:.0f} ms = {run.rate:.2f} t/s"
        for number, run in enumerate(result.runs, 1)
    ]
    first = sorted(run.first for run in result.runs)
    spread = statistics.stdev(result.rates) if len(result.rates) > 1 else 0.0
    lines.append(
        f"mean {statistics.mean(result.rates):.1f} t/s, from {min(result.rates):.1f}"
        f" to {max(result.rates):.1f}, standard deviation {spread:.2f}"
    )
    lines.append(
        f"first token after {statistics.median(first) * 1e3:.0f} ms (median);"
        f" the first request took {result.first_request_seconds:.1f} s"
    )
    lines += [f"{name}: {value}" for name, value in result.server.items()]
    return tuple(lines)


def read(text: str, *, where: str) -> Result:
    """Read the JSON of `document`; raise `bad-result` for anything else."""
    try:
        found = records.parsed(text, Document)
        return Result(
            model=found.model,
            server=found.server,
            first_request_seconds=found.first_request_seconds,
            runs=found.runs,
        )
    except ValueError as error:
        raise BlackwheelError(
            "bad-result",
            f"this is no result of a serving benchmark: {error}",
            where=where,
            fix="nox -s bench -- serving --output FILE writes one;"
            f" or name one of the report's: {', '.join(REPORTED)}",
            code=Exit.USAGE,
        ) from None


def other(name: str) -> tuple[str, tuple[float, ...]]:
    """Resolve `--against`: `official`, `nightly`, or a file; its title and its rates."""
    if name in REPORTED:
        return f"{name} (the report's RTX 5090, its range)", REPORTED[name]
    path = Path(name)
    if not path.is_file():
        raise BlackwheelError(
            "no-such-result",
            f"'{name}' is neither a file nor one of {', '.join(REPORTED)}",
            where="--against",
            fix="nox -s bench -- serving --output FILE writes one",
            code=Exit.USAGE,
        )
    return path.name, read(path.read_text(encoding="utf-8"), where=name).rates


def verdict(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Compare two series, higher is better: the ratio of medians, and whether it is noise.

    Mann-Whitney's test on ranks, normal approximation: no distribution is assumed. With fewer than
    four values on a side, as of a reported range, only ranges that do not overlap decide.
    """
    ratio = statistics.median(ours) / statistics.median(theirs)
    told = f"{(ratio - 1) * 100:+.1f} %"
    apart = min(ours) > max(theirs) or max(ours) < min(theirs)
    if min(len(ours), len(theirs)) < 4:
        why = "the ranges do not overlap" if apart else "the ranges overlap"
        return _worded(ratio, told, why, certain=apart)
    z = _rank_score(ours, theirs)
    certain = abs(z) > CONFIDENCE_Z
    return _worded(ratio, told, f"rank test, z = {z:.1f}", certain=certain)


def _worded(ratio: float, told: str, why: str, *, certain: bool) -> str:
    if not certain:
        return f"no difference that rises above the noise: {told} ({why})"
    return f"{'faster' if ratio > 1 else 'slower'}: {told} ({why})"


def _rank_score(ours: Sequence[float], theirs: Sequence[float]) -> float:
    pairs = len(ours) * len(theirs)
    wins = sum((a > b) + 0.5 * (a == b) for a, b in product(ours, theirs))
    deviation = math.sqrt(pairs * (len(ours) + len(theirs) + 1) / 12)
    return (wins - pairs / 2) / deviation
