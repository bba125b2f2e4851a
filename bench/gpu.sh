#!/usr/bin/env bash
# bench/gpu.sh [TARGET...]: builds on a GPU host (release, CUDA on, benchmarks on) and runs what is named: kernels, layer, speed, sanitize.
# Packages that the host lacks may lie under .gpu-deps. Prints a short table last.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=build/gpu
export PATH=/usr/local/cuda/bin:$PATH FLEX_REQUIRE_CUDA=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
mkdir -p build
cmake -S . -B $build -G Ninja -DFLEX_CUDA=ON -DCMAKE_BUILD_TYPE=Release -DFLEX_BUILD_BENCHMARKS=ON -DFLEX_WERROR=OFF \
  -DCMAKE_PREFIX_PATH="$PWD/.gpu-deps/usr" >build/gpu.log 2>&1 || { tail -20 build/gpu.log; exit 1; }
ninja -C $build -k 0 >>build/gpu.log 2>&1 || { grep -E "error|FAILED" build/gpu.log | head -40; }
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
for what in "$@"; do
  echo "== $what"
  case $what in
    kernels) ctest --test-dir $build -R '^kernels' -j 8 2>&1 | grep -vE "Passed|^ *Start" | tail -60 ;;
    layer) ctest --test-dir $build -L 'layer|gpu' -j 4 2>&1 | grep -vE "Passed|^ *Start" | tail -40 ;;
    *) eval "$what" ;;
  esac
done
