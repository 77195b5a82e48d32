"""Computes the reference of flash-attn's attention, and compares one call of the kernel with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any


def reference(
    q: Any,
    k: Any,
    v: Any,
    *,
    exact: bool,
    causal: bool = False,
    window: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    slopes: Any = None,
    keys: int | None = None,
) -> tuple[Any, Any]:
    """Compute attention and logsumexp by the formula, in float64 or in the inputs' own type.

    Masks are aligned to the last query and key, as flash-attention's are; `keys` counts valid ones.
    """
    import torch

    if exact:
        q, k, v = q.double(), k.double(), v.double()
    if keys is not None:
        k, v = k[:, :keys], v[:, :keys]
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    rows = torch.arange(q.shape[1], device=q.device)[:, None] + k.shape[1] - q.shape[1]
    columns = torch.arange(k.shape[1], device=q.device)[None, :]
    if slopes is not None:
        distance = (rows - columns).abs()
        scores = scores - slopes.to(scores.dtype)[None, :, None, None] * distance
    left, right = window[0], 0 if causal else window[1]
    hidden = torch.zeros_like(rows + columns, dtype=torch.bool)
    if right >= 0:
        hidden |= columns > rows + right
    if left >= 0:
        hidden |= columns < rows - left
    scores = scores.masked_fill(hidden, float("-inf"))
    lse = torch.logsumexp(scores, dim=-1)
    weights = torch.softmax(scores, dim=-1).masked_fill(hidden.all(dim=-1)[:, None], 0.0)
    return torch.einsum("bhqk,bkhd->bqhd", weights, v), lse


def dtypes(kit: Any) -> list[Any]:
    """Return the torch types that the wheel was built for."""
    known = {"bf16": kit.torch.bfloat16, "fp16": kit.torch.float16}
    return [known[name] for name in kit.claims["dtypes"]]


def tiles(kit: Any) -> list[int]:
    """Return the head dims that the wheel was built for."""
    return [int(dim) for dim in kit.claims["head_dims"]]


def dims(kit: Any) -> Iterator[int]:
    """Yield each built head dim, and one below it that the same tile serves."""
    for tile in tiles(kit):
        yield from (tile, tile - 8)


def cases(kit: Any, shapes: Any, every: bool = True) -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield named q, k and v for type, head dim and (batch, queries, keys, heads, KV heads)."""
    for dtype in dtypes(kit):
        for dim in dims(kit) if every else tiles(kit):
            for batch, queries, keys, heads, kv in shapes:
                q = kit.random(batch, queries, heads, dim, dtype=dtype)
                k = kit.random(batch, keys, kv, dim, dtype=dtype)
                v = kit.random(batch, keys, kv, dim, dtype=dtype)
                name = str(dtype).removeprefix("torch.")
                shape = f"{batch}x{queries}x{keys} heads {heads}/{kv}"
                yield f"{name} head dim {dim} {shape}", q, k, v


def held(kit: Any, name: str, q: Any, k: Any, v: Any, **options: Any) -> None:
    """Call the kernel with poisoned memory; compare output and logsumexp with the reference."""
    import flash_attn

    call = {
        "causal": options.get("causal", False),
        "window_size": options.get("window", (-1, -1)),
        "softcap": options.get("softcap", 0.0),
        "alibi_slopes": options.get("slopes"),
    }
    exact, exact_lse = reference(q, k, v, exact=True, **options)
    plain, plain_lse = reference(q, k, v, exact=False, **options)
    kit.poison()
    out, lse, _ = flash_attn.flash_attn_func(q, k, v, return_attn_probs=True, **call)
    if not kit.covered(out):
        kit.note(name, "its output was not in poisoned memory")
    kit.compare(name, out, exact, plain)
    if call["causal"] and options.get("slopes") is not None:
        return  # there the kernel's logsumexp leaves out a bias that is the same for a whole row
    seen = exact_lse.isfinite()  # a row that sees no key has none
    if lse.isnan().any():
        kit.compare(f"{name} logsumexp", lse, exact_lse, plain_lse)
    zero = exact_lse.new_zeros(())
    kit.compare(
        f"{name} logsumexp",
        lse.where(seen, zero.to(lse.dtype)),
        exact_lse.where(seen, zero),
        plain_lse.where(seen, zero.to(plain_lse.dtype)),
    )
