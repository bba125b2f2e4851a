#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/traces/read_property.h"

/// libFuzzer's entry: every input is a file. Built by -DFLEX_FUZZ=ON with clang; docs/trace-format.md says
/// how to run it.
// NOLINTNEXTLINE(readability-identifier-naming): the name that libFuzzer looks for
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kMaxLine = 4096;
  (void)flex::testing::read_and_check({reinterpret_cast<const char*>(data), size}, kMaxLine);
  return 0;
}
