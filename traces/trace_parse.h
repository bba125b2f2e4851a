#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "traces/routing_trace.h"

namespace flex {

/// Where a line stands, for messages.
struct TraceLine {
  std::string_view text;  ///< without its end
  std::string_view file;
  std::int64_t number = 1;  ///< from 1
};

/// The first line. @throws InputError naming file, line and field.
[[nodiscard]] TraceHeader parse_trace_header(const TraceLine& line);

/// A line after the first: strict JSON, in one walk over the text. The checksum, if there is one, and
/// needed_capacity are compared with what stands there.
struct ParsedLine {
  bool is_trailer = false;
  TraceTrailer trailer;
};
/// `record`: overwritten, its memory is used again; of no meaning after a trailer or an error.
/// @throws InputError naming file, line and field, what is there and what would be right.
ParsedLine parse_trace_line(const TraceLine& line, TraceRecord& record);

/// Takes the checksum off the end of a line, after comparing it: what is left lacks its closing brace. A line
/// without one comes back as it is. @throws InputError if it differs.
[[nodiscard]] bool remove_checksum(TraceLine& line);

}  // namespace flex
