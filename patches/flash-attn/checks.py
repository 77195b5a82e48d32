"""Checks the kernels of flash-attn 2.8.3 against float64 references on fresh random inputs.

Tolerances are those of flash-attention's own tests/test_flash_attn.py: an error of at most twice
that of plain PyTorch in the same type (three times for gradients and the KV cache), plus 1e-5.
"""

from __future__ import annotations

from typing import Any

from .flash_reference import cases, dtypes, held, reference, tiles

TILES = (32, 64, 96, 128, 192, 256)
HOLE = (
    "no kernel was launched: upstream has none for head dim > 192 with dropout in the shared memory"
    " of this device, and raises nothing; gradients are what memory held"
)


def forward(kit: Any) -> None:
    """Check all keys visible; lengths that fill no tile, one query, one key."""
    for case in cases(kit, [(2, 113, 203, 4, 4), (1, 128, 256, 2, 2), (2, 1, 77, 2, 2)]):
        held(kit, *case)


def causal(kit: Any) -> None:
    """Check that the mask ends at the last query and key, also for unequal lengths."""
    for case in cases(kit, [(2, 113, 203, 4, 4), (1, 257, 257, 2, 2), (1, 200, 65, 2, 2)]):
        held(kit, *case, causal=True)


def grouped_heads(kit: Any) -> None:
    """Check query heads that share a KV head: grouped, and one for all; one query is swapped."""
    shapes = [(2, 130, 190, 8, 2), (2, 65, 129, 6, 1), (2, 1, 300, 8, 2)]
    for name, q, k, v in cases(kit, shapes, every=False):
        held(kit, name, q, k, v)
        held(kit, f"{name} causal", q, k, v, causal=True)


def window_softcap_alibi(kit: Any) -> None:
    """Check a local window, a capped score and linear biases."""
    for name, q, k, v in cases(kit, [(2, 150, 250, 4, 2)], every=False):
        held(kit, f"{name} window", q, k, v, window=(33, 17))
        held(kit, f"{name} causal window", q, k, v, causal=True, window=(64, 0))
        held(kit, f"{name} softcap", q * 3, k, v, softcap=15.0)
        slopes = kit.torch.rand(4, device=kit.device, generator=kit.generator) * 0.3
        held(kit, f"{name} alibi", q, k, v, causal=True, slopes=slopes)


def small_batch(kit: Any) -> None:
    """Check few queries and many keys, for which upstream's heuristic takes split kernels."""
    for case in cases(kit, [(1, 3, 4099, 2, 1), (1, 1, 2048, 4, 4)], every=False):
        held(kit, *case)


def given_output(kit: Any) -> None:
    """Check that a given output tensor is written to its end and not beyond."""
    import flash_attn_2_cuda as library

    for name, q, k, v in cases(kit, [(2, 113, 203, 4, 2)], every=False):
        exact, _ = reference(q, k, v, exact=True)
        plain, _ = reference(q, k, v, exact=False)
        room = kit.random(2, 113 + 15, 4, q.shape[-1], dtype=q.dtype)
        room.fill_(float("nan"))
        room[:, 113:] = 7.0
        scale = q.shape[-1] ** -0.5
        rest = (None, 0.0, scale, False, -1, -1, 0.0, False, None)
        library.fwd(q, k, v, room[:, :113], *rest)
        kit.compare(f"{name} out=", room[:, :113], exact, plain)
        beyond = room[:, 113:]
        sevens = kit.torch.full_like(beyond, 7.0).double()
        kit.compare(f"{name} beyond the end", beyond, sevens, sevens)


def varlen(kit: Any) -> None:
    """Check sequences of different lengths in one call, one of them empty."""
    import flash_attn

    torch = kit.torch
    lengths, key_lengths = [113, 0, 1, 200], [203, 17, 64, 200]
    starts, key_starts = (
        torch.tensor([0, *each], device=kit.device).cumsum(0).to(torch.int32)
        for each in (lengths, key_lengths)
    )
    for name, q, k, v in cases(kit, [(1, sum(lengths), sum(key_lengths), 4, 2)], every=False):
        q, k, v = q[0], k[0], v[0]  # noqa: PLW2901
        for mask in (False, True):
            kit.poison()
            out = flash_attn.flash_attn_varlen_func(
                q, k, v, starts, key_starts, max(lengths), max(key_lengths), causal=mask
            )
            for number, (length, keys) in enumerate(zip(lengths, key_lengths, strict=True)):
                if not length:
                    continue
                low, key_low = int(starts[number]), int(key_starts[number])
                part = [
                    q[None, low : low + length],
                    k[None, key_low : key_low + keys],
                    v[None, key_low : key_low + keys],
                ]
                exact, _ = reference(*part, exact=True, causal=mask)
                plain, _ = reference(*part, exact=False, causal=mask)
                words = f"{name} {length} of {keys}{' causal' * mask}"
                kit.compare(words, out[None, low : low + length], exact, plain)


def dropout(kit: Any) -> None:
    """Check dropout: with the unit matrix as values, each output weight is dropped or scaled."""
    import flash_attn

    torch, rate = kit.torch, 0.17
    for name, q, k, _ in cases(kit, [(4, 256, 32, 4, 4)], every=False):
        unit = torch.zeros_like(k)
        places = torch.arange(k.shape[1], device=kit.device)
        unit[:, places, :, places] = 1.0
        exact, _ = reference(q, k, unit, exact=True)
        plain, _ = reference(q, k, unit, exact=False)
        kit.poison()
        out = flash_attn.flash_attn_func(q, k, unit, dropout_p=rate)
        kept = out[..., : k.shape[1]] != 0
        share = 1 - float(kept.double().mean())
        if abs(share - rate) > 0.01:  # upstream's bound
            words = f"{name}: {share:.3f} of the weights were dropped instead of {rate}"
            raise kit.failed("wrong-result", words)
        whole = torch.zeros_like(out, dtype=torch.bool)
        whole[..., : k.shape[1]] = kept
        scaled, other = (
            each.where(whole, each.new_zeros(())) / (1 - rate) for each in (exact, plain)
        )
        kit.compare(f"{name} dropout", out, scaled, other)


def _gradients(q: Any, k: Any, v: Any, grad: Any, mask: bool) -> tuple[Any, ...]:
    """Gradients of the formula, in the inputs' own type."""
    leaves = [each.detach().clone().requires_grad_() for each in (q, k, v)]
    reference(*leaves, exact=False, causal=mask)[0].backward(grad)
    return tuple(leaf.grad for leaf in leaves)


def backward(kit: Any) -> None:
    """Check gradients of q, k and v: all keys, causal, grouped heads."""
    import flash_attn

    for name, q, k, v in cases(kit, [(2, 113, 203, 4, 4), (1, 130, 130, 6, 2)]):
        grad = kit.random(*q.shape, dtype=q.dtype).contiguous()
        for mask in (False, True):
            exact = _gradients(q.double(), k.double(), v.double(), grad.double(), mask)
            plain = _gradients(q, k, v, grad, mask)
            leaves = [each.detach().clone().requires_grad_() for each in (q, k, v)]
            out = flash_attn.flash_attn_func(*leaves, causal=mask)
            kit.poison()
            out.backward(grad)
            for letter, leaf, one, other in zip("qkv", leaves, exact, plain, strict=True):
                words = f"{name} d{letter}{' causal' * mask}"
                kit.compare(words, leaf.grad, one, other, factor=3)


def backward_dropout(kit: Any) -> None:
    """Check that gradients with dropout are written, or name upstream's hole."""
    import flash_attn

    for name, q, k, v in cases(kit, [(2, 128, 128, 4, 4)], every=False):
        grad = kit.random(*q.shape, dtype=q.dtype).contiguous()
        leaves = [each.detach().clone().requires_grad_() for each in (q, k, v)]
        out = flash_attn.flash_attn_func(*leaves, dropout_p=0.17)
        kit.poison()
        out.backward(grad)
        missing = sum(int(leaf.grad.isnan().sum()) for leaf in leaves)
        if missing and q.shape[-1] > 192:
            kit.note(f"{name} gradients with dropout", HOLE)
        elif missing:
            raise kit.failed("unwritten-output", f"{name}: {missing} gradients are NaN")


def _decode(kit: Any, name: str, q: Any, k: Any, v: Any, lengths: list[int], **more: Any) -> None:
    """Decode against caches that hold `lengths` keys each, beyond which there is NaN."""
    import flash_attn

    torch = kit.torch
    sizes = torch.tensor(lengths, device=kit.device, dtype=torch.int32)
    exact, plain = (
        torch.cat(
            [
                reference(q[i : i + 1], k[i : i + 1], v[i : i + 1], exact=e, causal=True, keys=n)[0]
                for i, n in enumerate(lengths)
            ]
        )
        for e in (True, False)
    )
    cache_k, cache_v = more.pop("caches", (k, v))
    if cache_k is k:
        cache_k, cache_v = k.clone(), v.clone()
        for number, length in enumerate(lengths):
            cache_k[number, length:] = cache_v[number, length:] = float("nan")
    kit.poison()
    out = flash_attn.flash_attn_with_kvcache(
        q, cache_k, cache_v, cache_seqlens=sizes, causal=True, **more
    )
    kit.compare(name, out, exact, plain, factor=3)


def kv_cache(kit: Any) -> None:
    """Check decoding from a cache with sequences of different lengths, without split kernels."""
    for name, q, k, v in cases(kit, [(3, 1, 300, 4, 2), (2, 5, 513, 4, 4)], every=False):
        lengths = [k.shape[1], 129, 7][: k.shape[0]]
        _decode(kit, f"{name} cache", q, k.contiguous(), v.contiguous(), lengths, num_splits=1)


def kv_cache_split(kit: Any) -> None:
    """Check decoding split over the keys, from pages, and with keys appended."""
    torch = kit.torch
    for name, q, k, v in cases(kit, [(3, 1, 1024, 4, 2)], every=False):
        k, v = k.contiguous(), v.contiguous()  # noqa: PLW2901
        lengths = [1024, 513, 7]
        for splits in (0, 3):
            _decode(kit, f"{name} num_splits={splits}", q, k, v, lengths, num_splits=splits)
        pages = torch.randperm(12, device=kit.device, generator=kit.generator)
        stores = []
        for cache in (k, v):
            store = torch.full(
                (12, 256, *k.shape[2:]), float("nan"), device=kit.device, dtype=k.dtype
            )
            store[pages] = cache.reshape(12, 256, *k.shape[2:])
            stores.append(store)
        table = pages.reshape(3, 4).to(torch.int32)
        _decode(kit, f"{name} pages", q, k, v, lengths, caches=stores, block_table=table)
        append(kit, name, q, k, v)


def append(kit: Any, name: str, q: Any, k: Any, v: Any) -> None:
    """Append one key and value to each cache and decode with it."""
    import flash_attn

    torch, held_keys = kit.torch, [1000, 511, 6]
    new_k = kit.random(3, 1, *k.shape[2:], dtype=k.dtype).contiguous()
    new_v = kit.random(3, 1, *k.shape[2:], dtype=k.dtype).contiguous()
    cache_k, cache_v = k.clone(), v.clone()
    want_k, want_v = k.clone(), v.clone()
    for number, length in enumerate(held_keys):
        want_k[number, length], want_v[number, length] = new_k[number, 0], new_v[number, 0]
    outs = [
        torch.cat(
            [
                reference(q[i : i + 1], want_k[i : i + 1], want_v[i : i + 1], exact=e, keys=n + 1)[
                    0
                ]
                for i, n in enumerate(held_keys)
            ]
        )
        for e in (True, False)
    ]
    sizes = torch.tensor(held_keys, device=kit.device, dtype=torch.int32)
    out = flash_attn.flash_attn_with_kvcache(
        q, cache_k, cache_v, k=new_k, v=new_v, cache_seqlens=sizes
    )
    kit.compare(f"{name} appended", out, *outs, factor=3)
    kit.compare(f"{name} cache after appending", cache_k, want_k.double(), want_k)


def refusals(kit: Any) -> None:
    """Check that features left out of the wheel are refused in words, not answered."""
    import flash_attn

    torch, built = kit.torch, kit.claims
    dtype, tile = dtypes(kit)[0], tiles(kit)[0]

    def call(dim: int, of: Any, **options: Any) -> Any:
        q, k, v = (kit.random(2, 64, 2, dim, dtype=of) for _ in "qkv")
        return flash_attn.flash_attn_func(q, k, v, **options)

    for name, other in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        if name not in built["dtypes"]:
            kit.refused(name, lambda o=other: call(tile, o))
    for dim in TILES:
        if str(dim) not in built["head_dims"]:
            kit.refused(f"head dim {dim}", lambda d=dim: call(d, dtype))
    if "split" not in built["passes"]:
        q, k, v = (kit.random(1, n, 2, tile, dtype=dtype).contiguous() for n in (1, 256, 256))
        sizes = torch.tensor([100], device=kit.device, dtype=torch.int32)
        table = torch.zeros(1, 1, device=kit.device, dtype=torch.int32)
        decode = flash_attn.flash_attn_with_kvcache
        new = {"k": q.clone(), "v": q.clone()}
        kit.refused("appending", lambda: decode(q, k, v, cache_seqlens=sizes, **new))
        kit.refused("pages", lambda: decode(q, k, v, cache_seqlens=sizes, block_table=table))
        kit.refused("num_splits=2", lambda: decode(q, k, v, cache_seqlens=sizes, num_splits=2))
    if "bwd" not in built["passes"]:
        q, k, v = (kit.random(2, 64, 2, tile, dtype=dtype).contiguous() for _ in "qkv")
        q.requires_grad_()
        out = flash_attn.flash_attn_func(q, k, v)
        kit.refused("backward", lambda: out.sum().backward())
    if not kit.cases:
        kit.note("refusals", "everything was built")


CHECKS = {
    "forward": forward,
    "causal": causal,
    "grouped-heads": grouped_heads,
    "window-softcap-alibi": window_softcap_alibi,
    "small-batch": small_batch,
    "given-output": given_output,
    "varlen": varlen,
    "dropout": dropout,
    "kv-cache": kv_cache,
    "kv-cache-split": kv_cache_split,
    "backward": backward,
    "backward-dropout": backward_dropout,
    "refusals": refusals,
}
CLAIMS = {
    "passes": ("FLASH_ATTN_PASSES", "fwd,split,bwd"),
    "head_dims": ("FLASH_ATTN_HEAD_DIMS", "32,64,96,128,192,256"),
    "dtypes": ("FLASH_ATTN_DTYPES", "bf16,fp16"),
}
"""What a wheel claims to hold: a build variable, and all words that it stands for where unset."""
NEEDS = {
    "*": ("passes", "fwd"),
    "kv-cache-split": ("passes", "split"),
    "backward": ("passes", "bwd"),
    "backward-dropout": ("passes", "bwd"),
}
"""The claim that a check needs, and the word in it; `*` is any other check."""
