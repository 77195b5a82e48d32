"""Makes two models that need no download, with the torch of this interpreter: models.py FOLDER.

`dense`: 24 layers of Llama's form, 2048 wide, 16 heads over 4 of 128, bf16; its weights are drawn
so that activations stay in range and attention decides the answer. `gpt-oss`: the configuration of
gpt-oss-20b alone, for --load-format dummy. Both with a tokenizer of bytes: one token a byte.
"""

# ruff: noqa: T201  a script for the terminal

import json
import sys
from pathlib import Path

DENSE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "num_hidden_layers": 24,
    "head_dim": 128,
    "vocab_size": 32768,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 500000.0,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
GPT_OSS = {  # openai/gpt-oss-20b
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "attention_bias": True,
    "attention_dropout": 0.0,
    "eos_token_id": 200002,
    "pad_token_id": 199999,
    "experts_per_token": 4,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2880,
    "initial_context_length": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 2880,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "max_position_embeddings": 131072,
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 24,
    "num_key_value_heads": 8,
    "num_local_experts": 32,
    "output_router_logits": False,
    "quantization_config": {
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
        "quant_method": "mxfp4",
    },
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "rope_type": "yarn",
        "truncate": False,
    },
    "rope_theta": 150000,
    "router_aux_loss_coef": 0.9,
    "sliding_window": 128,
    "swiglu_limit": 7.0,
    "tie_word_embeddings": False,
    "vocab_size": 201088,
    "torch_dtype": "bfloat16",
}


def tokenizer(folder: Path, size: int, end: int) -> None:
    """Write a tokenizer of `size` tokens: one for each byte, fillers, and an end."""
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    named = {byte: chr(byte) for byte in letters}
    for byte in range(256):
        named.setdefault(byte, chr(256 + len(named) - len(letters)))
    words = [named[byte] for byte in range(256)]
    words += [f"w{number:x}." for number in range(256, size)]
    words[end] = "<|end|>"
    vocabulary = {word: number for number, word in enumerate(words)}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    made = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": end, "content": "<|end|>", **special, "special": True}],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(made), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "model_max_length": 131072,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def weights(folder: Path) -> None:
    """Draw and write the dense model's weights; on the GPU where there is one."""
    import torch  # noqa: PLC0415  2 s, and --no-weights needs none
    from safetensors.torch import save_file  # noqa: PLC0415

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(20261130)
    wide, inner, layers = (
        DENSE["hidden_size"],
        DENSE["intermediate_size"],
        DENSE["num_hidden_layers"],
    )
    heads, pairs, dim = (
        DENSE["num_attention_heads"],
        DENSE["num_key_value_heads"],
        DENSE["head_dim"],
    )

    def drawn(rows: int, columns: int, scale: float = 1.0) -> torch.Tensor:
        values = torch.randn(rows, columns, device=device) * (scale / columns**0.5)
        return values.to(torch.bfloat16).cpu()

    ones = torch.ones(wide, dtype=torch.bfloat16)
    found = {
        "model.embed_tokens.weight": drawn(DENSE["vocab_size"], wide, wide**0.5),
        "lm_head.weight": drawn(DENSE["vocab_size"], wide, 3.0),
        "model.norm.weight": ones.clone(),
    }
    for number in range(layers):
        at = f"model.layers.{number}."
        found |= {
            at + "input_layernorm.weight": ones.clone(),
            at + "post_attention_layernorm.weight": ones.clone(),
            at + "self_attn.q_proj.weight": drawn(heads * dim, wide, 2.0),
            at + "self_attn.k_proj.weight": drawn(pairs * dim, wide, 2.0),
            at + "self_attn.v_proj.weight": drawn(pairs * dim, wide),
            at + "self_attn.o_proj.weight": drawn(wide, heads * dim, 2.0),
            at + "mlp.gate_proj.weight": drawn(inner, wide),
            at + "mlp.up_proj.weight": drawn(inner, wide),
            at + "mlp.down_proj.weight": drawn(wide, inner),
        }
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    print("dense:", sum(one.numel() for one in found.values()) / 1e9, "billion weights")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    for name, config, end in (("dense", DENSE, 1), ("gpt-oss", GPT_OSS, 200002)):
        (place / name).mkdir(parents=True, exist_ok=True)
        (place / name / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        tokenizer(place / name, int(config["vocab_size"]), end)
    if "--no-weights" not in sys.argv:
        weights(place / "dense")
