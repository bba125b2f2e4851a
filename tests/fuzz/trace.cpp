#include "tests/fuzz/fuzz.h"
#include "tests/traces/read_property.h"

/// Every input is a routing trace, packed if it begins as gzip does.
void fuzz_one(std::string_view input) {
  constexpr std::size_t kMaxLine = 4096;
  (void)flex::testing::read_and_check(std::string(input), kMaxLine);
}
