#!/bin/sh
# Narrows a patched tree of vLLM 0.26.0 to what a 9.0 device checks in minutes: narrow.sh TREE
# Marlin and FlashAttention 2 native for 9.0 instead of PTX of 8.0; Machete, W4A8, grouped GEMM, the
# 8.9 scaled_mm and all but bf16 head dims 64 and 128 of FlashAttention 2 left out. So are its two largest
# objects, splits without a causal mask (over 7 minutes each on such a machine): one-query calls need them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cmake=$1/CMakeLists.txt fork=$1/third_party/vllm-flash-attn
sed -i \
  -e '/loose_intersection(MARLIN_\(MOE_\)\?ARCHS "8.0+PTX;12.0f"/s/"8.0+PTX;12.0f"/"8.0+PTX;9.0;12.0f"/' \
  -e '/loose_intersection(MARLIN_BF16_ARCHS/s/9.0+PTX;12.0f/9.0;12.0f/' \
  -e '/loose_intersection(MARLIN_\(MOE_\)\?OTHER_ARCHS/s/8.0+PTX;12.0a/8.0+PTX;9.0;12.0a/' \
  -e '/loose_intersection(MACHETE_ARCHS "9.0a"/s/.*/set(MACHETE_ARCHS)/' \
  -e '/loose_intersection(W4A8_ARCHS "9.0a"/s/.*/set(W4A8_ARCHS)/' \
  -e '/loose_intersection(SCALED_MM_ARCHS "9.0a" /s/.*/set(SCALED_MM_ARCHS)/' \
  -e '/loose_intersection(SCALED_MM_2X_ARCHS/,/)/c set(SCALED_MM_2X_ARCHS)' \
  "$cmake"
sed -i \
  -e '/loose_intersection(FA2_ARCHS/s/8.0+PTX;12.0a/8.0+PTX;9.0;12.0a/' \
  -e 's#file(GLOB FA2_GEN_SRCS .*#file(GLOB FA2_GEN_SRCS "csrc/flash_attn/src/flash_fwd_*hdim64_bf16*.cu" "csrc/flash_attn/src/flash_fwd_*hdim128_bf16*.cu")#' \
  -e 's#csrc/flash_attn/flash_api_torch_lib.cpp#&\n            csrc/flash_attn/missing.cpp#' \
  "$fork/CMakeLists.txt"
rm -f "$fork"/csrc/flash_attn/src/flash_fwd_split_hdim64_bf16_sm80.cu \
  "$fork"/csrc/flash_attn/src/flash_fwd_split_hdim128_bf16_sm80.cu
cp "$here/missing.cpp" "$fork/csrc/flash_attn/missing.cpp"
