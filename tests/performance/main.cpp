#include <fmt/format.h>

#include "tests/performance/measured_work.h"

int main() {  // NOLINT(bugprone-exception-escape): ends a test
  prepare_work();
  fmt::print("{}\n", measured_work());
}
