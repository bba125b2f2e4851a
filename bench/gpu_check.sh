#!/usr/bin/env bash
# bench/gpu_check.sh [OUTPUT_FOLDER] [tests|model|bench|profile|online|nccl|all]: builds on a GPU host, and runs the GPU's tests and the
# sanitizers, those of the model's layers, the suites and uneven routing, the profiler with predictions against execution, a policy that
# learns, jobs of NCCL processes on the one GPU, or all of it: a line for each test, JSON of the suites in the folder. Packages that the host
# lacks may lie under .gpu-deps.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-build/gpu_results}
build=build/gpu
mkdir -p build "$out"
export PATH=/usr/local/cuda/bin:$PATH FLEX_REQUIRE_CUDA=1
nccl=AUTO
case ${2:-all} in  # what the mode runs, and no more
  nccl)
    nccl=ON
    targets=(flex_nccl_communicator_test flex_nccl_layer_test flex_nccl_model_test flex_nccl_job flexmoe)
    ;;
  model) targets=(flexmoe flex_kernels_nn_test flex_cuda_model_test) ;;
  profile) targets=(flexmoe flex_cupti_gpu_test) ;;
  bench | online) targets=(flexmoe) ;;
  *) targets=(all) ;;
esac
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
run_model() {
  check layers 120 $test/kernels/flex_kernels_nn_test
  check model_on_ranks 120 $test/models/flex_cuda_model_test
  check memcheck_layers 240 compute-sanitizer --tool memcheck $test/kernels/flex_kernels_nn_test --gtest_filter='*cuda*'
  check racecheck_layers 240 compute-sanitizer --tool racecheck $test/kernels/flex_kernels_nn_test \
    --gtest_filter='*cuda*HandWorked*:*HandWorked*cuda*:*Norm*cuda*:*Window*cuda_bf16*:*Optimizer*cuda*-*Linear*'
  local file pass config
  for file in tests/golden/swin*.safetensors; do
    check "$(basename "$file" .safetensors)" 60 $flexmoe verify --device cuda:0 "$file"
  done
  check memcheck_model 240 compute-sanitizer --tool memcheck $flexmoe verify --device cuda:0 tests/golden/swinv2_moe_micro.safetensors
  for config in swin_moe_base_e32 swin_moe_base_e8 swin_base; do
    for pass in inference training; do
      timeout 90 $flexmoe bench --model models/configs/$config.json --device cuda:0 --ranks 1 --dtype bf16 --batch 128 --pass $pass --json \
        >"$out/${config}_$pass.json" || echo "$config $pass: exit $?"
      echo "$config $pass $(grep -E '"(images_per_s|share_of_matrix|peak_device_memory_bytes)"' "$out/${config}_$pass.json" | tr -d '\n')"
    done
  done
  timeout 120 bench/model_dtypes.sh $flexmoe models/configs/swinv2_moe_tiny_e8.json "$out" || echo "model_dtypes: exit $?"
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
run_profiling() {  # some 200 s
  check profiler 40 $test/runtime/flex_cupti_gpu_test
  timeout 40 $flexmoe bench --device cuda:0 --suite profiling --dtype bf16 --json >"$out/profiling.json" || echo "profiling: exit $?"
  tr -d '\n' <"$out/profiling.json" | sed 's/  */ /g; s/}, {/},\n{/g; s/\[ {/[\n{/'; echo
  local world
  for world in 1 2 4; do  # each by itself: what one has recorded is kept whatever becomes of the next
    timeout 75 $flexmoe simulate --validate --device cuda:0 --dtype bf16 --ranks $world --budget 30 --record "$out" --trace "$out/trace_w$world.json" \
      >"$out/validation_w$world.txt" 2>"$out/validation_w$world.err" || { echo "$world rank(s): exit $?"; tail -3 "$out/validation_w$world.err"; }
    tail -6 "$out/validation_w$world.txt"
  done
}
run_online() {
  timeout 120 $flexmoe bench --device cuda:0 --ranks 4 --dtype bf16 --tokens 2048 --model-dim 1024 --hidden-dim 4096 --experts 16 --top-k 2 \
    --policy online --steps 500 --imbalance W7 --record "$out/online.jsonl.gz" || echo "online: exit $?"
  timeout 20 $flexmoe trace check "$out/online.jsonl.gz" || echo "trace check: exit $?"
  timeout 60 $flexmoe replay "$out/online.jsonl.gz" --cluster hgx_h200 || echo "replay: exit $?"
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
  PORT=21700 nccl_job nccl_model_2 90 2 $test/models/flex_nccl_model_test --gtest_filter='*/2_ranks*' &
  PORT=21800 nccl_job nccl_model_4 120 4 $test/models/flex_nccl_model_test --gtest_filter='*/4_ranks*' &
  wait
  PORT=21500 nccl_job nccl_layer_8 90 8 $test/runtime/flex_nccl_layer_test --gtest_filter='*/2:*/8'
  PORT=21600 nccl_job nccl_communicator_8 60 8 $test/runtime/flex_nccl_communicator_test --gtest_filter='*/3:*Stress*/2'
}
case ${2:-all} in
  tests) run_tests ;;
  model) run_model ;;
  bench) run_benchmarks ;;
  profile) run_profiling ;;
  online) run_online ;;
  nccl) run_nccl ;;
  all)
    run_tests
    run_model
    run_benchmarks
    run_profiling
    run_online
    if [[ -x $test/runtime/flex_nccl_job ]]; then run_nccl; fi
    ;;
  *) echo "gpu_check.sh: '$2' is unknown; use tests, model, bench, profile, online, nccl or all" >&2; exit 2 ;;
esac
