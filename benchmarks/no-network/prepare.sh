#!/bin/sh
# Collects what a machine without any network needs to build stack `carried`: prepare.sh FOLDER
# Run it with blackwheel's environment active; PYTHON is a Python 3.12 with pip (default python3.12).
set -eu
out=$1
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3.12}
rm -rf "$out"
mkdir -p "$out/blackwheel" "$out/wheels" "$out/sdists" "$out/bin"

# The checkout as committed, the stack, and the stack's hashed pins: torch is in none of them.
git -C "$checkout" archive HEAD | tar -x -C "$out/blackwheel"
cp "$here/carried.toml" "$out/blackwheel/constraints/carried.toml"
cp "$here/run.sh" "$here/summary.py" "$out/"
cd "$out/blackwheel"
PYTHONPATH=$PWD python3 -m blackwheel lock carried

# Wheels: what blackwheel requires, and what the build and run environments hold. Exact, by hash.
uv=$(python3 -c 'from uv import find_uv_bin; print(find_uv_bin())')
"$uv" pip compile --quiet --generate-hashes --only-binary :all: --python-version 3.12 \
  --python-platform x86_64-manylinux_2_28 --output-file "$out/blackwheel-py312.txt" pyproject.toml
for lock in "$out/blackwheel-py312.txt" constraints/carried/*.txt; do
  "$python" -m pip download --quiet --no-deps --require-hashes --only-binary :all: \
    --dest "$out/wheels" --requirement "$lock"
done

# The sdist of the same release stands in for the git host, and git's own program for a missing git.
PYTHONPATH=$PWD python3 - "$out/sdists" <<'P'
import sys
from pathlib import Path
from blackwheel.core import site
from blackwheel.sources import sdist
from blackwheel.stacks import loader
here = site.here()
pin = loader.load("carried", here.constraints).projects["flash-attn"].sdist
kept = sdist.obtain(pin, project="flash-attn", store=Path(sys.argv[1]) / "store",
                    environment=here.environment, console=here.console)
kept.replace(Path(sys.argv[1]) / pin.name)
P
rm -rf "$out/sdists/store"
git=$(readlink -f "$(command -v git)")
cp "$git" "$out/bin/git"
ldd "$git" | awk '/libpcre2|libz\./ {print $3}' | xargs -I{} cp -L {} "$out/bin/"

cat > "$out/README" <<T
Everything that a machine without a network needs to build flash-attention's quickstart kernels
against its own torch: sh run.sh [PYTHON] [ARCHS]
PYTHON is the interpreter that has torch (default /opt/torch/.venv/bin/python3), ARCHS are '9.0;12.0a'.
Wanted there: CUDA toolkit 13.0 (CUDA_HOME, or BLACKWHEEL_CUDA_HOME, or /usr/local/cuda-13.0), g++,
Python.h of that Python. WORK=FOLDER says where (default /var/tmp/carried); wheels end in \$WORK/wheels.
T
du -sh "$out" | cut -f1
