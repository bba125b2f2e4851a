#!/usr/bin/env bash
# What .ci/run and .ci/full are made of; sourced by them from the root of the tree.

# Open MPI as root and with more ranks than cores.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1

mkdir -p build/logs
failed_phases=()

# phase NAME COMMAND...: runs a phase; a failure is noted and the next phase goes on.
phase() {
  local name=$1 start=$SECONDS result=passed
  shift
  printf '\n== %s\n' "$name"
  if ! "$@"; then
    result=FAILED
    failed_phases+=("$name")
  fi
  printf '== %s %s in %d s\n' "$name" "$result" "$((SECONDS - start))"
}

# Prints the closing lines of the CTest run in this log once more, then ends with the verdict.
finish() {
  printf '\n== %d s in all' "$SECONDS"
  if [[ ${#failed_phases[@]} -gt 0 ]]; then printf '; FAILED: %s' "$(IFS=,; echo "${failed_phases[*]}")"; fi
  printf '\n\n'
  sed -n '/tests passed, .* out of/,$p' "$1"
  [[ ${#failed_phases[@]} -eq 0 ]]
  exit
}

suite() { # suite LOG COMMAND...
  local log=$1
  shift
  "$@" 2>&1 | tee "$log" | grep -vE '^ *(Start +[0-9]+:|[0-9]+/[0-9]+ Test .* Passed )'
}

# The tests labelled `concurrency` under a sanitizer preset.
sanitizer() {
  cmake --preset "$1" >"build/logs/$1-configure.log" || { tail "build/logs/$1-configure.log"; return 1; }
  cmake --build --preset "$1" >"build/logs/$1-build.log" || { grep -A 30 FAILED "build/logs/$1-build.log"; return 1; }
  suite "build/logs/$1-tests.log" ctest --preset "$1" --parallel "$(nproc)" --output-junit "$PWD/build/$1/tests.xml" &&
    tests/check_skips.sh "build/$1/tests.xml"
}

# Name of a clang++ that has libFuzzer and _Float16.
find_clang() {
  local version
  for version in 22 21 20 19 18 17 16 15; do
    if command -v "clang++-$version"; then return; fi
  done
}

# fuzz SECONDS: each fuzzer for so long, with AddressSanitizer and UndefinedBehaviorSanitizer.
fuzz() {
  local compiler
  compiler=$(find_clang)
  [[ -n $compiler ]] || { echo 'skipped: no clang++ of version 15 or later here'; return 0; }
  cmake -S . -B build/fuzz -G Ninja -DFLEX_FUZZ=ON -DFLEX_SANITIZE=address,undefined -DFLEX_CUDA=OFF -DFLEX_MPI=OFF \
    -DFLEX_WERROR=OFF -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=RelWithDebInfo >build/logs/fuzz-configure.log ||
    { tail build/logs/fuzz-configure.log; return 1; }
  cmake --build build/fuzz --target flex_fuzz >build/logs/fuzz-build.log ||
    { grep -A 30 FAILED build/logs/fuzz-build.log; return 1; }
  tests/fuzz/run.sh build/fuzz "$1"
}

format_check() {
  command -v clang-format >/dev/null || { echo 'skipped: no clang-format here'; return 0; }
  git ls-files -z '*.h' '*.cpp' '*.cu' '*.cuh' | xargs -0 -r clang-format --dry-run --Werror
}

# Name of a clang-tidy that knows C++20 lambdas well enough; installed where that is possible.
find_clang_tidy() {
  local version
  for version in 22 21 20 19 18 17 16; do
    if command -v "clang-tidy-$version"; then return; fi
  done
  if [[ $(id -u) -eq 0 ]] && apt-get install -y --no-install-recommends clang-tidy-19 >build/logs/clang-tidy-install.log 2>&1; then
    command -v clang-tidy-19
  fi
}

# A browser for the tests of reports; without one they are skipped.
browser() {
  if command -v chromium chromium-browser google-chrome >/dev/null; then return; fi
  if [[ $(id -u) -ne 0 ]]; then echo 'skipped: no Chromium here, and not root to install it'; return; fi
  timeout 300 env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium \
    >build/logs/chromium-install.log 2>&1 || echo 'skipped: chromium could not be installed'
}

# tidy SECONDS FILES...: clang-tidy on these sources, in the time given.
tidy() {
  local limit=$1 program log=build/logs/clang-tidy.log
  shift
  program=$(find_clang_tidy)
  [[ -n $program ]] || { echo 'skipped: no clang-tidy of version 16 or later here'; return 0; }
  echo "$program on $# files"
  [[ $# -gt 0 ]] || return 0
  printf '%s\0' "$@" | timeout "$limit" xargs -0 -n 1 -P "$(nproc)" \
    "$program" -p build/release --quiet --extra-arg=-Wno-error >"$log" 2>/dev/null
  local status=$?
  grep -E ': (warning|error): ' "$log" | sort -u
  if [[ $status -eq 124 ]]; then
    echo "stopped after $limit s; some files were not checked"
    ! grep -qE ': (warning|error): ' "$log"
  else
    return "$status"
  fi
}

# Sources of the build that changed since the main branch (on it: by the last commit), or that include a changed header.
changed_sources() {
  local base header
  base=$(git merge-base HEAD origin/HEAD 2>/dev/null)
  if [[ -z $base || $base == $(git rev-parse HEAD) ]]; then base=$(git rev-parse -q --verify HEAD~1) || return 0; fi
  {
    git diff --name-only --diff-filter=d "$base" -- '*.cpp'
    git diff --name-only --diff-filter=d "$base" -- '*.h' | while read -r header; do
      git grep -lF "#include \"$header\"" -- '*.cpp'
    done
  } | built_sources
}

# Those of the sources on standard input that the release build compiles, each once.
built_sources() {
  local source
  awk '!seen[$0]++' | while read -r source; do
    if grep -qF "\"file\": \"$PWD/$source\"" build/release/compile_commands.json; then echo "$source"; fi
  done
}
