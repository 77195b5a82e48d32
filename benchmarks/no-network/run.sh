#!/bin/sh
# On a machine without any network, beside what prepare.sh made: run.sh [PYTHON [ARCHS]]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${1:-/opt/torch/.venv/bin/python3}
archs=${2:-9.0;12.0a}
work=${WORK:-/var/tmp/carried}
began=$(date +%s)
step() { echo "== $(($(date +%s) - began)) s: $*"; }

mkdir -p "$work"
rm -rf "$work/blackwheel" "$work/venv"
cp -r "$here/blackwheel" "$work/blackwheel"
export BLACKWHEEL_HOME="$work/store" BLACKWHEEL_SDISTS="$here/sdists" UV_CACHE_DIR="$work/uv-cache"
export UV_OFFLINE=1 UV_NO_INDEX=1 UV_FIND_LINKS="$here/wheels" UV_PYTHON_DOWNLOADS=never
export BLACKWHEEL_CUDA_HOME="${BLACKWHEEL_CUDA_HOME:-${CUDA_HOME:-/usr/local/cuda-13.0}}"
if ! command -v git >/dev/null; then
  # A bare git asks no https host: one that refuses says the same, and the sdist stands in.
  mkdir -p "$work/bin"
  printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' "$here/bin" "$here/bin/git" > "$work/bin/git"
  chmod +x "$work/bin/git" "$here/bin/git"
  export PATH="$work/bin:$PATH" GIT_CONFIG_COUNT=1 GIT_CONFIG_VALUE_0=https://
  export GIT_CONFIG_KEY_0=url.git://127.0.0.1:9/.insteadOf
fi

step "versions"
uname -srm; git --version; "$python" --version; "${CXX:-g++}" --version | head -1
"$BLACKWHEEL_CUDA_HOME/bin/nvcc" --version | tail -2
"$python" -c 'import torch; print("torch", torch.__version__, torch.version.git_version)' 2>/dev/null
nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader 2>/dev/null || echo "no GPU"

step "blackwheel's own environment, from carried wheels"
"$python" -m zipfile -e "$here"/wheels/uv-*.whl "$work/uv"
uv=$(echo "$work"/uv/uv-*.data/scripts/uv)
chmod +x "$uv"
"$uv" venv --quiet --clear --python "$python" "$work/venv"
"$uv" pip install --quiet --python "$work/venv/bin/python" --editable "$work/blackwheel"
PATH="$work/venv/bin:$PATH"
cd "$work/blackwheel"

step "lock the torch that is installed"
invoke pin torch installed --python "$python" --stack carried
step "doctor"
invoke doctor --stack carried || true
step "build"
code=0
invoke build-wheels --stack carried --python "$python" --arch "$archs" || code=$?
mkdir -p "$work/wheels"
cp -f "$work"/store/builds/*/*/*/build.log "$work/wheels/" 2>/dev/null || true
[ "$code" = 0 ] || { echo "build-wheels ended with $code"; tail -40 "$work/wheels/build.log"; exit "$code"; }
cp -f wheels/carried/*.whl wheels/carried/*.json "$work/wheels/"
step "audit"
invoke audit carried --arch "$archs"
step "verify"
invoke verify carried
step "receipt"
python3 "$here/summary.py" wheels/carried/*.receipt.json
step "the same command again"
invoke build-wheels --stack carried --python "$python" --arch "$archs"
step "done: $work/wheels"
