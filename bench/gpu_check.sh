#!/usr/bin/env bash
# bench/gpu_check.sh [OUTPUT_FOLDER] [tests|bench|nccl|all]: builds on a GPU host, and runs the GPU's tests and the sanitizers, or the suites
# and uneven routing, or jobs of NCCL processes on the one GPU, or all: a line for each test, JSON of the suites in the folder. Packages that the host lacks may lie under .gpu-deps.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-build/gpu_results}
build=build/gpu
mkdir -p build "$out"
export PATH=/usr/local/cuda/bin:$PATH FLEX_REQUIRE_CUDA=1
nccl=AUTO
targets=()
if [[ ${2:-all} == nccl ]]; then
  nccl=ON
  targets=(flex_nccl_communicator_test flex_nccl_layer_test flex_nccl_job flexmoe)
fi
cmake -S . -B $build -G Ninja -DFLEX_CUDA=ON -DCMAKE_BUILD_TYPE=Release -DFLEX_BUILD_BENCHMARKS=ON -DFLEX_WERROR=OFF -DFLEX_NCCL=$nccl \
  -DCMAKE_PREFIX_PATH="$PWD/.gpu-deps/usr" >build/gpu.log 2>&1 || { tail -20 build/gpu.log; exit 1; }
ninja -C $build -k 0 "${targets[@]}" >>build/gpu.log 2>&1 || grep -E "error|FAILED" build/gpu.log | head -20
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader

check() {  # NAME LIMIT_S COMMAND...
  local name=$1 limit=$2
  shift 2
  timeout "$limit" "$@" >"$out/$name.log" 2>&1
  local status=$?
  printf '%-28s exit %d  %s\n' "$name" "$status" "$(grep -E '^\[  (PASSED|FAILED)|ERROR SUMMARY|RACECHECK SUMMARY' "$out/$name.log" | head -3 | tr '\n' ' ')"
}
test=$build/tests
run_tests() {
  check layer 60 $test/runtime/flex_cuda_layer_test
  check table_in_double 120 $test/runtime/flex_cuda_table_test
  check dense_layer 60 $test/runtime/flex_gshard_layer_test
  check training_memory 60 $test/runtime/flex_training_memory_test
  check communicator 60 $test/runtime/flex_local_cuda_test
  check kernels_shared 60 $test/kernels/flex_kernels_moe_test --gtest_filter='*cuda*'
  check kernels 100 $test/kernels/flex_kernels_moe_cuda_test
  check products 100 $test/kernels/flex_kernels_ffn_cuda_test
  check memcheck 90 compute-sanitizer --tool memcheck $test/runtime/flex_cuda_layer_test \
    --gtest_filter='*W4_E2*:*Borrowed*:*Nan*:*bf16*:*Replayed*'
  check memcheck_kernels 90 compute-sanitizer --tool memcheck $test/kernels/flex_kernels_moe_test --gtest_filter='*cuda*'
  check memcheck_rows 90 compute-sanitizer --tool memcheck $test/kernels/flex_kernels_moe_cuda_test --gtest_filter='*Slot*:*Row*:*Permute*'
  check racecheck 90 compute-sanitizer --tool racecheck $test/kernels/flex_kernels_moe_test --gtest_filter='*cuda*-*Ffn*'
  check initcheck 60 compute-sanitizer --tool initcheck $test/runtime/flex_cuda_layer_test --gtest_filter='*W1_E4*'
}
flexmoe=$build/cli/flexmoe
suite() {  # SUITE NAME OPTIONS...: JSON in SUITE_NAME.json
  local suite=$1 name=$2
  shift 2
  timeout 300 $flexmoe bench --device cuda:0 --suite "$suite" --json "$@" >"$out/${suite}_$name.json" || echo "$suite $name: exit $?"
}
uneven() {
  for imbalance in hot_expert half_empty; do
    for plan in "r1 d1 linear" "r1 d1 linear counted"; do
      timeout 40 $flexmoe bench --device cuda:0 --ranks 1 --dtype bf16 --tokens 16384 --model-dim 2048 --hidden-dim 2048 --experts 16 \
        --top-k 2 --capacity-factor 0 --activation relu --imbalance $imbalance --plan "$plan" --repeats 15 | grep -E '^r1'
    done
  done
}
run_benchmarks() {
  suite h200 fp16 --dtype fp16
  suite h200 bf16 --dtype bf16
  suite h200 tf32 --dtype fp32 --tf32
  suite memory fp32 --dtype fp32
  suite memory tf32 --dtype fp32 --tf32
  suite switching bf16 --dtype bf16
  uneven
}

# Jobs of processes that share the GPU: their results, not their times, are of interest. A third argument picks some by name.
nccl_only=${3:-.}
nccl_job() {  # NAME LIMIT_S NUM_RANKS COMMAND...
  local name=$1 limit=$2
  shift 2
  [[ $name =~ $nccl_only ]] || return 0
  local begin=$SECONDS
  timeout "$limit" tests/runtime/nccl_processes.sh "$@" >"$out/$name.log" 2>&1
  local status=$?
  printf '%-28s exit %d in %d s  %s\n' "$name" "$status" "$((SECONDS - begin))" \
    "$(grep -E '\[  (PASSED|FAILED)  \] [0-9]|equal' "$out/$name.log" | cut -c1-60 | sort -u | head -8 | tr '\n' ' ')"
}
run_nccl() {
  local quick='-*AllocateNothing*:*EveryWorldAndNodeSize*'
  PORT=21000 nccl_job nccl_communicator_2 60 2 $test/runtime/flex_nccl_communicator_test --gtest_filter="$quick" &
  PORT=21100 nccl_job nccl_layer_2 60 2 $test/runtime/flex_nccl_layer_test &
  wait
  PORT=21200 nccl_job nccl_communicator_4 70 4 $test/runtime/flex_nccl_communicator_test --gtest_filter="$quick" &
  PORT=21300 NCCL_COMM_ID=127.0.0.1:21350 nccl_job nccl_bench_4 60 4 $flexmoe bench --launcher nccl --device cuda:0 \
    --ranks-per-node 2 --plan "r2 d2 2dh" --experts 2 --tokens 256 --model-dim 64 --hidden-dim 64 --repeats 3 &
  wait
  PORT=21400 nccl_job nccl_layer_4 70 4 $test/runtime/flex_nccl_layer_test --gtest_filter='*/2:*/4'
  if [[ nccl_failures =~ $nccl_only ]]; then
    timeout 110 tests/runtime/nccl_failures.sh $test/runtime/flex_nccl_job "$out/nccl_failures"
  fi
  PORT=21500 nccl_job nccl_layer_8 90 8 $test/runtime/flex_nccl_layer_test --gtest_filter='*/2:*/8'
  PORT=21600 nccl_job nccl_communicator_8 60 8 $test/runtime/flex_nccl_communicator_test --gtest_filter='*/3:*Stress*/2'
}
case ${2:-all} in
  tests) run_tests ;;
  bench) run_benchmarks ;;
  nccl) run_nccl ;;
  all) run_tests; run_benchmarks; if [[ -x $test/runtime/flex_nccl_job ]]; then run_nccl; fi ;;
  *) echo "gpu_check.sh: '$2' is unknown; use tests, bench, nccl or all" >&2; exit 2 ;;
esac
