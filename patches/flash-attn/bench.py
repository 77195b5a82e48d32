"""Measures attention of the wheel, of torch and of Triton; runs inside their environment.

`python attention.py [--rounds N] [--only wheel]` prints one JSON document: the device, how long the
first launch took, and milliseconds per call of every case, median and quartiles of device events.
Standard library, torch and flash_attn only; nothing of blackwheel, so that it can be carried.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Case = tuple[int, int, int, int, int, int, bool]

CASES: tuple[Case, ...] = (
    # batch, query heads, key heads, query length, key length, head dim, causal
    (1, 32, 32, 1, 4096, 128, False),
    (8, 32, 32, 512, 512, 64, True),
    (4, 32, 32, 2048, 2048, 128, True),
    (4, 32, 8, 2048, 2048, 128, True),
    (1, 32, 32, 8192, 8192, 128, True),
    (1, 32, 32, 8192, 8192, 64, False),
)
"""From one decoded token over a long cache to a long prompt; grouped heads as in current models."""

WARM_UP, CALLS = 3, 20


def operations(case: Case) -> float:
    """Return the floating-point operations: a multiply-add is two; a causal mask halves them."""
    batch, heads, _, queries, keys, dim, causal = case
    return 4 * batch * heads * queries * keys * dim * (0.5 if causal else 1.0)


def name_of(case: Case) -> str:
    """Return the name of a case: `b4 h32/8 q2048 k2048 d128 causal`."""
    batch, heads, key_heads, queries, keys, dim, causal = case
    grouped = f"h{heads}" + (f"/{key_heads}" if key_heads != heads else "")
    return f"b{batch} {grouped} q{queries} k{keys} d{dim}{' causal' if causal else ''}"


def timed(torch: Any, call: Callable[[], Any]) -> list[float]:
    """Return the milliseconds of every call, by events on the device, after a warm-up."""
    for _ in range(WARM_UP):
        call()
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(CALLS)]
    for began, ended in pairs:
        began.record()
        call()
        ended.record()
    torch.cuda.synchronize()
    return [began.elapsed_time(ended) for began, ended in pairs]


def spread(values: list[float]) -> dict[str, float]:
    """Return median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": round(middle, 5), "low": round(low, 5), "high": round(high, 5)}


def matrix_rate(torch: Any, size: int = 8192) -> float:
    """Measure the device's rate in a bf16 matrix product: the bound for shares."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / (statistics.median(timed(torch, lambda: a @ b)) / 1e3)


def copy_rate(torch: Any, count: int = 1 << 30) -> float:
    """Measure the bytes per second of a copy on the device: the bound of one-token calls."""
    source = torch.empty(count, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * count / (statistics.median(timed(torch, lambda: target.copy_(source))) / 1e3)


def inputs(torch: Any, case: Case) -> list[Any]:
    """Return query, key and value as (batch, length, heads, head dim)."""
    batch, heads, key_heads, queries, keys, dim, _ = case
    shapes = ((queries, heads), (keys, key_heads), (keys, key_heads))
    return [
        torch.randn(batch, length, count, dim, device="cuda", dtype=torch.bfloat16)
        for length, count in shapes
    ]


def providers(torch: Any, case: Case, wanted: list[str]) -> dict[str, Callable[[], Any]]:
    """Return the ways to compute one case, by name; each gives (batch, length, heads, head dim)."""
    q, k, v = inputs(torch, case)
    causal, grouped = case[6], case[1] != case[2]
    found: dict[str, Callable[[], Any]] = {}
    if "wheel" in wanted:
        from flash_attn import flash_attn_func

        found["wheel"] = lambda: flash_attn_func(q, k, v, causal=causal)
    swapped = [one.transpose(1, 2) for one in (q, k, v)]
    if "sdpa" in wanted:
        sdpa = torch.nn.functional.scaled_dot_product_attention
        found["sdpa"] = lambda: sdpa(*swapped, is_causal=causal, enable_gqa=grouped).transpose(1, 2)
    if "triton" in wanted:  # torch's flex_attention is a Triton kernel that inductor writes
        from torch.nn.attention.flex_attention import (
            create_block_mask,
            flex_attention,
        )

        compiled = torch.compile(flex_attention, dynamic=False)
        mask = None
        if causal:
            mask = create_block_mask(
                lambda _b, _h, i, j: i >= j, None, None, case[3], case[4], device="cuda"
            )
        found["triton"] = lambda: compiled(*swapped, block_mask=mask, enable_gqa=grouped).transpose(
            1, 2
        )
    return found


def first_launch(torch: Any) -> dict[str, float]:
    """Measure the seconds of the import and of the first result, JIT of PTX included."""
    began = time.monotonic()
    from flash_attn import flash_attn_func

    imported = time.monotonic()
    q, k, v = (torch.ones(1, 128, 1, 128, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    torch.cuda.synchronize()
    started = time.monotonic()
    flash_attn_func(q, k, v)
    torch.cuda.synchronize()
    return {
        "import": round(imported - began, 3),
        "first": round(time.monotonic() - started, 3),
        "jit_cache_bytes": cache_bytes(),
    }


def cache_bytes() -> int:
    """Return the size of the driver's cache of code compiled from PTX."""
    folder = Path(os.environ.get("CUDA_CACHE_PATH") or Path.home() / ".nv" / "ComputeCache")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def one_case(
    torch: Any, case: Case, wanted: list[str], flops: float, rate: float
) -> dict[str, Any]:
    """Time one case; a way that cannot compute it gives the reason."""
    row: dict[str, Any] = {"case": name_of(case), "times": {}, "failed": {}}
    for name, call in providers(torch, case, wanted).items():
        try:
            row["times"][name] = spread(timed(torch, call))
        except Exception as error:  # noqa: BLE001  the table goes on
            row["failed"][name] = str(error).splitlines()[0][:200]
    batch, heads, key_heads, queries, keys, dim, _ = case
    moved = 2 * batch * dim * (2 * heads * queries + 2 * key_heads * keys)
    bound = max(operations(case) / flops, moved / rate) * 1e3
    row["bound_ms"] = round(bound, 5)
    return row


def main() -> None:
    """Print everything as one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="wheel,sdpa,triton")
    parser.add_argument("--launch", action="store_true", help="the first launch alone")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        sys.exit("no GPU was found: nothing to measure")
    torch.manual_seed(0)
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "capability": "{}.{}".format(*torch.cuda.get_device_capability()),
        "torch": torch.__version__,
        "wheel": importlib.metadata.version("flash_attn"),
        "launch": first_launch(torch),
    }
    if not options.launch:
        flops, rate = matrix_rate(torch), copy_rate(torch)
        wanted = options.only.split(",")
        found["matrix_tflops"] = round(flops / 1e12, 1)
        found["copy_tbps"] = round(rate / 1e12, 3)
        found["cases"] = [one_case(torch, case, wanted, flops, rate) for case in CASES]
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
