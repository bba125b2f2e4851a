#!/usr/bin/env bash
# nccl_processes.sh NUM_RANKS COMMAND...: starts COMMAND once for each rank, all on this machine and on one GPU, as torchrun
# would start it on as many GPUs. NCCL takes each process for a machine of its own (NCCL_HOSTID) and goes through sockets: a
# mode to check results in, whose times say nothing about a network.
#
# Ends when all processes have ended, with the largest status. The lines of rank N begin with `[N] `. PORT: rank 0's, one of
# 64 in a row; WORLD: says another number of ranks to the last process.
set -uo pipefail
ranks=$1
shift
port=${PORT:-$((21000 + RANDOM % 9000))}
export MASTER_ADDR=127.0.0.1 MASTER_PORT=$port WORLD_SIZE=$ranks LOCAL_WORLD_SIZE=$ranks
export FLEX_JOB=${FLEX_JOB:-job$$} NCCL_SOCKET_IFNAME=lo CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0} GTEST_COLOR=no
processes=()
for ((rank = 0; rank < ranks; ++rank)); do
  if [[ -n ${WORLD:-} && $rank -eq $((ranks - 1)) ]]; then export WORLD_SIZE=$WORLD LOCAL_WORLD_SIZE=$WORLD; fi
  RANK=$rank LOCAL_RANK=$rank NCCL_HOSTID=flex-$FLEX_JOB-$rank "$@" > >(sed -u "s/^/[$rank] /") 2>&1 &
  processes+=($!)
done
# A process that was stopped never ends by itself: it gets some seconds after the others.
end_stopped() {
  for process in "${processes[@]}"; do
    if [[ $(ps -o stat= -p "$process" 2>/dev/null) == T* ]]; then kill -KILL "$process"; fi
  done
}
trap 'kill -KILL "${processes[@]}" 2>/dev/null' EXIT
status=0
running=("${processes[@]}")
while ((${#running[@]} > 0)); do
  left=()
  for process in "${running[@]}"; do
    if kill -0 "$process" 2>/dev/null; then left+=("$process"); fi
  done
  running=("${left[@]}")
  stopped=0
  for process in "${running[@]}"; do
    if [[ $(ps -o stat= -p "$process" 2>/dev/null) == T* ]]; then stopped=$((stopped + 1)); fi
  done
  if ((${#running[@]} > 0 && stopped == ${#running[@]})); then end_stopped; fi
  sleep 0.1
done
for process in "${processes[@]}"; do
  wait "$process"
  code=$?
  if ((code > status)); then status=$code; fi
done
wait
trap - EXIT
exit "$status"
