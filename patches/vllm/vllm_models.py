"""Runs models of two layers with dummy weights through vLLM's LLM, end to end."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

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
TINY_GPT_OSS = {
    **TINY,
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "intermediate_size": 256,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"],
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 150000.0,
        "factor": 2.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
        "original_max_position_embeddings": 256,
    },
    "quantization_config": {"quant_method": "mxfp4"},
}


def tiny_model(kit: Any) -> None:
    """Generate with two dense layers and dummy weights through LLM, end to end."""
    _generated(kit, TINY)


def tiny_gpt_oss(kit: Any) -> None:
    """Generate as gpt-oss does: sinks, a sliding window, and experts with MXFP4 weights."""
    _generated(kit, TINY_GPT_OSS, moe_backend="marlin")


def _generated(kit: Any, config: dict[str, Any], **options: Any) -> None:
    # One process: a crash of the engine is then this check's own, with its frames. FlashInfer's
    # sampler is none of this wheel's kernels, and is compiled at run time by an nvcc.
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
    }
    from vllm import LLM, SamplingParams

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
        model = LLM(
            model=folder,
            load_format="dummy",
            skip_tokenizer_init=True,
            enforce_eager=True,
            max_model_len=256,
            gpu_memory_utilization=0.3,
            **options,
        )
        (answer,) = model.generate(
            [{"prompt_token_ids": [1, 2, 3, 4]}],
            SamplingParams(max_tokens=16, ignore_eos=True, detokenize=False),
        )
    count = len(answer.outputs[0].token_ids)
    if count != 16:
        raise kit.failed("wrong-result", f"{count} tokens instead of 16")
    kit.note("tiny model", "16 tokens, weights are dummies: that it runs, not what it says")
