#!/usr/bin/env bash
# bench/effectiveness.sh [OUTPUT_FOLDER] [OPTIONS OF flexmoe_effectiveness...]: builds the effectiveness study on a GPU host and runs it, in
# under 8 minutes without the build. Leaves in the folder effectiveness.json, tables.md, progress.log, and effectiveness.md: docs/effectiveness.md
# with its results replaced. Packages that the host lacks may lie under .gpu-deps. With BUILD_ONLY=1 nothing is run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-build/effectiveness}
shift || true
build=build/gpu
mkdir -p build "$out"
export PATH=/usr/local/cuda/bin:$PATH
cmake -S . -B $build -G Ninja -DFLEX_CUDA=ON -DCMAKE_BUILD_TYPE=Release -DFLEX_BUILD_BENCHMARKS=ON -DFLEX_WERROR=OFF \
  -DCMAKE_PREFIX_PATH="$PWD/.gpu-deps/usr" >build/gpu.log 2>&1 || { tail -20 build/gpu.log; exit 1; }
ninja -C $build flexmoe_effectiveness >>build/gpu.log 2>&1 || { grep -E "error|FAILED" build/gpu.log | head -20; exit 1; }
if [[ -n ${BUILD_ONLY:-} ]]; then exit 0; fi
device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader)
echo "$device"
timeout 500 $build/bench/flexmoe_effectiveness --json "$out/effectiveness.json" --markdown "$out/tables.md" "$@" \
  2> >(tee "$out/progress.log" >&2)
{
  sed '/<!-- results -->/q' docs/effectiveness.md
  printf '\n%s\n\n' "$device"
  cat "$out/tables.md"
  echo
  sed -n '/<!-- end of results -->/,$p' docs/effectiveness.md
} >"$out/effectiveness.md"
