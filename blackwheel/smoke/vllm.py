"""Kernel checks of vLLM, written against the source of 0.26.0 and never run on a GPU yet.

So what they find is told, and stops nothing: `UNSEEN` goes when a device has run them. Bounds: two
or three times the error of plain PyTorch in the same type, as in flash_attn.py beside this file.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

UNSEEN = True
TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "head_dim": 64,
    "vocab_size": 1024,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "torch_dtype": "bfloat16",
}


def rms_norm(kit: Any) -> None:
    """Normalize rows of a length that is no power of two."""
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
    """Rotate queries and keys in place, in the two halves of a head."""
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
    """silu(gate) * up."""
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
    """FlashAttention 2 of vLLM's fork, from pages in a random order."""
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
    """INT8 and FP8 matrix products, where the device has them."""
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
    """Weights of 4 bits, and MXFP4, by activations of bfloat16."""
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


def mxfp4_float16(kit: Any) -> None:
    """MXFP4 with float16 is refused by the kernel, not answered."""
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
    kit.refused("MXFP4 with float16", lambda: ops.marlin_gemm(*call), words="")


def tiny_model(kit: Any) -> None:
    """Two layers with dummy weights generate through LLM, end to end."""
    from vllm import LLM, SamplingParams

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(TINY), encoding="utf-8")
        model = LLM(
            model=folder,
            load_format="dummy",
            skip_tokenizer_init=True,
            enforce_eager=True,
            max_model_len=256,
            gpu_memory_utilization=0.3,
        )
        (answer,) = model.generate(
            [{"prompt_token_ids": [1, 2, 3, 4]}],
            SamplingParams(max_tokens=16, ignore_eos=True, detokenize=False),
        )
    count = len(answer.outputs[0].token_ids)
    if count != 16:
        raise kit.failed("wrong-result", f"{count} tokens instead of 16")
    kit.note("tiny model", "16 tokens, weights are dummies: that it runs, not what it says")


CHECKS = {
    "rms-norm": rms_norm,
    "rotary": rotary,
    "activation": activation,
    "paged-attention": paged_attention,
    "scaled-mm": scaled_mm,
    "marlin": marlin,
    "mxfp4-float16": mxfp4_float16,
    "tiny-model": tiny_model,
}
