#!/usr/bin/env bash
# nccl_failures.sh JOB [LOGS]: NCCL jobs of 3 processes on one GPU (nccl_processes.sh) in which a process is killed, stopped,
# asleep, refuses, or does not belong. Some run at once; a line for each says whether every surviving process ended in time and
# named the rank and the operation. Status 1 if one did not.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
job=$1
logs=${2:-$(mktemp -d)}
mkdir -p "$logs"
ranks=3
limit=60
port=$((21000 + RANDOM % 8000))

start() { # NAME WAY [VARIABLE=VALUE]...: a job in the background, with a port of its own unless it is told one
  local name=$1 way=$2
  shift 2
  port=$((port + 8))
  env PORT=$port FLEX_JOB="$name$$" "$@" timeout $limit "$here/nccl_processes.sh" $ranks "$job" "$way" >"$logs/$name.log" 2>&1
  echo "status $?" >>"$logs/$name.log"
}

failed=0
expect() { # NAME RANKS TEXT: each of these ranks says the text
  local name=$1 wanted=$2 text=$3 rank missing=''
  for rank in $wanted; do
    grep -qF "[$rank] $(printf '%s' "${text//RANK/$rank}")" "$logs/$name.log" || missing+=" $rank"
  done
  if [[ -z $missing ]]; then
    printf '%-22s passed: ranks %s: %s\n' "$name" "$wanted" "$text"
  else
    printf '%-22s FAILED: rank%s did not say "%s"; see %s\n' "$name" "$missing" "$text" "$logs/$name.log"
    failed=1
  fi
}

batch() { # WAY...: these at once
  local way
  for way in "$@"; do
    start "$way" "$way" &
    port=$((port + 8))
  done
}
batch end_well killed_on_rank_1 stopped_on_rank_1 sleep_on_rank_1
wait
batch throw_on_rank_1 abort_on_rank_1 differ_on_rank_1
start wrong_world end_well WORLD=8 &
wait
shared=$((port + 100))
start first_of_two hold PORT=$shared &
(sleep 3 && start second_of_two end_well PORT=$shared) &
wait

if grep -q 'no GPU\|has none\|no CUDA' "$logs/end_well.log"; then
  echo 'SKIPPED: no GPU'
  [[ ${FLEX_REQUIRE_CUDA:-0} != 1 ]]
  exit
fi
group='in group {0,1,2}'
expect end_well '0 1 2' 'rank RANK ended well'
expect killed_on_rank_1 '0 2' "flexmoe: rank RANK: rank 1 is gone during all_to_all (dispatch) #2 $group: its process ended"
expect stopped_on_rank_1 '0 2' "flexmoe: rank RANK: rank 1 does not answer during all_to_all (dispatch) #2 $group: nothing came from"
expect sleep_on_rank_1 '0 2' "flexmoe: rank RANK: all_to_all (dispatch) $group: rank 1 did not arrive within 10000 ms"
expect throw_on_rank_1 '0 2' 'flexmoe: rank RANK: rank 1 failed: no such expert'
expect throw_on_rank_1 '1' 'flexmoe: rank 1: no such expert'
expect abort_on_rank_1 '0 1 2' 'flexmoe: rank RANK: the watchdog found no progress'
expect differ_on_rank_1 '0 1 2' 'flexmoe: rank RANK: the ranks of group {0,1,2} do not call the same: '
expect wrong_world '0 1 2' 'flexmoe: rank RANK: join: rank 2 was started as one of 8 ranks, rank 0 as one of 3; start all with'
expect first_of_two '0 1 2' 'rank RANK ended well'
expect second_of_two '0' 'flexmoe: rank 0: rank 0 cannot listen at 127.0.0.1:'
expect second_of_two '1 2' "flexmoe: rank RANK: 127.0.0.1:$shared belongs to job first_of_two"
exit $failed
