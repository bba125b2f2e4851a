#!/usr/bin/env bash
# tests/performance/count_instructions.sh NAME PROGRAM COMPILER BASELINE
#
# Counts the instructions of measured_work() in PROGRAM and compares them with those of NAME in BASELINE: 5% more fail; 5%
# less fail too, because the next slip would hide in the gap. Exit 77, skipped: no valgrind, or a baseline of another compiler.
# Prints the count; BASELINE is changed by hand, in the commit that explains it.
set -euo pipefail
[[ $# -eq 4 ]] || { grep '^# ' "$0" | sed 's/^# //' >&2; exit 2; }
name=$1 program=$2 compiler=$3 baseline=$4
kSkipped=77

command -v valgrind >/dev/null || { echo "skipped: no valgrind here"; exit "$kSkipped"; }
value_of() { sed -n "s/^ *\"$1\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$baseline"; }
log=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null '--toggle-collect=measured_work()' "$program" 2>&1) ||
  { echo "$log"; exit 1; }
count=$(sed -n 's/.*Collected : \([0-9]*\).*/\1/p' <<<"$log")
[[ -n $count && $count -gt 0 ]] || { echo "callgrind counted nothing: $log"; exit 1; }
expected=$(value_of "$name")
echo "$name: $count instructions, the baseline has ${expected:-none}"

[[ $(value_of compiler) == "$compiler" ]] ||
  { echo "skipped: the baseline is of $(value_of compiler), this build of $compiler"; exit "$kSkipped"; }
[[ -n $expected ]] || { echo "$baseline has no \"$name\""; exit 1; }
if ((count * 100 > expected * 105)); then echo "more than 5% above the baseline"; exit 1; fi
if ((count * 100 < expected * 95)); then echo "more than 5% below the baseline: store the new count"; exit 1; fi
