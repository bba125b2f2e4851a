#pragma once

#include <optional>
#include <string>
#include <vector>

#include "traces/trace_reader.h"

/// What holds for the reader whatever bytes it is given: used by the fuzzer and by the mutation tests.
namespace flex::testing {

/// What a reader made of some bytes.
struct ReadResult {
  std::optional<TraceHeader> header;  ///< nothing: the header could not be read
  std::vector<TraceRecord> records;
  std::optional<TraceTrailer> trailer;
  std::string error;  ///< of the header, or the damage; empty: the file is whole
};

/// Reads with TraceDamage::kStop. Bytes that begin as gzip does are unpacked.
/// @throws std::logic_error if the reader breaks a promise: it throws something else than InputError, the two
/// ways of taking damage disagree, an error does not name the file, or what was read cannot be written and
/// read again as the same.
[[nodiscard]] ReadResult read_and_check(const std::string& bytes, std::size_t max_line_bytes = kMaxLineBytes);

}  // namespace flex::testing
