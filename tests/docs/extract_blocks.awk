# Cuts a page of Markdown into what run_page.sh runs: awk -v out=DIR -f extract_blocks.awk PAGE
#
# Writes each block to DIR/LINE, where LINE is that of its fence, and prints one line for each in the order of the page:
#   LINE setup|sh|session|output MARK
# The file of a script begins with empty lines, so that its lines have the numbers that they have in the page.
# A mark is a comment in the line before a fence: <!-- test: MARK -->. What marks there are is said in docs/contributing.md.

function complain(text) {
  printf "%s:%d: %s\n", FILENAME, FNR, text > "/dev/stderr"
  failed = 1
}

function begin(block_kind) {
  kind = block_kind
  start = FNR
  file = out "/" start
  printf "" > file
  if (kind == "sh" || kind == "setup") for (i = 0; i < FNR; ++i) print "" > file
}

function end() {
  close(file)
  print start, kind, mark
  kind = mark = ""
}

kind == "setup" && /^-->$/ { end(); next }
kind == "skip" && /^```$/ { kind = ""; next }
kind != "" && kind != "setup" && /^```$/ { end(); next }
kind == "skip" { next }
kind != "" {
  if (kind == "output" && FNR == start + 1 && /^\$ /) kind = "session"
  print > file
  next
}
/^<!-- test: setup$/ { begin("setup"); mark = "-"; next }
/^<!-- test: .* -->$/ {
  mark = $0
  sub(/^<!-- test: /, "", mark)
  sub(/ -->$/, "", mark)
  if (mark !~ /^(gpu|mpi|long|several GPUs, not run|not run: .+|output(, other numbers)?(, long)?)$/) complain("no such mark: " mark)
  next
}
/^ +```sh/ { complain("indented commands are not tested: begin the fence in the first column") }
/^```sh$/ {
  if (mark == "") mark = "-"
  if (mark ~ /^output/) complain("a mark of output before commands")
  begin("sh")
  next
}
/^```/ {
  if (mark ~ /^output/) begin("output")
  else {
    if (mark != "") complain("mark '" mark "' before what is neither commands nor output")
    mark = ""
    kind = "skip"
  }
  next
}
mark != "" { complain("mark '" mark "' is not followed by a block") ; mark = "" }
END {
  if (kind != "") complain("a block without an end")
  exit failed
}
