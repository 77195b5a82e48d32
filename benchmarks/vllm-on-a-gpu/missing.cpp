// What FlashAttention 2 calls for every head dim and type, for those that were not compiled here: a refusal.
#include <ATen/cuda/CUDAContext.h>
#include <cutlass/numeric_types.h>

#include "namespace_config.h"
#include "flash.h"
#include "flash_sparse.h"

namespace FLASH_NAMESPACE {

#define REFUSED TORCH_CHECK(false, "this part of vLLM was built without this kernel")
#define SPLIT(T, D, C) \
  template <> void run_mha_fwd_splitkv_dispatch<T, D, C>(Flash_fwd_params &, cudaStream_t) { REFUSED; }
#define ONE(T, D, C)                                                                    \
  template <> void run_mha_fwd_<T, D, C>(Flash_fwd_params &, cudaStream_t) { REFUSED; } \
  SPLIT(T, D, C)
#define BOTH(T, D) ONE(T, D, false) ONE(T, D, true)
#define SPARSE(C) \
  template <> void run_mha_fwd_sparse_<cutlass::half_t, 128, C>(Flash_fwd_params_sparse &, cudaStream_t) { REFUSED; }

BOTH(cutlass::half_t, 32)
BOTH(cutlass::half_t, 64)
BOTH(cutlass::half_t, 96)
BOTH(cutlass::half_t, 128)
BOTH(cutlass::half_t, 192)
BOTH(cutlass::half_t, 256)
BOTH(cutlass::bfloat16_t, 32)
BOTH(cutlass::bfloat16_t, 96)
BOTH(cutlass::bfloat16_t, 192)
BOTH(cutlass::bfloat16_t, 256)
SPLIT(cutlass::bfloat16_t, 64, false)
SPLIT(cutlass::bfloat16_t, 128, false)
SPARSE(false)
SPARSE(true)

}  // namespace FLASH_NAMESPACE
