# Compares what a page shows with what a command printed: awk -v like=0|1 -f compare_output.awk SHOWN PRINTED
#
# A line `...` stands for any number of lines. With like=1 numbers and their units, and widths of columns, may differ.
# Prints the first shown line that was not printed, and fails.

function plain(line) {
  sub(/[ \t\r]+$/, "", line)
  if (!like) return line
  gsub(/[0-9]+([.,][0-9]+)*(e[-+]?[0-9]+)?( ?[kMG]?B| ?[num]?s|x|%)?/, "#", line)
  gsub(/--+/, "--", line)
  gsub(/  +/, " ", line)
  sub(/ $/, "", line)
  return line
}

NR == FNR { shown[++num_shown] = plain($0); next }
{ printed[++num_printed] = plain($0) }
END {
  while (num_shown > 0 && shown[num_shown] == "") --num_shown
  while (num_printed > 0 && printed[num_printed] == "") --num_printed
  at = 1
  for (i = 1; i <= num_shown; i = last + 1) {
    gap = 0
    while (i <= num_shown && shown[i] == "...") { gap = 1; ++i }
    for (last = i; last < num_shown && shown[last + 1] != "...";) ++last
    if (i > num_shown) { at = num_printed + 1; break }
    # What stands after the last `...` ends the output; what stands before the first one begins it.
    if (gap && last == num_shown && num_printed - (last - i) > at) at = num_printed - (last - i)
    longest = -1
    for (; at + last - i <= num_printed; ++at) {
      for (n = 0; n <= last - i && shown[i + n] == printed[at + n];) ++n
      if (n > longest) { longest = n; place = at }
      if (n > last - i || !gap) break
    }
    if (longest <= last - i) {
      if (longest < 0) { longest = 0; place = at }
      printf "shown:   %s\nprinted: %s\n", shown[i + longest],
             place + longest <= num_printed ? printed[place + longest] : "(the end)"
      exit 1
    }
    at += last - i + 1
  }
  if (at <= num_printed) { printf "shown:   (the end)\nprinted: %s\n", printed[at]; exit 1 }
}
