#include "tests/support/validation_tables.h"

#include <fmt/format.h>

#include <cstdio>
#include <string_view>

/// Prints the tables of docs/validation.md between its markers; with `--ranges` that of parameter ranges.
int main(int argc, char** argv) {
  const bool ranges = argc > 1 && std::string_view(argv[1]) == "--ranges";
  fmt::print("{}", ranges ? flex::testing::parameter_range_table() : flex::testing::validation_tables());
  return 0;
}
