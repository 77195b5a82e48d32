"""Asks FlashInfer's own loader for what vLLM looks up, with its compiler switched off.

`python -I lookups.py REQUEST`, in the smoke environment. FLASHINFER_DISABLE_JIT makes the loader
raise for a module that the wheel lacks; an empty workspace holds none from before. Without a driver
the libraries load beside a stand-in: they are found and resolved there, and nothing runs.
"""

import ctypes
import importlib
import json
import os
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def driver(stand_in: str) -> str:
    """Load the driver's library, or the stand-in for it, for everyone; return which it was."""
    try:
        ctypes.CDLL("libcuda.so.1", mode=ctypes.RTLD_GLOBAL)
    except OSError:
        if not stand_in:
            raise SystemExit("there is no driver, and no stand-in for it") from None
        ctypes.CDLL(stand_in, mode=ctypes.RTLD_GLOBAL)
        return "beside a stand-in for the driver: none of it ran"
    return "beside the driver"


def sampling() -> None:
    """As flashinfer.sampling.top_p_sampling_from_probs and flashinfer.top_k begin."""
    from flashinfer import sampling, topk, utils

    sampling.get_sampling_module()
    topk.get_topk_module()
    utils.get_logging_module()


def gpt_oss() -> None:
    """As vLLM's backend makes the wrapper of the prefill, and calls XQA: both windows."""
    import torch
    from flashinfer import BatchAttentionWithAttentionSinkWrapper as Wrapper
    from flashinfer import page, prefill

    xqa = importlib.import_module("flashinfer.xqa")  # a function of that name hides it
    bf16, given = torch.bfloat16, []

    class Named(Wrapper):
        """Takes the wrapper's own words for the module, and no memory of a GPU."""

        def __init__(self, *, window_left: int) -> None:
            base, plain = Wrapper.__mro__[1], Wrapper.__mro__[1].__init__
            base.__init__ = lambda *_, **words: given.append(words)
            try:
                super().__init__(None, backend="fa2", q_data_type=bf16, kv_data_type=bf16,
                                 head_dim_qk=64, head_dim_vo=64,
                                 window_left=window_left)  # fmt: skip
            finally:
                base.__init__ = plain

    for window in (-1, 127):
        Named(window_left=window)
        words = given[-1]
        prefill.get_customize_batch_prefill_module(
            words["backend"], *words["jit_args"], **words["jit_kwargs"]
        )
        xqa.get_xqa_module(bf16, bf16, 16, 64, 8, window >= 0, bf16, 1)
    page.get_page_module()


def nvfp4() -> None:
    """As flashinfer.mm_fp4 and flashinfer.fp4_quantize begin on 12.x."""
    from flashinfer.gemm import gemm_base
    from flashinfer.quantization import fp4_quantization

    gemm_base.get_gemm_sm120_module_cutlass_fp4()
    fp4_quantization.get_fp4_quantization_module("120")


CALLS = {"sampling": sampling, "gpt-oss": gpt_oss, "nvfp4": nvfp4}


def missing_is_seen(jit: Any) -> None:
    """See the loader refuse a module that nobody has: else a wheel of nothing would do."""
    try:
        jit.gen_jit_spec("of_no_wheel", []).build_and_load()
    except jit.MissingJITCacheError:
        return
    raise SystemExit("the loader compiles in spite of FLASHINFER_DISABLE_JIT")


def main(request: dict[str, Any]) -> None:
    """Look up every module of the wheel's sets, and print what was found, and where."""
    sets = [word.strip() for word in request["variables"]["FLASHINFER_SETS"].split(",")]
    known = tomllib.loads((HERE / "lookups.toml").read_text(encoding="utf-8"))
    wanted = {one["module"] for one in known["lookup"] if one["set"] in sets}
    with tempfile.TemporaryDirectory() as workspace:
        os.environ["FLASHINFER_WORKSPACE_BASE"] = workspace
        os.environ["FLASHINFER_DISABLE_JIT"] = "1"
        import torch

        if not torch.cuda.is_available():  # it asks the GPU else
            os.environ["FLASHINFER_CUDA_ARCH_LIST"] = " ".join(request["archs"])
        how = driver(request["stand_in"])
        import flashinfer
        import flashinfer_jit_cache as wheel
        from flashinfer import jit

        missing_is_seen(jit)
        for name in sets:
            CALLS[name]()
        folder = Path(wheel.get_jit_cache_dir())
        specs = jit.jit_spec_registry.get_all_specs()
        specs.pop("of_no_wheel")
        elsewhere = [name for name, one in specs.items() if folder not in one.aot_path.parents]
        held = {path.stem for path in folder.glob("*/*.so")}
        if elsewhere or set(specs) != wanted or held != wanted:
            raise SystemExit(
                f"looked up: {sorted(specs)}; not in the wheel: {elsewhere};"
                f" it holds: {sorted(held)}; lookups.toml names: {sorted(wanted)}"
            )
        sys.stdout.write(
            f"FlashInfer {flashinfer.__version__} finds all {len(wanted)} modules of"
            f" {', '.join(sets)} in {wheel.__version__} and compiles none, {how}\n"
        )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
