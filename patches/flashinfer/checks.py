"""Checks FlashInfer's modules of a wheel against float64: distributions of samples, top-k, sinks.

The compiler is switched off, so that what runs is the wheel's. Bounds: of samples six standard
deviations of a count, of attention two times the error of plain PyTorch in the same type.
"""

from __future__ import annotations

import math
import os
from typing import Any

os.environ["FLASHINFER_DISABLE_JIT"] = "1"

DRAWS, WORDS = 200_000, 1032
"""Samples of one check, and the words of its vocabulary: no power of two."""


def distribution(kit: Any, seed_row: Any) -> Any:
    """Return the probabilities of words, as a row of float32."""
    return kit.torch.softmax(seed_row * 3, dim=-1, dtype=kit.torch.float32)


def kept(probs: Any, *, k: int | None = None, p: float | None = None) -> tuple[Any, Any]:
    """Return the float64 distribution that is left, and every word that may be drawn.

    The words of top-p are the fewest most probable that reach `p`; the one on the border may fall
    out or in by float32.
    """
    exact = probs.double()
    order = exact.sort(descending=True).indices
    allowed = exact > -1
    if k is not None:
        allowed[order[k:]] = False
        exact = (exact * allowed) / (exact * allowed).sum()
    border = allowed.clone()
    if p is not None:
        below = exact[order].cumsum(0) - exact[order]
        border[order[below >= p + 1e-4]] = False
        allowed[order[below >= p]] = False
        exact = (exact * allowed) / (exact * allowed).sum()
    return exact, border


def hold(kit: Any, case: str, drawn: Any, exact: Any, border: Any) -> None:
    """Compare how often words were drawn with the distribution."""
    drawn = drawn.long()
    if drawn.numel() != DRAWS or int(drawn.min()) < 0 or int(drawn.max()) >= WORDS:
        raise kit.failed("wrong-result", f"{case}: {drawn.numel()} draws, not all are words")
    counts = kit.torch.bincount(drawn, minlength=WORDS)
    outside = int(counts[~border].sum())
    if outside:
        raise kit.failed("wrong-result", f"{case}: {outside} of {DRAWS} draws are cut off")
    often = counts.double() / DRAWS
    spread = float((exact * (1 - exact) / DRAWS).max().sqrt())
    kit.compare(case, often, exact, exact, floor=6 * spread + 1e-4)


def sampling(kit: Any) -> None:
    """Draw as vLLM's sampler does: top-p, top-k, and both of logits."""
    from flashinfer import sampling as kernels

    logits = kit.random(1, WORDS, dtype=kit.torch.float32)[0].contiguous()
    probs = distribution(kit, logits)
    rows = probs.expand(DRAWS, WORDS).contiguous()
    k, p = 40, 0.8
    hold(kit, "top-p", kernels.top_p_sampling_from_probs(rows, p, deterministic=True),
         *kept(probs, p=p))  # fmt: skip
    hold(kit, "top-k", kernels.top_k_sampling_from_probs(rows, k, deterministic=True),
         *kept(probs, k=k))  # fmt: skip
    rows = (logits * 3).expand(DRAWS, WORDS).contiguous()
    drawn = kernels.top_k_top_p_sampling_from_logits(rows, k, p, deterministic=True)
    hold(kit, "top-k, then top-p, of logits", drawn, *kept(probs, k=k, p=p))


def top_k(kit: Any) -> None:
    """Take the largest of rows as long as a vocabulary, in each type."""
    import flashinfer

    torch = kit.torch
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = kit.random(7, 128_257, dtype=dtype).contiguous()
        kit.poison()
        values, places = flashinfer.top_k(x, 64, sorted=True)
        exact = x.double().topk(64, dim=-1, sorted=True).values
        kit.compare(f"values {dtype}", values, exact, exact, floor=0)
        taken = x.gather(1, places.long()).double()
        kit.compare(f"places {dtype}", taken, exact, exact, floor=0)
        same = sum(len(set(row.tolist())) < 64 for row in places)
        if same:
            raise kit.failed("wrong-result", f"{same} rows name a place twice")


def with_sink(q: Any, k: Any, v: Any, sink: Any, *, exact: bool, window: int) -> Any:
    """Return causal attention of one request with a sink for each head, by the formula.

    Shapes: (queries, heads, size), (keys, KV heads, size); `window` keys to the left, or -1.
    """
    import torch

    if exact:
        q, k, v, sink = q.double(), k.double(), v.double(), sink.double()
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
    rows = torch.arange(q.shape[0], device=q.device)[:, None] + k.shape[0] - q.shape[0]
    columns = torch.arange(k.shape[0], device=q.device)[None, :]
    hidden = columns > rows
    if window >= 0:
        hidden |= columns < rows - window
    scores = scores.masked_fill(hidden, float("-inf"))
    held = sink.to(scores.dtype)[:, None, None].expand(-1, q.shape[0], 1)
    weights = torch.softmax(torch.cat([scores, held], -1), dim=-1)[..., :-1]
    return torch.einsum("hqk,khd->qhd", weights.to(v.dtype), v)


HEADS, KV_HEADS, SIZE, PAGE = 64, 8, 64, 16
"""gpt-oss-20b's."""


def pages(kit: Any, count: int) -> tuple[Any, Any, Any]:
    """Return a paged cache of keys and values with its pages shuffled, and the order of pages."""
    torch = kit.torch
    held = [
        kit.random(count * PAGE, KV_HEADS * SIZE, dtype=torch.bfloat16)
        .contiguous()
        .view(count, PAGE, KV_HEADS, SIZE)
        for _ in range(2)
    ]
    order = torch.randperm(count, device=kit.device).to(torch.int32)
    return held[0], held[1], order


def gathered(cache: Any, order: Any, keys: int) -> Any:
    """Return the first keys of a paged cache in their order."""
    return cache[order.long()].reshape(-1, KV_HEADS, SIZE)[:keys]


def sink_prefill(kit: Any) -> None:
    """Check the prefill with sinks, with and without a window, as vLLM's backend calls it."""
    from flashinfer import BatchAttentionWithAttentionSinkWrapper as Wrapper

    torch = kit.torch
    for window in (-1, 127):
        queries, keys = 130, 301
        k, v, order = pages(kit, -(-keys // PAGE))
        q = kit.random(queries, HEADS * SIZE, dtype=torch.bfloat16).contiguous()
        q = q.view(queries, HEADS, SIZE)
        sink = kit.random(1, HEADS, dtype=torch.float32)[0].contiguous()
        room = torch.zeros(128 << 20, dtype=torch.uint8, device=kit.device)
        wrapper = Wrapper(room, "NHD", backend="fa2", q_data_type=torch.bfloat16,
                          kv_data_type=torch.bfloat16, head_dim_qk=SIZE, head_dim_vo=SIZE,
                          window_left=window)  # fmt: skip
        whole = {"dtype": torch.int32, "device": kit.device}
        wrapper.plan(
            torch.tensor([0, queries], **whole), torch.tensor([0, len(order)], **whole), order,
            torch.tensor([(keys - 1) % PAGE + 1], **whole), HEADS, KV_HEADS, SIZE, PAGE,
            causal=True, window_left=window, q_data_type=torch.bfloat16,
            kv_data_type=torch.bfloat16,
        )  # fmt: skip
        kit.poison()
        out = wrapper.run(q, (k, v), sink, 1 / math.sqrt(SIZE))
        given = (q, gathered(k, order, keys), gathered(v, order, keys), sink)
        exact = with_sink(*given, exact=True, window=window)
        plain = with_sink(*given, exact=False, window=window)
        kit.compare(f"prefill, window {window}", out, exact, plain, floor=1e-3)


def sink_decode(kit: Any) -> None:
    """Check XQA's decode with sinks of requests of other lengths, with and without a window."""
    from flashinfer.decode import xqa_batch_decode_with_kv_cache

    torch = kit.torch
    lengths = (301, 17, 1)
    most = -(-max(lengths) // PAGE)
    for window in (-1, 127):
        k, v, order = pages(kit, most * len(lengths))
        table = order.view(len(lengths), most).contiguous()
        q = kit.random(len(lengths), HEADS * SIZE, dtype=torch.bfloat16).contiguous()
        q = q.view(len(lengths), HEADS, SIZE)
        sink = kit.random(1, HEADS, dtype=torch.float32)[0].contiguous()
        room = torch.zeros(128 << 20, dtype=torch.uint8, device=kit.device)
        held = torch.tensor(lengths, dtype=torch.int32, device=kit.device)
        out = xqa_batch_decode_with_kv_cache(
            q, (k, v), room, table, held, max(lengths), bmm1_scale=1 / math.sqrt(SIZE),
            window_left=window, sinks=sink, kv_layout="NHD",
        )  # fmt: skip
        for number, keys in enumerate(lengths):
            row = table[number]
            given = (q[number : number + 1], gathered(k, row, keys), gathered(v, row, keys), sink)
            exact = with_sink(*given, exact=True, window=window)
            plain = with_sink(*given, exact=False, window=window)
            case = f"decode of {keys} keys, window {window}"
            kit.compare(case, out[number : number + 1], exact, plain, floor=1e-3)


CHECKS = {
    "sampling": sampling,
    "top-k": top_k,
    "sink-prefill": sink_prefill,
    "sink-decode": sink_decode,
}
CLAIMS = {"sets": ("FLASHINFER_SETS", "sampling,gpt-oss,nvfp4")}
NEEDS = {
    "sampling": ("sets", "sampling"),
    "top-k": ("sets", "sampling"),
    "sink-prefill": ("sets", "gpt-oss"),
    "sink-decode": ("sets", "gpt-oss"),
}
UNSEEN = {
    "sampling": "no GPU has run it yet",
    "top-k": "no GPU has run it yet",
    "sink-prefill": "no GPU has run it yet",
    "sink-decode": "no GPU has run it yet",
}
