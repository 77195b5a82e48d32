#!/bin/sh
# On the machine without a network, beside what prepare.sh made: run.sh start STEP..., then run.sh watch SECONDS until it
# says that all ran. `start` returns at once; the steps run one after another in a session of their own: vllm, serve, official,
# together, crashes, attention. `BESIDE=attention` builds flash-attention beside all but vllm's compile, at the lowest
# priority and stopped while a server is measured. OFFICIAL: the official wheel, waited for. Logs: $WORK/told.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${TORCH_PYTHON:-$(command -v python3)}
export TORCH_PYTHON="$python" # PATH gets another python3 below
work=${WORK:-/var/tmp/served}
told=$work/told
co=$work/blackwheel
step() { echo "== $(($(date +%s) - $(cat "$work/began"))) s: $*"; }
export BLACKWHEEL_HOME="$work/store" UV_CACHE_DIR="$work/uv-cache" BLACKWHEEL_POOL="$work/pool"
export UV_OFFLINE=1 UV_NO_INDEX=1 UV_FIND_LINKS="$here/wheels" UV_PYTHON_DOWNLOADS=never
export BLACKWHEEL_CUDA_HOME="${BLACKWHEEL_CUDA_HOME:-/usr/local/cuda-13.0}" CXX=/usr/bin/g++ CC=/usr/bin/gcc
unset TORCH_CUDA_ARCH_LIST || true
export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 VLLM_USE_FLASHINFER_SAMPLER=0 HF_HUB_OFFLINE=1 VLLM_WORKER_MULTIPROC_METHOD=spawn
PATH="$work/venv/bin:$PATH"
last=$(($(nvidia-smi -L 2>/dev/null | wc -l) > 1 ? 1 : 0)) # the other GPU, where there is one

setup() {
  mkdir -p "$told" "$work/pool"
  date +%s > "$work/began"
  python3 "$here/memory.py" "${MEMORY_GIB:-208}" "${MEMORY_SECONDS:-35}" > "$told/memory.txt" 2>&1 &
  mv "$here/blackwheel" "$co"
  mkdir -p "$work/store"
  [ ! -d "$here/store/sources" ] || mv "$here/store/sources" "$work/store/sources"
  step "versions"
  uname -srm; nproc; git --version; "$python" --version; "$CXX" --version | head -1
  "$BLACKWHEEL_CUDA_HOME/bin/nvcc" --version | tail -2
  nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total --format=csv,noheader || echo "no GPU"
  repacked $(cat "$here/there.txt")
  step "blackwheel's own environment"
  "$python" -m zipfile -e "$here"/wheels/uv-*.whl "$work/uv"
  uv=$(echo "$work"/uv/uv-*.data/scripts/uv)
  chmod +x "$uv"
  "$uv" venv --quiet --clear --python "$python" "$work/venv"
  "$uv" pip install --quiet --python "$work/venv/bin/python" --editable "$co"
}

repacked() { # wheels of packages that lie beside the torch here; a carried one goes first
  step "wheels of packages that are here"
  "$python" "$here/repack.py" "$work/repacked" "$@" | grep -v '\.whl$' || true
  for one in "$work"/repacked/*.whl; do
    [ -e "$here/wheels/$(basename "$one")" ] || mv "$one" "$here/wheels/"
  done
}

pinned() { # hashed pins of a stack, and the torch that is installed
  step "lock $1"
  python3 -m blackwheel lock "$1"
  invoke pin torch installed --python "$python" --stack "$1" > "$told/pin-$1.txt" 2>&1
}

still() { pkill "-$1" -x 'nvcc|cicc|ptxas|cc1plus|cudafe\+\+|fatbinary' || true; } # compilers: STOP or CONT

attention() { # the whole of flash-attention: build, checks, speed
  until=$(($(date +%s) + 1200))
  while [ -f "$work/compiles-vllm" ] && [ "$(date +%s)" -lt $until ]; do sleep 1; done
  pinned attention
  export CUDA_VISIBLE_DEVICES=0
  invoke doctor --stack attention > "$told/attention-doctor.txt" 2>&1 &
  step "attention: build"
  code=0
  nice -n "${NICE:-0}" invoke build-wheels --stack attention --python "$python" > "$told/attention-build.txt" 2>&1 || code=$?
  step "attention: build-wheels ended with $code"
  [ $code = 0 ] || { tail -40 "$told/attention-build.txt"; return; }
  invoke report --stack attention > "$told/attention-report.txt" 2>&1 || true
  sha256sum wheels/attention/*.whl > "$told/attention-sha256.txt"
  ls -l wheels/attention >> "$told/attention-sha256.txt"
  while [ -f "$work/measures" ]; do sleep 1; done
  code=0; nox -s smoke -- --stack attention --python "$python" --require-gpu > "$told/attention-smoke.txt" 2>&1 || code=$?
  step "attention: smoke --require-gpu ended with $code"
  while [ -n "${BESIDE:-}" ] && [ ! -f "$work/done-steps" ]; do sleep 1; done # nothing else on the GPU
  export CUDA_VISIBLE_DEVICES=$last
  code=0; nox -s bench -- attention --stack attention --python "$python" --output "$told/attention-bench.json" > "$told/attention-bench.txt" 2>&1 || code=$?
  step "attention: bench ended with $code"
  invoke audit attention --arch 9.0 > "$told/attention-audit.txt" 2>&1 || true
  invoke verify --what attention > "$told/attention-verify.txt" 2>&1 || true
  invoke build-wheels --stack attention --python "$python" > "$told/attention-again.txt" 2>&1 || true
  step "attention: all ran"
}

vllm() { # vLLM: build, and an environment to serve it from
  touch "$work/compiles-vllm"
  pinned served
  step "vllm: build"
  environment serving &
  code=0
  CUDA_VISIBLE_DEVICES=$last invoke build-wheels --stack served --python "$python" > "$told/vllm-build.txt" 2>&1 &
  build=$!
  made=$work/store/builds/served/vllm/cp312
  while kill -0 $build 2>/dev/null && ! ls "$made"/*/wheel/vllm-*.whl > /dev/null 2>&1; do sleep 1; done
  rm "$work/compiles-vllm"
  wait $build || code=$?
  step "vllm: build-wheels ended with $code"
  wheel=$(ls "$co"/wheels/served/vllm-*.whl "$made"/*/wheel/vllm-*.whl 2>/dev/null | head -1)
  [ -n "$wheel" ] || { step "vllm: no wheel"; tail -60 "$told/vllm-build.txt"; return 1; }
  wait
  ls -l "$wheel"; sha256sum "$wheel" > "$told/vllm-sha256.txt"
  uv pip install --quiet --no-deps --python "$work/serving/bin/python" "$wheel"
}

checks() { # what a shelf says of vLLM, its kernels on this GPU among it
  code=0; nox -s smoke -- --stack served --python "$python" --require-gpu > "$told/vllm-smoke.txt" 2>&1 || code=$?
  step "vllm: smoke --require-gpu ended with $code"
  invoke report --stack served > "$told/vllm-report.txt" 2>&1 || true
  invoke audit served --arch 9.0a > "$told/vllm-audit.txt" 2>&1 || true
  invoke verify --what served > "$told/vllm-verify.txt" 2>&1 || true
}

environment() { # environment NAME: vLLM's requirements and the torch of this machine, without vLLM
  uv venv --quiet --clear --python "$python" "$work/$1"
  uv pip sync --quiet --require-hashes --python "$work/$1/bin/python" "$co/constraints/served/run-vllm-py312.txt"
  python3 -c "
import os, sys
from pathlib import Path
from blackwheel.pytorch import installed
installed.lay(installed.find(Path(sys.argv[1]), dict(os.environ)), Path(sys.argv[2]))" "$python" "$work/$1"
  step "environment $1 is there"
}

# Of servers on one GPU: each counts the others' memory as used, and would have too little left
beside="--gpu-memory-utilization 0.2 --kv-cache-memory-bytes 4294967296"

# server NAME ENVIRONMENT GPU PORT MODEL MORE...: one that ends with this script, its caches empty
server() {
  name=$1 bin=$work/$2/bin gpu=$3 port=$4 model=$5
  shift 5
  rm -rf "$work/cache-$name"
  echo "CUDA_VISIBLE_DEVICES=$gpu vllm serve $model --port $port $*" > "$told/serve-$name.log"
  date +%s > "$work/server-$name.began"
  CUDA_VISIBLE_DEVICES=$gpu VLLM_CACHE_ROOT="$work/cache-$name" TRITON_CACHE_DIR="$work/cache-$name/triton" \
    TORCHINDUCTOR_CACHE_DIR="$work/cache-$name/inductor" CUDA_CACHE_PATH="$work/cache-$name/cuda" \
    "$bin/vllm" serve "$work/models/$model" --served-model-name "$model" --host 127.0.0.1 --port "$port" \
    --dtype bfloat16 --max-model-len 33000 --max-num-seqs 64 --gpu-memory-utilization 0.25 "$@" >> "$told/serve-$name.log" 2>&1 &
  echo $! > "$work/server-$name.pid"
}

ready() { # ready NAME PORT SECONDS
  until_=$(($(date +%s) + $3))
  while ! python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$2/health', timeout=2)" 2>/dev/null; do
    kill -0 "$(cat "$work/server-$1.pid")" 2>/dev/null || { step "$1: the server ended"; tail -30 "$told/serve-$1.log"; return 1; }
    [ "$(date +%s)" -lt $until_ ] || { step "$1: not ready after $3 s"; return 1; }
    sleep 1
  done
  step "$1: ready $(($(date +%s) - $(cat "$work/server-$1.began"))) s after its start"
}

ended() { # ended NAME...: stop servers, and wait until they are gone
  for one in "$@"; do kill "$(cat "$work/server-$one.pid")" 2>/dev/null || true; done
  for one in "$@"; do wait "$(cat "$work/server-$one.pid")" 2>/dev/null || true; done
}

measured() { # measured NAME PORT MODEL
  still STOP
  python3 "$here/compare.py" first "http://127.0.0.1:$2" "$3" > "$told/first-$1.txt" 2>&1 || true
  nox -s bench -- serving --url "http://127.0.0.1:$2" --model "$3" --log "$told/serve-$1.log" --output "$told/bench-$1.json" > "$told/bench-$1.txt" 2>&1 || step "$1: bench failed"
  python3 "$here/compare.py" load "http://127.0.0.1:$2" "$3" > "$told/load-$1.txt" 2>&1 || true
  still CONT
  step "$1: measured"
  grep -hvE '^nox >' "$told/first-$1.txt" "$told/bench-$1.txt" "$told/load-$1.txt" || true
}

serve() { # each server is measured while the others have nothing to do
  server dense-fa2 serving 0 8000 dense --attention-backend FLASH_ATTN --attention-config.flash_attn_version 2
  server dense-triton serving $last 8002 dense --attention-backend TRITON_ATTN
  server gpt-oss serving $last 8001 gpt-oss --load-format dummy --moe-backend marlin --attention-backend TRITON_ATTN
  fa2=0 triton=0 oss=0
  ready dense-fa2 8000 240 && fa2=1
  ready dense-triton 8002 120 && triton=1
  ready gpt-oss 8001 180 && oss=1
  [ $fa2 = 0 ] || measured dense-fa2 8000 dense
  [ $oss = 0 ] || measured gpt-oss 8001 gpt-oss
  [ $triton = 0 ] || measured dense-triton 8002 dense
  if [ $fa2 = 1 ] && [ $triton = 1 ]; then
    python3 "$here/compare.py" tokens http://127.0.0.1:8000 http://127.0.0.1:8002 dense > "$told/tokens.txt" 2>&1 || step "tokens differ"
    cat "$told/tokens.txt"
  fi
  ended dense-fa2 dense-triton
  if [ $oss = 1 ]; then
    pkill -9 -f "VLLM::EngineCor" || step "no engine to kill"
    python3 "$here/compare.py" first http://127.0.0.1:8001 gpt-oss > "$told/killed.txt" 2>&1 || true
    sleep 3; cp "$told/serve-gpt-oss.log" "$told/crash-killed.log"
  fi
  ended gpt-oss
  step "vllm: served"
}

official() { # the official wheel (of thin.py), in turn with ours where that was built; caches empty
  until=$(($(date +%s) + 300))
  while [ ! -f "${OFFICIAL:?the official wheel}" ] && [ "$(date +%s)" -lt $until ]; do sleep 1; done
  environment official
  uv pip install --quiet --no-deps --python "$work/official/bin/python" "$OFFICIAL"
  touch "$work/measures"
  all="official-3-a official-3-b"
  [ ! -x "$work/serving/bin/vllm" ] || all="serving-2-a official-3-a serving-2-b official-3-b"
  for one in $all; do
    version=${one%-*}
    server "alone-$one" "${one%%-*}" 0 8010 dense --attention-backend FLASH_ATTN --attention-config.flash_attn_version "${version#*-}"
    if ready "alone-$one" 8010 240; then measured "alone-$one" 8010 dense; fi
    ended "alone-$one"
  done
  rm "$work/measures"
  step "official: all ran"
}

official_ptx() { # FlashAttention 2 of the official wheel is PTX for 9.0, which the driver compiles first
  server official-2 official 0 8011 dense --attention-backend FLASH_ATTN --attention-config.flash_attn_version 2 $beside
  if ready official-2 8011 400; then measured official-2 8011 dense; fi
  ended official-2
}

together() { # whether attention backends and wheels agree
  started="triton-8031 fa3-8032"
  triton=official
  if [ -x "$work/serving/bin/vllm" ]; then
    started="ours-8030 triton-8031 fa3-8032 again-8033"
    triton=serving
    for one in ours-8030 again-8033; do
      server "${one%-*}" serving 0 "${one#*-}" dense --attention-backend FLASH_ATTN --attention-config.flash_attn_version 2 $beside
    done
  fi
  server triton $triton 0 8031 dense --attention-backend TRITON_ATTN $beside
  server fa3 official 0 8032 dense --attention-backend FLASH_ATTN --attention-config.flash_attn_version 3 $beside
  for one in $started; do ready "${one%-*}" "${one#*-}" 240 || true; done
  for pair in 8030-8031 8032-8031 8030-8032 8030-8033; do
    case "$pair $started" in 8030*ours-* | 8032*) ;; *) continue ;; esac
    for how in tokens forced; do
      echo "$how $pair (8030 our FA2, 8031 Triton, 8032 official FA3, 8033 our FA2 once more)"
      python3 "$here/compare.py" $how "http://127.0.0.1:${pair%-*}" "http://127.0.0.1:${pair#*-}" dense 2>&1 || true
    done
  done > "$told/together.txt"
  cat "$told/together.txt"
  for one in $started; do ended "${one%-*}"; done
  step "together: all ran"
}

crashes() { # what a person sees of a server that cannot run, and what `invoke explain` makes of it
  server crash-float16 serving 0 8020 gpt-oss --load-format dummy --moe-backend marlin --dtype float16
  ready crash-float16 8020 120 || true
  ended crash-float16
  python3 "$here/spoil.py" arch "$work/serving" "$work/spoilt"
  server crash-arch spoilt 0 8020 dense --attention-backend FLASH_ATTN --attention-config.flash_attn_version 2
  ready crash-arch 8020 120 || true
  ended crash-arch
  python3 "$here/spoil.py" torch "$work/serving" "$work/spoilt"
  server crash-torch spoilt 0 8020 dense
  ready crash-torch 8020 60 || true
  ended crash-torch
  for log in "$told"/serve-crash-*.log "$told"/crash-*.log; do
    echo "== $log"; tail -5 "$log"
    invoke explain "$log" 2>&1 | tee "$told/explain-$(basename "$log" .log).txt" || true
  done
  step "crashes: all ran"
}

watch() { # print what is new for SECONDS, keep all of it in KEEP_IN
  until_=$(($(date +%s) + $1))
  while [ "$(date +%s)" -lt $until_ ]; do
    if [ -f "$work/done-steps" ] && { [ -z "${BESIDE:-}" ] || [ -f "$work/done-attention" ]; }; then break; fi
    sleep 10
    kept
  done
  for name in main steps attention; do echo "--- $name"; tail -c 5000 "$told/$name.txt" 2>/dev/null || true; done
  for build in "$work"/store/builds/*/*/cp312; do
    [ ! -d "$build" ] || echo "$build: $(grep -c '"exit": 0' "$build"/*/objects.jsonl) objects"
  done
  cat /proc/loadavg; grep -E "MemTotal|MemAvail" /proc/meminfo
}

kept() {
  for build in "$work"/store/builds/*/*/cp312; do
    name=$(basename "$(dirname "$build")")
    cp "$build"/*/objects.jsonl "$told/objects-$name.jsonl" 2>/dev/null || true
    tail -c 20000 "$build/build.log" > "$told/log-$name.txt" 2>/dev/null || true
  done
  cp "$co"/wheels/*/*.receipt.json "$work"/store/smoke/*.json "$told/" 2>/dev/null || true
  if [ -n "${KEEP_IN:-}" ]; then
    tar czf "$work/told.tar.gz" -C "$work" told
    mv "$work/told.tar.gz" "$KEEP_IN/told.tar.gz"
  fi
}

steps() { # each in a shell of its own: behind || a function goes on after what failed
  for one in "$@"; do sh "$here/run.sh" "$one" || step "$one failed"; done
  step "steps: all ran"
}

background() { # background NAME ARGUMENTS...
  name=$1
  shift
  setsid nohup "$@" > "$told/$name.txt" 2>&1 < /dev/null &
}

[ ! -d "$co" ] || cd "$co"
case $1 in
  start)
    mkdir -p "$told"
    shift
    sh "$here/run.sh" setup > "$told/main.txt" 2>&1 || { cat "$told/main.txt"; exit 1; }
    cat "$told/main.txt"
    background models "$python" "$here/models.py" "$work/models"
    case " $* " in *" vllm "*) touch "$work/compiles-vllm" ;; esac
    background steps sh "$here/run.sh" steps "$@"
    [ -z "${BESIDE:-}" ] || background attention sh "$here/run.sh" "$BESIDE"
    step "started $*" ;;
  attention) NICE=${BESIDE:+19}; attention; touch "$work/done-attention" ;;
  steps) shift; steps "$@"; touch "$work/done-steps" ;;
  watch) watch "$2" ;;
  setup | vllm | checks | serve | official | official_ptx | together | crashes) "$1" ;;
esac
