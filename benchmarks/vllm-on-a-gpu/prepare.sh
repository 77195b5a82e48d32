#!/bin/sh
# Collects what builds and checks a part of vLLM 0.26.0 on a GPU machine without a network:
# prepare.sh TREE FOLDER, with blackwheel's environment active. TREE is what `invoke apply-patches` prints
# of vllm. What vLLM imports and that machine lacks is brought along, as stack stable pins it.
set -eu
tree=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
uv=$(python3 -c 'from uv import find_uv_bin; print(find_uv_bin())')
rm -rf "$out"
mkdir -p "$out" "$work/src" "$work/site/vllm-0.26.0.dist-info"
cp "$here/run.sh" "$here/configure.sh" "$here/narrow.sh" "$here/missing.cpp" "$out/"
cp -r "$checkout/blackwheel" "$out/"

tar c -C "$tree" --exclude=csrc/cpu --exclude=csrc/rocm CMakeLists.txt cmake csrc third_party/cutlass \
  third_party/vllm-flash-attn/CMakeLists.txt third_party/vllm-flash-attn/cmake \
  third_party/vllm-flash-attn/csrc | tar x -C "$work/src"
sh "$here/narrow.sh" "$work/src"
cp -r "$tree/vllm" "$work/site/"
cp -r "$tree/third_party/vllm-flash-attn/vllm_flash_attn/layers" \
  "$tree/third_party/vllm-flash-attn/vllm_flash_attn/ops" "$work/site/vllm/vllm_flash_attn/"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.26.0\n' \
  > "$work/site/vllm-0.26.0.dist-info/METADATA"
pins=$checkout/constraints/stable/run-vllm-py312.txt
for name in annotated-types apache-tvm-ffi cachetools cbor2 compressed-tensors fastapi httpx2 llguidance msgspec openai \
  openai-harmony partial-json-parser pybase64 pydantic pydantic-core pyzmq sniffio starlette \
  typing-inspection xgrammar; do
  grep -oE "^$name==[^ ]+" "$pins"
done > "$work/pins.txt"
"$uv" pip install --quiet --no-deps --only-binary :all: --python-version 3.12 \
  --python-platform x86_64-manylinux_2_34 --target "$work/deps" --requirement "$work/pins.txt"
tar c -C "$work" src | xz -1 > "$out/src.tar.xz"
tar c -C "$work" --exclude=__pycache__ site deps | xz -1 > "$out/py.tar.xz"
rm -rf "$work"
du -sh "$out" | cut -f1
