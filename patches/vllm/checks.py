"""Checks the kernels of vLLM 0.26.0 against float64 references on fresh random inputs.

Bounds: two or three times the error of plain PyTorch in the same type, as in those of
flash-attn. What ran on which device: benchmarks/gpu.md.
"""

from __future__ import annotations

import math
from typing import Any

from .vllm_models import tiny_gpt_oss, tiny_model

UNSEEN = {
    "tiny-model": "its decode step takes a kernel of FlashAttention 2 that no GPU has run yet"
}
"""Checks that were never seen to pass on a GPU: what they find is told, and stops nothing."""


def rms_norm(kit: Any) -> None:
    """Check RMS norm of rows whose length is no power of two."""
    from vllm import _custom_ops as ops

    for dtype in (kit.torch.bfloat16, kit.torch.float16):
        x = kit.random(37, 1032, dtype=dtype).contiguous()
        weight = kit.random(1, 1032, dtype=dtype)[0].contiguous()

        def formula(x: Any, weight: Any) -> Any:
            return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * weight

        kit.poison()
        out = kit.torch.empty_like(x)
        ops.rms_norm(out, x, weight, 1e-6)
        exact = formula(x.double(), weight.double())
        kit.compare(f"rms_norm {dtype}", out, exact, formula(x, weight))


def rotary(kit: Any) -> None:
    """Check rotation of queries and keys in place, in the two halves of a head."""
    from vllm import _custom_ops as ops

    torch, dim = kit.torch, 64
    positions = torch.arange(29, device=kit.device)
    angles = positions.double()[:, None] / 10000 ** (
        torch.arange(0, dim, 2, device=kit.device).double() / dim
    )
    cache = torch.cat([angles.cos(), angles.sin()], -1).to(torch.bfloat16)
    q = kit.random(29, 4 * dim, dtype=torch.bfloat16).contiguous()
    k = kit.random(29, 2 * dim, dtype=torch.bfloat16).contiguous()

    def formula(x: Any, cache: Any) -> Any:
        cos, sin = (half[:, None] for half in cache.chunk(2, -1))
        one, two = x.view(29, -1, dim).chunk(2, -1)
        return torch.cat([one * cos - two * sin, two * cos + one * sin], -1).reshape(x.shape)

    wanted = [(formula(x.double(), cache.double()), formula(x, cache)) for x in (q, k)]
    ops.rotary_embedding(positions, q, k, dim, cache, True)
    for name, out, (exact, plain) in zip(("queries", "keys"), (q, k), wanted, strict=True):
        kit.compare(f"rotary {name}", out, exact, plain)


def activation(kit: Any) -> None:
    """Check silu(gate) * up."""
    import vllm._custom_ops  # noqa: F401  loads the library that registers it

    torch = kit.torch
    x = kit.random(33, 2 * 520, dtype=torch.bfloat16).contiguous()

    def formula(x: Any) -> Any:
        gate, up = x.chunk(2, -1)
        return torch.nn.functional.silu(gate) * up

    kit.poison()
    out = torch.empty(33, 520, device=kit.device, dtype=x.dtype)
    torch.ops._C.silu_and_mul(out, x)
    kit.compare("silu_and_mul", out, formula(x.double()), formula(x))


def paged_attention(kit: Any) -> None:
    """Check FlashAttention 2 of vLLM's fork, from pages in a random order."""
    from vllm.vllm_flash_attn import flash_attn_varlen_func

    torch, lengths, page = kit.torch, [40, 1, 129], 16
    kv_lengths = [100, 77, 129]
    count = math.ceil(max(kv_lengths) / page)
    q = kit.random(1, sum(lengths), 4, 64, dtype=torch.bfloat16)[0].contiguous()
    caches = [kit.random(3, count * page, 2, 64, dtype=torch.bfloat16) for _ in "kv"]
    pages = torch.randperm(3 * count, device=kit.device, generator=kit.generator)
    stores = []
    for cache in caches:
        store = torch.empty(3 * count, page, 2, 64, device=kit.device, dtype=cache.dtype)
        store[pages] = cache.reshape(3 * count, page, 2, 64)
        stores.append(store)
    starts = torch.tensor([0, *lengths], device=kit.device).cumsum(0).to(torch.int32)
    used = torch.tensor(kv_lengths, device=kit.device, dtype=torch.int32)
    kit.poison()
    out = flash_attn_varlen_func(
        q,
        *stores,
        max_seqlen_q=max(lengths),
        cu_seqlens_q=starts,
        max_seqlen_k=max(kv_lengths),
        seqused_k=used,
        causal=True,
        block_table=pages.reshape(3, count).to(torch.int32),
        fa_version=2,
    )
    for number, (length, keys) in enumerate(zip(lengths, kv_lengths, strict=True)):
        low = int(starts[number])
        part = q[low : low + length], *(cache[number, :keys] for cache in caches)
        exact = _causal(kit, *(each.double() for each in part))
        kit.compare(
            f"{length} of {keys}", out[low : low + length], exact, _causal(kit, *part), factor=3
        )


def _causal(kit: Any, q: Any, k: Any, v: Any) -> Any:
    k, v = k.repeat_interleave(2, dim=1), v.repeat_interleave(2, dim=1)
    scores = kit.torch.einsum("qhd,khd->hqk", q, k) / 8
    rows = kit.torch.arange(len(q), device=kit.device)[:, None] + len(k) - len(q)
    hidden = kit.torch.arange(len(k), device=kit.device)[None] > rows
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    return kit.torch.einsum("hqk,khd->qhd", weights, v)


def scaled_mm(kit: Any) -> None:
    """Check INT8 and FP8 matrix products, where the device has them."""
    from vllm import _custom_ops as ops

    torch = kit.torch
    major, minor = torch.cuda.get_device_capability()
    kinds = [torch.int8] if major < 10 else []  # CUTLASS has no INT8 kernel from 10.0 on
    kinds += [torch.float8_e4m3fn] if ops.cutlass_scaled_mm_supports_fp8(major * 10 + minor) else []
    for kind in kinds:
        a = (kit.random(48, 256, dtype=torch.float32) * 20).clamp(-120, 120).to(kind)
        b = (kit.random(128, 256, dtype=torch.float32) * 20).clamp(-120, 120).to(kind).t()
        scale_a = torch.rand(48, 1, device=kit.device, generator=kit.generator) / 100
        scale_b = torch.rand(1, 128, device=kit.device, generator=kit.generator) / 100
        kit.poison()
        out = ops.cutlass_scaled_mm(a, b, scale_a, scale_b, torch.bfloat16)
        exact = (a.double() * scale_a.double()) @ (b.double() * scale_b.double())
        kit.compare(f"{kind}", out, exact, exact.to(torch.bfloat16), factor=3)
    kit.note("scaled_mm", f"run here: {', '.join(map(str, kinds)) or 'nothing'}")


def marlin(kit: Any) -> None:
    """Check products of 4-bit weights, and of MXFP4, with activations of bfloat16."""
    from vllm.model_executor.layers.quantization.utils.marlin_utils_fp4 import (
        rand_marlin_weight_mxfp4_like,
    )
    from vllm.model_executor.layers.quantization.utils.marlin_utils_test import marlin_quantize
    from vllm.scalar_type import scalar_types

    torch = kit.torch
    weight = kit.random(512, 256, dtype=torch.bfloat16).contiguous()
    plain, packed, scales, *_ = marlin_quantize(weight, scalar_types.uint4b8, 128, False)
    _marlin(kit, "uint4b8", plain, packed, scales, scalar_types.uint4b8)
    plain, packed, scales = rand_marlin_weight_mxfp4_like(weight.T, 32)
    _marlin(kit, "MXFP4", plain, packed, scales, scalar_types.float4_e2m1f)


def _marlin(kit: Any, name: str, weight: Any, packed: Any, scales: Any, kind: Any) -> None:
    from vllm import _custom_ops as ops
    from vllm.model_executor.layers.quantization.utils.marlin_utils import (
        marlin_make_workspace_new,
    )

    torch = kit.torch
    a = kit.random(33, 512, dtype=torch.bfloat16).contiguous()
    work = marlin_make_workspace_new(a.device)
    kit.poison()
    none = (None, None, None)
    out = ops.marlin_gemm(
        *(a, None, packed, None, scales, None, *none, None, work, kind, 33, 256, 512),
        use_fp32_reduce=True,
    )
    exact = a.double() @ weight.double()
    kit.compare(f"marlin {name}", out, exact, a @ weight.to(a.dtype), factor=3)


def moe_routing(kit: Any) -> None:
    """Check each token's experts and weights; an integer in poisoned memory is -1."""
    from vllm import _custom_ops as ops

    torch, tokens, experts, chosen = kit.torch, 37, 32, 4
    logits = kit.random(tokens, experts, dtype=torch.float32).contiguous()
    kit.poison()
    weights = torch.empty(tokens, chosen, device=kit.device, dtype=torch.float32)
    ids, order = (torch.empty(tokens, chosen, device=kit.device, dtype=torch.int32) for _ in "io")
    ops.topk_softmax(weights, ids, order, logits, True)

    def formula(x: Any) -> Any:
        best = x.softmax(-1).topk(chosen)
        return best.values / best.values.sum(-1, keepdim=True), best.indices.double()

    exact, wanted = formula(logits.double())
    kit.compare("weights", weights, exact, formula(logits)[0])
    kit.compare("experts", ids.double(), wanted, wanted)


def marlin_moe(kit: Any) -> None:
    """Check experts with MXFP4 weights, as in gpt-oss, with activations of bfloat16."""
    from vllm.model_executor.layers.fused_moe.experts.marlin_moe import fused_marlin_moe
    from vllm.model_executor.layers.quantization.utils.marlin_utils_fp4 import (
        rand_marlin_weight_mxfp4_like,
    )
    from vllm.scalar_type import scalar_types

    torch, hidden, inner, experts = kit.torch, 256, 128, 4

    def made(rows: int, columns: int) -> tuple[Any, Any, Any]:
        like = torch.empty(rows, columns, device=kit.device, dtype=torch.bfloat16)
        each = [rand_marlin_weight_mxfp4_like(like, 32) for _ in range(experts)]
        scales = torch.stack([one[2].view(torch.uint8) for one in each])
        packed = torch.stack([one[1] for one in each])
        return torch.stack([one[0] for one in each]), packed, scales.view(torch.float8_e8m0fnu)

    (up, up_packed, up_scales), (down, down_packed, down_scales) = (
        made(2 * inner, hidden),
        made(hidden, inner),
    )
    x = (kit.random(33, hidden, dtype=torch.bfloat16) * 16).contiguous()
    weights, ids = kit.random(33, experts, dtype=torch.float32).softmax(-1).topk(2)

    def formula(x: Any, up: Any, down: Any) -> Any:
        gate, value = torch.einsum("td,tedn->ten", x, up[ids]).chunk(2, -1)
        mixed = torch.einsum("ten,tend->ted", torch.nn.functional.silu(gate) * value, down[ids])
        return (mixed * weights.to(x.dtype)[..., None]).sum(1)

    kit.poison()
    out = fused_marlin_moe(
        *(x, up_packed, down_packed, None, None, up_scales, down_scales),
        topk_weights=weights,
        topk_ids=ids.to(torch.int32),
        quant_type_id=scalar_types.float4_e2m1f.id,
    )
    exact = formula(x.double(), up.double(), down.double())
    kit.compare("MXFP4 experts", out, exact, formula(x, up, down), factor=3, floor=1e-7)


def mxfp4_float16(kit: Any) -> None:
    """Check that Marlin refuses MXFP4 with float16 in its own words."""
    from vllm import _custom_ops as ops
    from vllm.model_executor.layers.quantization.utils.marlin_utils import (
        marlin_make_workspace_new,
    )
    from vllm.model_executor.layers.quantization.utils.marlin_utils_fp4 import (
        rand_marlin_weight_mxfp4_like,
    )
    from vllm.scalar_type import scalar_types

    torch = kit.torch
    weight = kit.random(512, 256, dtype=torch.bfloat16).contiguous()
    _, packed, scales = rand_marlin_weight_mxfp4_like(weight.T, 32)
    a = kit.random(33, 512, dtype=torch.float16).contiguous()
    work = marlin_make_workspace_new(a.device)
    kind, sizes = scalar_types.float4_e2m1f, (33, 256, 512)
    call = (a, None, packed, None, scales, None, None, None, None, None, work, kind, *sizes)
    kit.refused("MXFP4 with float16", lambda: ops.marlin_gemm(*call), words="Invalid thread config")


CHECKS = {
    "rms-norm": rms_norm,
    "rotary": rotary,
    "activation": activation,
    "paged-attention": paged_attention,
    "scaled-mm": scaled_mm,
    "marlin": marlin,
    "moe-routing": moe_routing,
    "marlin-moe": marlin_moe,
    "mxfp4-float16": mxfp4_float16,
    "tiny-model": tiny_model,
    "tiny-gpt-oss": tiny_gpt_oss,
}
