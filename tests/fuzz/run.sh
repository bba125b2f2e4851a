#!/usr/bin/env bash
# tests/fuzz/run.sh BUILD SECONDS: every fuzzer of a build with FLEX_FUZZ=ON for so long, from its corpus on. What it finds on
# the way is kept in BUILD/fuzz_corpus, an input that fails in BUILD/fuzz_failures. The status is 1 if there is one.
set -uo pipefail
[[ $# -eq 2 ]] || { grep '^#' "$0" | sed -n '2,3s/^# //p' >&2; exit 2; }
build=$1 seconds=$2 failed=0
mkdir -p "$build/fuzz_failures"
while IFS=';' read -r name seeds; do
  corpus=$build/fuzz_corpus/$name log=$build/fuzz_failures/$name.log
  mkdir -p "$corpus"
  IFS=';' read -ra paths <<<"$seeds"
  for path in "${paths[@]}"; do find "$path" -type f -exec cp -n {} "$corpus" \;; done
  if "$build/tests/fuzz/flex_fuzz_$name" -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=2048 -timeout=10 \
    -artifact_prefix="$build/fuzz_failures/$name-" "$corpus" >"$log" 2>&1; then
    printf '%s: %s\n' "$name" "$(grep -o 'Done [0-9]* runs in [0-9]* second' "$log")s"
  else
    printf '%s: FAILED, see %s\n' "$name" "$log"
    tail -n 30 "$log"
    failed=1
  fi
done <"$build/tests/fuzz/corpora.txt"
exit "$failed"
