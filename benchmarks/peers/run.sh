#!/bin/sh
# The quickstart set by plain `pip wheel` and by this project, one after the other on the same machine:
#   sh benchmarks/peers/run.sh [JOBS]     (blackwheel's environment active, nothing else running)
# Same patched source, same environment (hashed pins), same toolkit; pip wheel gets MAX_JOBS=JOBS.
set -eu
jobs=${1:-2}
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$here"
uv=$(python3 -c 'from uv import find_uv_bin; print(find_uv_bin())')
py=$(python3 -c 'import sys; print("%d%d" % sys.version_info[:2])')
timed() { name=$1; shift; /usr/bin/time -f "$name: wall %e s, user %U s, system %S s, largest %M KiB" "$@"; }

# The chain first: it also brings toolkit and sources into the store.
timed "blackwheel, all but downloads" invoke build-wheels --stack quickstart --again --jobs "$jobs" >"$work/ours" 2>"$work/ours.log" ||
  { tail -40 "$work/ours.log"; exit 1; }
tail -1 "$work/ours.log"
grep -h "compile: done" "$work/ours.log"
timed "blackwheel, again" invoke build-wheels --stack quickstart >/dev/null

store=${BLACKWHEEL_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/blackwheel}
tree=$(invoke apply-patches --stack quickstart 2>/dev/null | sed 's/.*: //')
timed "environment" sh -c "\"$uv\" venv -q \"$work/env\" && \"$uv\" pip sync -q --python \"$work/env\" --require-hashes constraints/stable/build-flash-attn-py$py.txt"
"$uv" pip install -q --python "$work/env" pip
cp -r "$tree" "$work/tree"
export CUDA_HOME="$(ls -d "$store"/toolchains/*/cuda | head -1)"
export PATH="$work/env/bin:$CUDA_HOME/bin:$PATH" MAX_JOBS="$jobs" NVCC_THREADS=1
export FLASH_ATTENTION_FORCE_BUILD=TRUE FLASH_ATTN_CUDA_ARCHS=12.0a FLASH_ATTN_PASSES=fwd
export FLASH_ATTN_HEAD_DIMS=64,128 FLASH_ATTN_DTYPES=bf16 FLASH_ATTN_LOCAL_VERSION=peer
export FLASH_ATTN_TORCH_REQUIREMENT=torch===2.11.0
timed "pip wheel" pip wheel --no-build-isolation --no-deps -w "$work/out" "$work/tree" >"$work/pip.log" 2>&1 ||
  { tail -40 "$work/pip.log"; exit 1; }
tail -1 "$work/pip.log"
ls -l "$work/out" | tail -1
timed "pip wheel, again" pip wheel --no-build-isolation --no-deps -w "$work/out" "$work/tree" 2>&1 >/dev/null | tail -1
