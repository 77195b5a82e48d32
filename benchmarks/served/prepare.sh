#!/bin/sh
# Collects what a machine without any network, with torch 2.11.0 and CUDA 13.0, needs to build flash-attention whole and
# vLLM 0.26.0 for 9.0, and to serve from them: prepare.sh FOLDER, with blackwheel's environment active.
# THERE are packages that machine has beside its torch (repack.py makes wheels of them there): not carried.
set -eu
out=$1
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3.12}
uv=$(python3 -c 'from uv import find_uv_bin; print(find_uv_bin())')
mkdir -p "$out/blackwheel" "$out/wheels" "$out/store"
git -C "$checkout" archive HEAD | tar -x -C "$out/blackwheel"
cp "$here/served.toml" "$here/attention.toml" "$out/blackwheel/constraints/"
cp "$here"/0008-*.patch "$out/blackwheel/patches/vllm/0.26.0/"
(cd "$here" && ls 0008-*.patch) >> "$out/blackwheel/patches/vllm/0.26.0/series"
cd "$out/blackwheel"

# Sources, as the store keeps them: their trees are hashed again before they are used there.
export BLACKWHEEL_HOME="${BLACKWHEEL_HOME:-$out/../store}" PYTHONPATH=$PWD
invoke clone --stack attention
invoke clone --stack served
cp -r "$BLACKWHEEL_HOME/sources" "$out/store/"

# Wheels: what blackwheel requires; what vLLM requires at run time, as torch211 pins it; build tools.
"$uv" pip compile --quiet --no-header --no-annotate --only-binary :all: --python-version 3.12 \
  --python-platform x86_64-manylinux_2_28 --output-file "$out/own.txt" pyproject.toml
python3 -m blackwheel lock served
cat constraints/served/*.txt | grep -oE '^[a-z0-9-]+==[^ ]+' | while IFS= read -r pin; do
  name=${pin%%=*}
  echo " $(cat "$here/there.txt") " | tr '\n' ' ' | grep -q " $name " && continue
  case $name in setuptools) echo "$pin"; continue ;; esac
  cat "$out/own.txt" constraints/torch211/run-vllm-py312.txt | grep -oE "^$name==[^ ]+" | head -1 | grep . || echo "$pin"
done | sort -u > "$out/runs.txt"
rm -rf constraints/served constraints/attention
grep -oE '^[a-z0-9-]+==[^ ]+' "$out/own.txt" | sort -u > "$out/tool.txt"
comm -23 "$out/runs.txt" "$out/tool.txt" > "$out/carried.txt" # two versions of setuptools: not in one call
for list in tool carried; do
  "$python" -m pip download --quiet --no-deps --only-binary :all: --dest "$out/wheels" --requirement "$out/$list.txt"
done
rm "$out/own.txt" "$out/runs.txt" "$out/tool.txt" "$out/carried.txt"
cp "$here"/*.py "$here"/*.sh "$here/there.txt" "$out/"
du -sh "$out" | cut -f1
