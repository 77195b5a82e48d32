#!/bin/sh
# Configures a narrowed tree for compute capability 9.0: configure.sh TREE BUILD PYTHON CUDA_HOME
set -eu
export CUDA_HOME=$4 TORCH_CUDA_ARCH_LIST=9.0
export VLLM_CUTLASS_SRC_DIR=$1/third_party/cutlass
export VLLM_WITHOUT=deepgemm,fa3,flashmla,fmha_sm100,qutlass,tml_fa4,triton_kernels
bin=$(dirname "$3")
PATH=$bin:$CUDA_HOME/bin:$PATH
exec cmake -S "$1" -B "$2" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DVLLM_TARGET_DEVICE=cuda \
  -DVLLM_PYTHON_EXECUTABLE="$3" -DVLLM_PYTHON_PATH="$("$3" -c 'import sys; print(":".join(sys.path))')" \
  -DCMAKE_CUDA_COMPILER="$CUDA_HOME/bin/nvcc" -DFETCHCONTENT_BASE_DIR="$2/deps" \
  -DFETCHCONTENT_SOURCE_DIR_VLLM-FLASH-ATTN="$1/third_party/vllm-flash-attn"
