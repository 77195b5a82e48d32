#!/bin/sh
# On the GPU machine beside what prepare.sh made: run.sh [PYTHON [CUDA_HOME [SECONDS]]]
# Configures, compiles for at most SECONDS, and once all libraries are linked runs the checks.
# The same command again goes on with what was compiled.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${1:-/opt/torch/.venv/bin/python3} cuda=${2:-/usr/local/cuda-13.0} seconds=${3:-500}
work=${WORK:-/var/tmp/vllm-part} out=${OUT:-/var/tmp/vllm-part}
began=$(date +%s)
step() { echo "== $(($(date +%s) - began)) s: $*"; }
targets="spinloop fs_io_C cumem_allocator _C_stable_libtorch _moe_C_stable_libtorch _vllm_fa2_C"

mkdir -p "$work"
nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader
if [ ! -f "$work/b/build.ninja" ]; then
  step unpack
  tar xf "$here/src.tar.xz" -C "$work"
  tar xf "$here/py.tar.xz" -C "$work"
  step configure
  sh "$here/configure.sh" "$work/src" "$work/b" "$python" "$cuda" > "$work/configure.log" 2>&1 ||
    { tail -40 "$work/configure.log"; exit 1; }
  grep -E 'ARCHS|for archs|Left out' "$work/configure.log" || true
fi
step compile
left=$((seconds - $(date +%s) + began))
timeout "$left" ninja -C "$work/b" -k 0 -j "$(nproc)" $targets > "$work/ninja.log" 2>&1 ||
  grep -E 'error|FAILED|undefined' "$work/ninja.log" | head -30 || true
tail -2 "$work/ninja.log"
for one in _C_stable_libtorch _moe_C_stable_libtorch vllm-flash-attn/_vllm_fa2_C; do
  [ -f "$work/b/$one.abi3.so" ] || { echo "not linked yet: $one"; exit 1; }
done
step install
cp "$work"/b/*.abi3.so "$work/site/vllm/"
find "$work/b" -name '_vllm_fa2_C*.so' -exec cp {} "$work/site/vllm/vllm_flash_attn/" \;
find "$work/site" -name '*.so' -exec strip --strip-unneeded {} \; -exec ls -l {} \;
"$python" - "$work/site/vllm/_built_for.py" <<'P'
import sys, torch
built = {"wheel": "0.26.0 (a part)", "requirement": "torch===2.11.0", "version": str(torch.__version__),
         "git_version": torch.version.git_version, "cuda": torch.version.cuda}
open(sys.argv[1], "w").write(f"TORCH = {built!r}\n")
P
(cd "$work/site" && rm -f "$work"/*.whl && "$python" -m zipfile -c "$work/vllm-0.26.0-cp312-abi3-linux_x86_64.whl" vllm vllm-0.26.0.dist-info)
[ -z "${OUT:-}" ] || (cd "$work/site" && find . -name '*.so' | tar c -T - | xz -T0 -3 | split -b 15000000 - "$OUT/so.")
step "checks: all kernels at once, then the models one by one"
cd "$here"
mkdir -p "$work/told"
check() {
  "$python" -m blackwheel.smoke.checks "$work/vllm-0.26.0-cp312-abi3-linux_x86_64.whl" --python "$python" --archs 9.0 \
    --path "$work/deps" --seconds 240 --only "$1" --json "$work/told/$1.json" > "$work/told/$1.txt" 2>&1 || true
}
for one in ${ONLY-rms-norm rotary activation paged-attention scaled-mm marlin moe-routing marlin-moe mxfp4-float16}; do
  check "$one" &
done
wait
for one in ${MODELS-tiny-model tiny-gpt-oss}; do check "$one"; done
head -3 "$work"/told/*.txt | head -5
for one in "$work"/told/*.txt; do sed 1,5d "$one"; done
tar czf "$out/told.tar.gz" -C "$work" told ninja.log configure.log b/.ninja_log
step done
