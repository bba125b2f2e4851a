#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "traces/routing_trace.h"

/// Lines of a trace as text. docs/trace-format.md says what they hold.
namespace flex {

/// What a header names itself.
inline constexpr std::string_view kTraceFormat = "flexmoe routing trace";
/// Begins the last member of a line; what stands before it is what the checksum is over.
inline constexpr std::string_view kChecksumMember = R"(,"crc32":")";
inline constexpr std::size_t kChecksumDigits = 8;

/// CRC-32 as gzip has it.
[[nodiscard]] std::uint32_t trace_checksum(std::string_view text);

/// One line each, with checksum and end of line, appended to `text`.
void append_header_line(const TraceHeader& header, std::string& text);
void append_record_line(const TraceRecord& record, std::string& text);
void append_trailer_line(const TraceTrailer& trailer, std::string& text);

}  // namespace flex
