#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

/// Parses one input; each target defines it in a file of its own. Returning means: the input was read, or
/// refused with an error that its reader promises. Whatever else it throws ends the fuzzer, with the input
/// kept.
///
/// Each target is built twice: flex_fuzz_NAME_replay runs its corpus and mutations of it, always the same
/// ones (a test); with -DFLEX_FUZZ=ON flex_fuzz_NAME is libFuzzer's.
void fuzz_one(std::string_view input);

namespace flex::testing {

/// @throws std::logic_error, which no reader does, if a promise is broken.
inline void require_promise(bool holds, const std::string& what) {
  if (!holds) throw std::logic_error("broken promise: " + what);
}

}  // namespace flex::testing
