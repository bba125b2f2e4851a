#!/usr/bin/env bash
# tests/docs/run_page.sh PAGE quick|long|gpu SCRATCH BUILD
#
# Runs the commands of a page of the documentation, a path from the root of this tree, as its reader would: in the root of the tree,
# with the program of the build folder BUILD in the path, and an empty tuning cache. SCRATCH is made anew and has links to
# the tree's files; what commands write stays there. `quick` leaves out blocks marked `long`, `long` runs both, `gpu` those
# marked `gpu` alone; without FLEX_REQUIRE_CUDA=1 that is skipped (status 77). Marks: docs/contributing.md.
set -euo pipefail

page=$1 mode=$2 scratch=$3 build=$4
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$source/tests/docs

if [[ $mode == gpu && ${FLEX_REQUIRE_CUDA:-0} != 1 ]]; then
  echo "$page: needs a GPU; set FLEX_REQUIRE_CUDA=1 to run it"
  exit 77
fi

rm -rf "$scratch"
mkdir -p "$scratch/blocks" "$scratch/tree/build"
find "$source" -mindepth 1 -maxdepth 1 ! -name '.*' ! -name 'build*' -exec ln -s -t "$scratch/tree" {} +
ln -s "$build" "$scratch/tree/build/release"
export PATH="$build/cli:$PATH" FLEX_CACHE="$scratch/tree/tuning.db" NO_COLOR=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1

# Sourced by each block's bash: says which line of the page failed.
cat >"$scratch/prologue" <<'PROLOGUE'
unset BASH_ENV
set -eE -o pipefail
trap 'printf "%s:%s: failed with %s: %s\n" "$FLEX_PAGE" "$LINENO" "$?" "$(sed -n "${LINENO}p" "$0")" >&2' ERR
PROLOGUE

num_run=0
declare -A left_out=()

# run SCRIPT: its standard output goes to $scratch/printed, and is shown if it fails.
run() {
  if ! (cd "$scratch/tree" && FLEX_PAGE=$page BASH_ENV=$scratch/prologue bash "$1" </dev/null >"$scratch/printed" 2>"$scratch/errors"); then
    tail -n 30 "$scratch/printed"
    tail -n 30 "$scratch/errors"
    exit 1
  fi
}

# compare LINE LIKE SHOWN: with what was printed last.
compare() {
  awk -v like="$2" -f "$here/compare_output.awk" "$3" "$scratch/printed" || {
    echo "$page:$1: shows something else than was printed (whole output: $scratch/printed)"
    exit 1
  }
}

# session LINE LIKE FILE: runs each line `$ COMMAND`, and compares what follows it with what it printed.
session() {
  local line number=0 at=$1 is_open=no
  : >"$scratch/shown"
  while IFS= read -r line; do
    number=$((number + 1))
    if [[ $line == '$ '* ]]; then
      if [[ $is_open == yes ]]; then compare "$at" "$2" "$scratch/shown"; fi
      at=$(($1 + number))
      { yes '' | head -n "$((at - 1))" || true; printf '%s\n' "${line#'$ '}"; } >"$scratch/command"
      run "$scratch/command"
      : >"$scratch/shown"
      is_open=yes
    else
      printf '%s\n' "$line" >>"$scratch/shown"
    fi
  done <"$3"
  compare "$at" "$2" "$scratch/shown"
}

# Why a block with this mark is left out in this mode; nothing if it runs.
reason() { # reason KIND MARK
  case $2 in
    'several GPUs, not run') echo 'needs several GPUs' ;;
    'not run: '*) echo "${2#not run: }" ;;
    gpu) [[ $mode == gpu ]] || echo 'needs a GPU' ;;
    mpi) if [[ $mode == gpu ]]; then echo 'needs no GPU'; elif [[ ${FLEX_HAS_MPI:-1} == 0 ]]; then echo 'needs MPI'; fi ;;
    long | *', long')
      if [[ $mode == gpu ]]; then echo 'needs no GPU'; elif [[ $mode == quick ]]; then echo 'takes long'; fi ;;
    *) if [[ $mode == gpu && $1 != setup ]]; then echo 'needs no GPU'; fi ;;
  esac
}

index=$(cd "$source" && awk -v out="$scratch/blocks" -f "$here/extract_blocks.awk" "$page")
ran_last=no
while read -r line kind mark; do
  why=$(reason "$kind" "$mark")
  like=0
  if [[ $mark == *'other numbers'* ]]; then like=1; fi
  if [[ $kind == output ]]; then
    if [[ $ran_last == yes && -z $why ]]; then compare "$line" "$like" "$scratch/blocks/$line"; fi
    continue
  fi
  if [[ -n $why ]]; then
    left_out[$why]=$((${left_out[$why]:-0} + 1))
    ran_last=no
    continue
  fi
  begun=$SECONDS
  case $kind in
    setup | sh) run "$scratch/blocks/$line" ;;
    session) session "$line" "$like" "$scratch/blocks/$line" ;;
  esac
  printf '%s:%s: %s passed in %s s\n' "$page" "$line" "$kind" "$((SECONDS - begun))"
  ran_last=yes
  num_run=$((num_run + 1))
done <<<"$index"

printf '%s: %s block(s) run' "$page" "$num_run"
for why in "${!left_out[@]}"; do printf '; %s not run: %s' "${left_out[$why]}" "$why"; done
printf '\n'
