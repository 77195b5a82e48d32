"""flash-attn's calls on a CPU, by the formula in float32; PLANTED names the fault it then has."""

import math
import os

import torch

PLANTED = os.environ.get("PLANTED", "")


def attention(q, k, v, causal, window, softcap, slopes, keep=None):
    group = q.shape[2] // k.shape[2]
    k, v = (each.float().repeat_interleave(group, dim=2) for each in (k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q.float(), k) / math.sqrt(q.shape[-1])
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    shift = 0 if PLANTED == "mask-at-the-top" else k.shape[1] - q.shape[1]
    distance = torch.arange(k.shape[1])[None] - torch.arange(q.shape[1])[:, None] - shift
    if slopes is not None:
        scores = scores - slopes[None, :, None, None] * distance.abs()
    hidden = torch.zeros_like(distance, dtype=torch.bool)
    if causal or window[1] >= 0:
        hidden |= distance > (0 if causal else window[1])
    if window[0] >= 0 and PLANTED != "no-window":
        hidden |= distance < -window[0]
    scores = scores.masked_fill(hidden, float("-inf"))
    weights = torch.softmax(scores, -1).masked_fill(hidden.all(-1)[:, None], 0)
    weights = weights if keep is None else weights * keep(weights)
    out = torch.einsum("bhqk,bkhd->bqhd", weights, v).to(q.dtype)
    lse = torch.logsumexp(scores, -1)
    if PLANTED == "last-row-unwritten":
        out[:, -1] = float("nan")
    return out, lse


def built(q):
    if q.shape[-1] > 128 or 64 < q.shape[-1] <= 96 or q.shape[-1] <= 32:
        refuse("the kernels of that head dim (FLASH_ATTN_HEAD_DIMS=64,128)")
    if q.dtype != torch.bfloat16:
        refuse("fp16 kernels (FLASH_ATTN_DTYPES=bf16)")


def refuse(what):
    if PLANTED not in ("answers-everything", "all-built"):
        raise RuntimeError(f"flash_attn: this wheel was built without {what}")


class Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, *rest):
        return attention(q.detach(), *rest)[0]

    @staticmethod
    def backward(ctx, grad):
        refuse("backward kernels (FLASH_ATTN_PASSES=fwd)")
        return (grad, *[None] * 7)


def flash_attn_func(
    q,
    k,
    v,
    dropout_p=0.0,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    alibi_slopes=None,
    return_attn_probs=False,
):
    built(q)
    keep = None
    if dropout_p:
        keep = lambda w: (torch.rand_like(w) >= dropout_p) / (1 - dropout_p)  # noqa: E731
    words = (k, v, causal, window_size, softcap, alibi_slopes, keep)
    if return_attn_probs:
        return (*attention(q, *words), None)
    return attention(q, *words)[0] if PLANTED == "all-built" else Forward.apply(q, *words)


def flash_attn_varlen_func(q, k, v, starts, key_starts, longest, longest_key, causal=False):
    out = torch.full_like(q, float("nan"))
    for number in range(len(starts) - 1):
        rows = slice(int(starts[number]), int(starts[number + 1]))
        keys = slice(int(key_starts[number]), int(key_starts[number + 1]))
        if rows.stop > rows.start:
            out[rows] = attention(
                q[None, rows], k[None, keys], v[None, keys], causal, (-1, -1), 0.0, None
            )[0][0]
    return out


def flash_attn_with_kvcache(
    q,
    k_cache,
    v_cache,
    k=None,
    v=None,
    cache_seqlens=None,
    causal=False,
    block_table=None,
    num_splits=0,
):
    if k is not None or block_table is not None or num_splits > 1:
        refuse("split-KV kernels (FLASH_ATTN_PASSES=fwd)")
    parts = []
    if block_table is not None:
        k_cache, v_cache = (each[block_table.long()].flatten(1, 2) for each in (k_cache, v_cache))
    if k is not None:
        for number, length in enumerate(cache_seqlens.tolist()):
            k_cache[number, length], v_cache[number, length] = k[number, 0], v[number, 0]
        cache_seqlens = cache_seqlens + 1
    for number, length in enumerate(cache_seqlens.tolist()):
        one = slice(number, number + 1)
        keys = k_cache[one, :length], v_cache[one, :length]
        parts.append(attention(q[one], *keys, causal, (-1, -1), 0.0, None)[0])
    return torch.cat(parts)
