#!/usr/bin/env bash
# tests/docs/run_page_test.sh SCRATCH: what run_page.sh makes of pages that are right, and of pages that are not.
set -euo pipefail

scratch=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rm -rf "$scratch"
mkdir -p "$scratch/build/cli"
failed=0

# page: writes standard input to the page that the next expect() runs.
page() { cat >"$scratch/page.md"; }

# expect STATUS TEXT [MODE]: of running the page; TEXT is somewhere in what it prints.
expect() {
  local status=0
  "$here/run_page.sh" "$scratch/page.md" "${3:-quick}" "$scratch/run" "$scratch/build" >"$scratch/out" 2>&1 || status=$?
  if [[ $status -ne $1 ]] || ! grep -qF -- "$2" "$scratch/out"; then
    printf 'expected status %s and "%s"; got status %s and\n' "$1" "$2" "$status"
    cat "$scratch/out" "$scratch/page.md"
    failed=1
  fi
}

page <<'END'
text
```sh
echo one > file    # a comment
cat <<HERE \
  | grep -q two
two
HERE
```
<!-- test: setup
test -f file
-->
```sh
head -n 1 < /dev/stdin
test -f tests/docs/run_page.sh
```
<!-- test: not run: no reason -->
```sh
false
```
<!-- test: long -->
```sh
echo long > file
```
END
expect 0 '3 block(s) run; 1 not run: '
expect 0 ' not run: no reason'
expect 0 '4 block(s) run; 1 not run: no reason' long

page <<'END'
```sh
true
false | cat
true
```
END
expect 1 'page.md:3: failed with 1: false | cat'

page <<'END'
<!-- test: gpu -->
```sh
echo "a GPU"
```
END
expect 0 '0 block(s) run; 1 not run: needs a GPU'
FLEX_REQUIRE_CUDA=0 expect 77 'needs a GPU' gpu
FLEX_REQUIRE_CUDA=1 expect 0 '1 block(s) run' gpu

page <<'END'
```sh
seq 5
```
<!-- test: output -->
```text
1
...
4
5
```
END
expect 0 '1 block(s) run'
sed -i 's/^5$/6/' "$scratch/page.md"
expect 1 'shown:   6'
sed -i '/^6$/d' "$scratch/page.md"
expect 1 'page.md:5: shows something else than was printed'

page <<'END'
<!-- test: output, other numbers -->
```text
$ printf 'time   1.0 ms\n-----\n'; echo other
time 12 us
---
...
$ echo 'r2 d4'
r1 d1
```
END
expect 0 '1 block(s) run'
sed -i 's/^r1 d1/r1 e1/' "$scratch/page.md"
expect 1 'page.md:7: shows something else'

page <<'END'
<!-- test: gpus -->
```sh
true
```
END
expect 1 'no such mark: gpus'

page <<'END'
<!-- test: long -->

```sh
true
```
END
expect 1 "mark 'long' is not followed by a block"

page <<'END'
1. a list
   ```sh
   true
   ```
END
expect 1 'indented commands are not tested'

exit "$failed"
