#!/usr/bin/env bash
# tests/check_skips.sh TESTS.xml: fails if a test of this CTest report (--output-junit) did not run and is not named in
# expected_skips.txt.
set -euo pipefail

[[ -s $1 ]] || { echo "no report of tests at $1"; exit 1; }
expected=$(dirname "$0")/expected_skips.txt
unexpected=$(sed -n 's/.*<testcase name="\([^"]*\)".*status="\(notrun\|disabled\)".*/\1/p' "$1" |
  grep -vxEf <(grep -v -e '^#' -e '^$' "$expected") || true)

if [[ -n $unexpected ]]; then
  printf 'skipped, but not in %s:\n%s\n' "$expected" "$unexpected"
  exit 1
fi
